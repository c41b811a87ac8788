"""Series of pictures: their names, their order, and that no more than one of them is held at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from g2s_cli.commands import frames
from g2s_cli.commands.frames import write_frames
from g2s_cli.errors import UsageError
from g2s_cli.progress import SilentProgress


def greys(count: int, size: int = 16) -> Iterator[Tensor]:
    """Pictures that say which they are."""
    return (torch.full((3, size, size), -1 + (index % 256) / 127.5) for index in range(count))


def level(path: str) -> int:
    with Image.open(path) as picture:
        return picture.getpixel((0, 0))[0]


def test_a_thousand_and_one_pictures_are_named_in_their_order(tmp_path: Path) -> None:
    written = write_frames(greys(1001), None, 1001, tmp_path, "rotate", SilentProgress())
    assert [Path(file).name for file in written.frames] == [f"{index:04d}.png" for index in range(1001)]
    assert [level(file) for file in written.frames] == [index % 256 for index in range(1001)]
    assert sorted(written.frames) == written.frames
    assert written.in_place == []
    assert written.files == [*written.frames, str(tmp_path / "rotate" / "rotate.gif")]


def test_files_of_others_stay(tmp_path: Path) -> None:
    write_frames(greys(5), None, 5, tmp_path, "rotate", SilentProgress())
    folder = tmp_path / "rotate"
    (folder / "best").mkdir()
    for mine in ("mine.png", "000-edited.png", "best/001.png"):
        (folder / mine).write_text("mine")
    write_frames(greys(1), None, 1, tmp_path, "rotate", SilentProgress())
    left = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    assert left == ["000-edited.png", "000.png", "best/001.png", "mine.png"]


def test_a_file_in_the_way_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "rotate").write_text("mine")
    with pytest.raises(UsageError, match=r"rotate is a file\. Move it away"):
        write_frames(greys(1), None, 1, tmp_path, "rotate", SilentProgress())
    assert (tmp_path / "rotate").read_text() == "mine"


def test_whole_photos_follow_the_cut_out_pictures(tmp_path: Path) -> None:
    photos = (np.full((20, 30, 3), index, dtype=np.uint8) for index in range(2))
    written = write_frames(greys(2), photos, 2, tmp_path, "relight", SilentProgress())
    names = [Path(file).name for file in written.files]
    assert names == ["000.png", "001.png", "relight.gif", "in_place_000.png", "in_place_001.png", "in_place.gif"]
    assert [level(file) for file in written.in_place] == [0, 1]
    assert sorted(names) == sorted(path.name for path in (tmp_path / "relight").iterdir())


def test_a_picture_is_written_before_the_next_is_made(tmp_path: Path) -> None:
    def watched() -> Iterator[Tensor]:
        for index, image in enumerate(greys(5)):
            assert len(list(tmp_path.glob(".rotate-*/*.png"))) == index
            yield image

    assert len(write_frames(watched(), None, 5, tmp_path, "rotate", SilentProgress()).frames) == 5


def test_the_more_pictures_the_smaller_their_gif(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "MOST_GIF_PIXELS", 6 * 8**2)
    for count, side_error in ((1, None), (6, 8), (2, 13)):
        write_frames(greys(count), None, count, tmp_path, "rotate", SilentProgress())
        assert (tmp_path / "rotate" / "rotate.gif").exists() == (side_error is not None)
        if side_error:
            with Image.open(tmp_path / "rotate" / "rotate.gif") as gif:
                assert (gif.size, gif.n_frames) == ((side_error, side_error), 2 * count - 2)


def test_progress_is_told(tmp_path: Path) -> None:
    told: list[tuple[object, ...]] = []

    class Listener(SilentProgress):
        def begin(self, step: str, total: int) -> None:
            told.append((step, total))

        def advance(self, done: int, loss: float) -> None:
            told.append((done, loss))

    write_frames(greys(2), None, 2, tmp_path, "rotate", Listener())
    assert told == [("rotate", 2), (1, 0.0), (2, 0.0)]
