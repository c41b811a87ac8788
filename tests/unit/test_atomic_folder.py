"""Folders that may not be replaced, and atomic replacement."""

from __future__ import annotations

from pathlib import Path

import pytest

from g2s_cli.atomic_folder import check_target, parent_folders, replace_folder
from g2s_cli.errors import G2SError, UsageError

MARK = "state.safetensors"


def test_unusable_targets_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "holiday").mkdir()
    (tmp_path / "holiday" / "photo.jpg").touch()
    with pytest.raises(UsageError, match="is a file"):
        check_target(tmp_path / "file", MARK, overwrite=True)
    with pytest.raises(UsageError, match="cannot be written to"):
        check_target(tmp_path / "file" / "out", MARK, overwrite=False)
    for overwrite in (False, True):
        with pytest.raises(UsageError, match="is not empty and holds no g2s result") as refusal:
            check_target(tmp_path / "holiday", MARK, overwrite=overwrite)
        assert refusal.value.remedy == "Name another folder with -o."
    (tmp_path / "holiday" / MARK).touch()
    with pytest.raises(UsageError, match="Add --overwrite to replace it"):
        check_target(tmp_path / "holiday", MARK, overwrite=False)
    check_target(tmp_path / "holiday", MARK, overwrite=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="is the current folder"):
        check_target(Path(), MARK, overwrite=True)


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


def test_foreign_files_move_to_the_new_folder(tmp_path: Path) -> None:
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


def test_foreign_files_that_cannot_be_moved_are_not_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "notes.txt").write_text("old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("g2s_cli.atomic_folder._move_foreign_files", full)
    with pytest.raises(G2SError, match="No space left"), replace_folder(out) as temporary:
        (temporary / "a.png").touch()
    assert [path.read_text() for path in tmp_path.rglob("notes.txt")] == ["old"]


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
