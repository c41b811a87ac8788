"""Folders that may not be replaced, and atomic replacement."""

from __future__ import annotations

import errno
import itertools
import os
import re
import subprocess
from pathlib import Path

import pytest

from g2s_cli.atomic_folder import SCRATCH, check_file_target, check_target, parent_folders, replace_folder
from g2s_cli.errors import G2SError, UsageError
from g2s_cli.files import move_file

MARK = "state.safetensors"


def contents(folder: Path) -> dict[str, str]:
    """The text of every file in a folder, by its relative path."""
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_unusable_targets_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "holiday").mkdir()
    (tmp_path / "holiday" / "photo.jpg").touch()
    with pytest.raises(UsageError, match="is a file"):
        check_target(tmp_path / "file", MARK, overwrite=True)
    with pytest.raises(UsageError, match=r"cannot be written: Not a directory\. Name another"):
        check_target(tmp_path / "file" / "out", MARK, overwrite=False)
    for overwrite in (False, True):
        with pytest.raises(UsageError, match="is not empty and holds no g2s result") as refusal:
            check_target(tmp_path / "holiday", MARK, overwrite=overwrite)
        assert refusal.value.remedy == "Name another folder with -o."
    (tmp_path / "holiday" / MARK).touch()
    with pytest.raises(UsageError, match="Add --overwrite to replace it"):
        check_target(tmp_path / "holiday", MARK, overwrite=False)
    check_target(tmp_path / "holiday", MARK, overwrite=True)
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(UsageError, match=r"symbolic links|is a link to itself"):
        check_target(tmp_path / "loop" / "out", MARK, overwrite=False)
    with pytest.raises(UsageError, match=r"cannot be written: File name too long\. Use a shorter name\."):
        check_target(tmp_path / ("x" * 256), MARK, overwrite=False)


def test_a_check_leaves_no_trace(tmp_path: Path) -> None:
    check_target(tmp_path / "deep" / "out", MARK, overwrite=False)
    check_file_target(tmp_path / "deep" / "out.png")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS])
def test_what_the_file_system_refuses_is_refused_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(Path, "write_bytes", refuse)
    with pytest.raises(G2SError, match=os.strerror(code)) as caught:
        check_target(tmp_path / "out", MARK, overwrite=False)
    assert ("Free space" in caught.value.remedy) == (code == errno.ENOSPC)
    assert list(tmp_path.iterdir()) == []


def test_what_a_file_system_keeps_in_an_empty_folder_is_not_counted(tmp_path: Path) -> None:
    for name in ("lost+found", ".Trash-1000", "System Volume Information", f"{SCRATCH}01234567"):
        (tmp_path / name).mkdir()
    check_target(tmp_path, MARK, overwrite=False)
    (tmp_path / f"{SCRATCH}01234567" / "old").mkdir()  # its process was killed while it moved files
    (tmp_path / "depth.npy").touch()
    check_target(tmp_path, MARK, overwrite=True)


