"""Series of pictures: their names, their order, and that one picture at a time is in memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from g2s_cli.commands.frames import Series, eased, write_frames
from g2s_cli.errors import UsageError
from g2s_cli.progress import SilentProgress
from g2s_cli.result import film
from g2s_cli.result.film import FilmOptions


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "rotate"


def greys(count: int, size: int = 16) -> Iterator[Tensor]:
    """Pictures whose grey level is their index."""
    return (torch.full((3, size, size), -1 + (index % 256) / 127.5) for index in range(count))


def series(folder: Path, count: int) -> Series:
    return Series(folder, "rotate", count, FilmOptions(), overwrite=True)


def write_greys(count: int, folder: Path) -> list[str]:
    return write_frames(greys(count), None, series(folder, count), SilentProgress())[0]


def count_modules(paths: list[str]) -> list[int]:
    return [Image.open(path).getpixel((0, 0))[0] for path in paths]


def test_a_thousand_and_one_pictures_are_named_in_their_order(folder: Path) -> None:
    *files, gif = write_greys(1001, folder)
    assert files == [str(folder / f"{index:04d}.png") for index in range(1001)]
    assert gif == str(folder / "rotate.gif")
    assert count_modules(files) == [index % 256 for index in range(1001)]


def test_other_files_of_the_folder_stay(folder: Path) -> None:
    write_greys(5, folder)
    (folder / "best").mkdir()
    for other in ("mine.png", "000-edited.png", "best/001.png"):
        (folder / other).write_text("mine")
    write_greys(1, folder)
    left = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    assert left == ["000-edited.png", "000.png", "best/001.png", "mine.png"]


def test_a_file_in_the_way_is_not_replaced(folder: Path) -> None:
    folder.write_text("mine")
    with pytest.raises(UsageError, match=r"rotate is a file\. Move it away"):
        write_greys(1, folder)
    assert folder.read_text() == "mine"


def test_pasted_photos_are_a_series_of_their_own(folder: Path) -> None:
    photos = (np.full((20, 30, 3), index, dtype=np.uint8) for index in range(2))
    files, pasted = write_frames(greys(2), photos, series(folder, 2), SilentProgress())
    names = [Path(file).name for file in files + pasted]
    assert names == ["000.png", "001.png", "rotate.gif", "in_place_000.png", "in_place_001.png", "in_place.gif"]
    assert count_modules(pasted[:2]) == [0, 1]
    assert sorted(names) == sorted(path.name for path in folder.iterdir())


def test_a_picture_is_written_before_the_next_is_taken(folder: Path) -> None:
    def watched() -> Iterator[Tensor]:
        for index, image in enumerate(greys(5)):
            assert len(list(folder.parent.glob("**/.g2s-*/new/*.png"))) == index
            yield image

    assert len(write_frames(watched(), None, series(folder, 5), SilentProgress())[0]) == 6


@pytest.mark.parametrize(("count", "side"), [(1, None), (6, 8), (2, 13)])
def test_a_gif_of_more_pictures_is_smaller(
    folder: Path, monkeypatch: pytest.MonkeyPatch, count: int, side: int | None
) -> None:
    monkeypatch.setattr(film, "MAX_PIXELS", 6 * 8**2)
    write_greys(count, folder)
    assert (folder / "rotate.gif").exists() == (side is not None)
    if side:
        with Image.open(folder / "rotate.gif") as gif:
            assert (gif.size, gif.n_frames) == ((side, side), 2 * count - 2)


def test_a_shorter_series_removes_the_gif_of_a_longer_one(folder: Path) -> None:
    write_greys(2, folder)
    write_greys(1, folder)
    assert [path.name for path in folder.iterdir()] == ["000.png"]


def test_each_picture_advances_the_progress(folder: Path) -> None:
    calls: list[tuple[object, ...]] = []

    class Listener(SilentProgress):
        def begin(self, name: str, total: int, quantity: str = "loss") -> None:  # noqa: ARG002
            calls.append((name, total))

        def advance(self, done: int, value: float) -> None:
            calls.append((done, value))

    write_frames(greys(2), None, series(folder, 2), Listener())
    assert calls == [("rotate", 2), (1, 0.0), (2, 0.0)]


def test_an_earlier_series_is_refused_before_the_work_starts(folder: Path) -> None:
    write_greys(2, folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    refused = replace(series(folder, 1), overwrite=False)
    with pytest.raises(UsageError, match=r"rotate exists and is not empty\. Add --overwrite to replace it, or name"):
        refused.check(folder.parent / "result")
    with pytest.raises(UsageError, match="written by another run meanwhile"):
        write_frames(greys(1), None, refused, SilentProgress())
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert series(folder, 1).check(folder.parent / "result")


def test_the_folder_of_the_result_is_not_replaced(folder: Path) -> None:
    (folder / "out").mkdir(parents=True)
    (folder / "000.png").touch()
    with pytest.raises(UsageError, match=r"state\.safetensors lies in .*rotate, which would be replaced"):
        series(folder, 1).check(folder / "out")


def test_easing_is_slow_at_both_ends() -> None:
    assert eased(5, ease=False) == [0, 0.25, 0.5, 0.75, 1]
    steps = np.diff(eased(9, ease=True))
    assert eased(9, ease=True)[::4] == pytest.approx([0, 0.5, 1])
    assert (np.diff(steps[:4]) > 0).all()
    assert steps == pytest.approx(steps[::-1])
    assert eased(1, ease=True) == [0]
