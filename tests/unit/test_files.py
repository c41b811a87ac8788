"""Atomic writes and hashes."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from g2s_cli.errors import G2SError, ImageError
from g2s_cli.files import atomic_write, sha256_of, sha256_of_input


def test_a_file_appears_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "down.txt"
    with atomic_write(path) as temporary:
        temporary.write_text("complete")
        assert not path.exists()
    assert path.read_text() == "complete"
    assert list(path.parent.iterdir()) == [path]


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("before")
    with pytest.raises(KeyboardInterrupt), atomic_write(path) as temporary:
        temporary.write_text("ha")
        raise KeyboardInterrupt
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(os.name == "nt", reason="modes are POSIX's")
def test_permissions_are_those_of_the_umask(tmp_path: Path) -> None:
    (usual := tmp_path / "usual.txt").touch()
    with atomic_write(path := tmp_path / "a.txt") as temporary:
        temporary.chmod(0o600)
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(usual.stat().st_mode)


@pytest.mark.parametrize("code", [errno.EBUSY, errno.EXDEV])
def test_a_file_that_cannot_be_renamed_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """Over a mounted file, and across devices; on file systems without permissions."""

    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(Path, "replace", refuse)
    monkeypatch.setattr(Path, "chmod", refuse)
    (path := tmp_path / "a.txt").write_text("before")
    with atomic_write(path) as temporary:
        temporary.write_text("after")
    assert (path.read_text(), list(tmp_path.iterdir())) == ("after", [path])
    monkeypatch.setattr("g2s_cli.files.shutil.copyfile", refuse)
    for name in ("a.txt", "b.txt"):
        with pytest.raises(OSError, match=os.strerror(code)), atomic_write(tmp_path / name) as temporary:
            temporary.write_text("lost")
    assert (path.read_text(), list(tmp_path.iterdir())) == ("after", [path])


def test_temporary_files_of_killed_processes_are_deleted_after_an_hour(tmp_path: Path) -> None:
    old, new, own = (tmp_path / name for name in (f".{16 * 'a'}.part", f".{16 * 'b'}.part", ".notes.part"))
    for path in (old, new, own):
        path.touch()
    for path in (old, own):
        os.utime(path, (0, 0))
    with atomic_write(tmp_path / "a.txt") as temporary:
        temporary.write_text("new")
    assert sorted(tmp_path.iterdir()) == sorted([new, own, tmp_path / "a.txt"])


def test_a_write_that_fails_names_the_file_and_the_remedy(tmp_path: Path) -> None:
    (blocked := tmp_path / "file").touch()
    with pytest.raises(G2SError, match="cannot be written") as caught, atomic_write(blocked / "a.txt", "Free it."):
        pytest.fail("there is nowhere to write")
    assert caught.value.remedy == "Free it."
    with pytest.raises(OSError, match="file"), atomic_write(blocked / "a.txt"):
        pytest.fail("there is nowhere to write")


def test_hashes_are_sha256(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"some bytes")
    assert sha256_of(path) == sha256_of_input(path) == hashlib.sha256(b"some bytes").hexdigest()
    with pytest.raises(ImageError, match="cannot be read"):
        sha256_of_input(tmp_path / "none")


INTERRUPTED_BLOCK = """
import atexit, shutil, sys
from pathlib import Path
from g2s_cli.{module} import {block}

def interrupt(*_, **__):
    setattr({place}, "{call}", delete)
    raise KeyboardInterrupt

block = {block}(Path(sys.argv[1], "new"))
block.__enter__()
if {in_the_clean_up}:
    delete, {place}.{call} = {place}.{call}, interrupt
    try:
        block.__exit__(OSError, OSError(), None)
    except KeyboardInterrupt:
        print("interrupted")
print(len(list(Path(sys.argv[1]).iterdir())))
atexit._run_exitfuncs()
print(len(list(Path(sys.argv[1]).iterdir())), flush=True)
"""


@pytest.mark.parametrize(
    "names",
    [
        {"module": "files", "block": "atomic_write", "place": "Path", "call": "unlink"},
        {"module": "atomic_folder", "block": "scratch_folder", "place": "shutil", "call": "rmtree"},
    ],
    ids=["file", "folder"],
)
@pytest.mark.parametrize("in_the_clean_up", [True, False])
def test_the_end_of_the_process_deletes_what_a_signal_leaves(
    names: dict[str, str], in_the_clean_up: bool, tmp_path: Path
) -> None:
    """The signal comes in the clean-up, or in contextlib, so that the block does not end."""
    code = INTERRUPTED_BLOCK.format(**names, in_the_clean_up=in_the_clean_up)
    shown = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True).stdout
    assert shown.split() == ["interrupted"] * in_the_clean_up + ["1", "0"]