def test_a_folder_is_known_by_its_other_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another case, or another mount of it: links stand for them here, unresolved."""
    (tmp_path / "Out").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "Out")
    (tmp_path / "Out" / "face.jpg").touch()
    monkeypatch.setattr(Path, "resolve", Path.absolute)
    with pytest.raises(UsageError, match="which would be replaced"):
        check_target(tmp_path / "out", MARK, overwrite=True, inputs=parent_folders([tmp_path / "Out" / "face.jpg"]))


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("name", ["out/mask.png", "out/deep/mask.png", "link.png", "out/link.png", "linked/mask.png"])
def test_a_folder_that_contains_an_input_is_not_replaced(tmp_path: Path, name: str, overwrite: bool) -> None:
    out = tmp_path / "out"
    (out / "deep").mkdir(parents=True)
    for path in (out / MARK, out / "mask.png", out / "deep" / "mask.png", tmp_path / "elsewhere.png"):
        path.touch()
    (tmp_path / "link.png").symlink_to(out / "mask.png")
    (out / "link.png").symlink_to(tmp_path / "elsewhere.png")
    (tmp_path / "linked").symlink_to(out)
    inputs = parent_folders([tmp_path / "elsewhere.png", tmp_path / name])
    with pytest.raises(UsageError, match=rf"{name} lies in {out}, which would be replaced\. Move it out of there"):
        check_target(out, MARK, overwrite=overwrite, inputs=inputs)
    check_target(tmp_path / "out-2", MARK, overwrite=overwrite, inputs=inputs)


@pytest.mark.parametrize("failure", [KeyboardInterrupt, RuntimeError])
def test_a_failed_run_leaves_no_files(tmp_path: Path, failure: type[BaseException]) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "precious").touch()
    for target in (tmp_path / "deep" / "new", kept):
        with pytest.raises(failure), replace_folder(target) as temporary:
            (temporary / "half").touch()
            raise failure
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    assert [path.name for path in kept.iterdir()] == ["precious"]


def test_foreign_files_stay(tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "deep" / "empty").mkdir(parents=True)
    for name in ("a.png", "b.png", "notes.txt", "deep/a.png", "deep/notes.txt"):
        (out / name).write_text("old")
    (out / "link").symlink_to(tmp_path / "gone")
    with replace_folder(out, r"(deep/)?\w\.png") as temporary:
        for name in ("a.png", "notes.txt"):
            (temporary / name).write_text("new")
    found = {path.relative_to(out).as_posix(): path.read_text() for path in out.rglob("*") if path.is_file()}
    assert found == {"a.png": "new", "notes.txt": "new", "deep/notes.txt": "old"}
    assert (out / "link").is_symlink()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("count", range(1, 6))
def test_an_exchange_that_fails_is_undone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: BaseException, count: int
) -> None:
    out = tmp_path / "out"
    (out / "relight").mkdir(parents=True)
    before = {"a.png": "old", "b.png": "old", "relight/a.png": "old", "notes.txt": "mine"}
    for name, text in before.items():
        (out / name).write_text(text)
    calls = itertools.count(1)

    def fail_once(source: Path, target: Path) -> None:
        if next(calls) == count:
            raise failure
        move_file(source, target)

    monkeypatch.setattr("g2s_cli.atomic_folder.move_file", fail_once)
    with pytest.raises((G2SError, KeyboardInterrupt)), replace_folder(out, r"(relight/)?\w\.png") as new:
        for name in ("a.png", "c.png"):
            (new / name).write_text("new")
    assert contents(out) == before
    assert sorted(path.name for path in out.iterdir()) == ["a.png", "b.png", "notes.txt", "relight"]


@pytest.mark.parametrize("code", [errno.EBUSY, errno.EXDEV, errno.EACCES, errno.ENOTSUP])
@pytest.mark.parametrize("existing", [False, True])
def test_a_folder_that_cannot_be_renamed_is_filled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, existing: bool
) -> None:
    """A mount; another device; a parent that cannot be written to; an object store."""
    out = tmp_path / "out"
    if existing:
        out.mkdir()
        (out / "a.png").write_text("old")

    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(Path, "rename", refuse)
    if code in {errno.EXDEV, errno.EBUSY}:
        monkeypatch.setattr(Path, "replace", refuse)
    with replace_folder(out, r"\w\.png", overwrite=existing) as new:
        (new / "deep").mkdir()
        (new / "deep" / "a.png").write_text("new")
    assert contents(tmp_path) == {"out/deep/a.png": "new"}


def test_the_current_folder_is_filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for text in ("first", "second"):
        check_target(Path(), MARK, overwrite=text == "second")
        with replace_folder(Path(), re.escape(MARK)) as new:
            (new / MARK).write_text(text)
        assert contents(Path.cwd()) == {MARK: text}


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root mounts")
@pytest.mark.parametrize("parent", [0o755, 0o555])
def test_a_mount_is_filled(tmp_path: Path, parent: int) -> None:
    (out := tmp_path / "out").mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "none", out], check=False, capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        tmp_path.chmod(parent)
        (out / "lost+found").mkdir()
        for text in ("first", "second"):
            check_target(out, MARK, overwrite=text == "second")
            with replace_folder(out, r"\w+\.png", overwrite=text == "second") as new:
                for name in (MARK, f"{text}.png"):
                    (new / name).write_text(text)
            assert contents(out) == {MARK: text, f"{text}.png": text}
    finally:
        tmp_path.chmod(0o755)
        subprocess.run(["umount", out], check=True)


def test_scratch_folders_of_killed_processes_are_deleted_after_an_hour(tmp_path: Path) -> None:
    scratches = [tmp_path / f"{SCRATCH}0000000{digit}" for digit in range(3)]
    for scratch in scratches:
        (scratch / "new").mkdir(parents=True)
    (scratches[1] / "old").mkdir()
    (scratches[1] / "old" / "precious").touch()
    for scratch in scratches[:2]:
        os.utime(scratch, (0, 0))
    with replace_folder(tmp_path / "out") as new:
        (new / "a").touch()
    assert contents(tmp_path) == {"out/a": "", f"{scratches[1].name}/old/precious": ""}
    assert scratches[2].is_dir()


def test_of_two_concurrent_runs_the_first_wins(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with (
        pytest.raises(UsageError, match=r"out has been written by another run meanwhile\. Add --overwrite"),
        replace_folder(out, overwrite=False) as second,
    ):
        (second / "second").touch()
        with replace_folder(out, overwrite=False) as first:
            (first / "first").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "first"]


def test_a_full_disk_is_reported(tmp_path: Path) -> None:
    with pytest.raises(G2SError, match="No space left on device"), replace_folder(tmp_path / "out"):
        raise OSError(28, "No space left on device")
