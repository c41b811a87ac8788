"""Files are written whole or not at all."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

import pytest

from g2s_cli.errors import G2SError, ImageError
from g2s_cli.files import atomic_replace, atomic_write, sha256_of, sha256_of_input


def test_a_file_is_there_when_all_of_it_is_and_nothing_else_stays(tmp_path: Path) -> None:
    place = tmp_path / "deep" / "down.txt"
    with atomic_replace(place) as temporary:
        temporary.write_text("whole")
        assert not place.exists()
    assert place.read_text() == "whole"
    assert list(place.parent.iterdir()) == [place]


def test_whoever_is_stopped_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    place = tmp_path / "a.txt"
    place.write_text("before")

    def write_half() -> None:
        with atomic_replace(place) as temporary:
            temporary.write_text("ha")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert place.read_text() == "before"
    assert list(tmp_path.iterdir()) == [place]


@pytest.mark.skipif(os.name == "nt", reason="modes are POSIX's")
def test_others_may_read_what_a_strict_writer_wrote(tmp_path: Path) -> None:
    place = tmp_path / "a.txt"
    usual = tmp_path / "usual.txt"
    usual.touch()
    with atomic_replace(place) as temporary:
        temporary.chmod(0o600)
    assert stat.S_IMODE(place.stat().st_mode) == stat.S_IMODE(usual.stat().st_mode)


def test_a_place_that_cannot_be_written_is_named_with_its_remedy(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    with pytest.raises(G2SError, match="cannot be written") as caught, atomic_write(blocked / "a.txt", "Free it."):
        pytest.fail("there is nowhere to write")
    assert caught.value.remedy == "Free it."


def test_hashes_are_sha256(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"some bytes")
    assert sha256_of(path) == sha256_of_input(path) == hashlib.sha256(b"some bytes").hexdigest()
    with pytest.raises(ImageError, match="cannot be read"):
        sha256_of_input(tmp_path / "none")
