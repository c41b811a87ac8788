"""Atomic writes and hashes."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import stat
from pathlib import Path
from typing import Any

import pytest

from g2s_cli.atomic_folder import replace_folder
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


@pytest.mark.parametrize("call", ["unlink", "rmtree"])
def test_a_signal_in_a_clean_up_leaves_nothing(call: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The first signal comes while a file that could not be written is deleted; later ones do not interrupt."""
    place: Any = Path if call == "unlink" else shutil
    delete, calls = getattr(place, call), []

    def interrupted(*arguments: object, **options: object) -> None:
        calls.append(1)
        if len(calls) == 1:
            raise KeyboardInterrupt
        delete(*arguments, **options)

    monkeypatch.setattr(place, call, interrupted)
    block = atomic_write(tmp_path / "a.txt") if call == "unlink" else replace_folder(tmp_path / "a")
    with pytest.raises(KeyboardInterrupt), block:
        raise OSError
    assert list(tmp_path.iterdir()) == []
