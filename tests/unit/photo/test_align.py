"""The rules by which a crop's place is chosen; faces are made up here."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from g2s_cli.errors import ImageError, UsageError
from g2s_cli.geometry.placement import FaceTemplate, Placement
from g2s_cli.photo import align as placing
from g2s_cli.photo.align import PREPARED_PX, CropOptions, Placed, place
from g2s_cli.photo.detect import Face

FLAT = FaceTemplate(((0.35, 0.42), (0.65, 0.42), (0.5, 0.6), (0.38, 0.75), (0.62, 0.75)))
PATH = Path("photo.jpg")
Show = Callable[..., None]


@pytest.fixture
def show(monkeypatch: pytest.MonkeyPatch) -> Show:
    """Let the photo have faces that fill some squares."""

    def show(*squares: Placement, sure: float = 0.999) -> None:
        found = [Face(square.to_photo(np.array(FLAT.points)), square.side / 2, sure) for square in squares]
        monkeypatch.setattr(placing, "find_faces", lambda _: found)

    return show


def placed(
    width: int, height: int, crop_options: CropOptions | None = None, template: FaceTemplate | None = FLAT
) -> Placed:
    return place(PATH, Image.new("RGB", (width, height)), template, crop_options or CropOptions())


def same(found: Placement, expected: Placement) -> bool:
    return np.allclose(
        (found.x, found.y, found.side, found.turn_rad), (expected.x, expected.y, expected.side, expected.turn_rad)
    )


TILTED = Placement(300.0, 210.0, 160.0, math.radians(12))


def test_a_face_says_where_the_crop_lies(show: Show) -> None:
    show(TILTED)
    answer = placed(640, 480)
    assert (answer.how, answer.face) == ("aligned", 1)
    assert same(answer.placement, TILTED)


def test_of_several_faces_one_is_asked_for(show: Show) -> None:
    other = Placement(100.0, 90.0, 80.0)
    show(TILTED, other)
    assert same(placed(640, 480).placement, TILTED)
    assert same(placed(640, 480, CropOptions(face=2)).placement, other)
    with pytest.raises(UsageError, match="2 faces; there is no --face 3"):
        placed(640, 480, CropOptions(face=3))


def test_without_a_face_there_is_a_remedy(show: Show) -> None:
    show()
    for width, height in ((640, 480), (PREPARED_PX + 1, PREPARED_PX + 1), (60, 64)):
        with pytest.raises(ImageError, match="no face") as refusal:
            placed(width, height)
        assert "--crop" in refusal.value.remedy
        assert "--no-align" in refusal.value.remedy


@pytest.mark.parametrize("side", [64, 128, PREPARED_PX])
@pytest.mark.parametrize(
    "face",
    [
        None,
        Placement(0.5, 0.5, 1.0),
        Placement(0.65, 0.35, 1.2, math.radians(10)),  # a head turned far, as in the category's own renders
    ],
)
def test_a_small_square_with_its_face_in_place_is_left_alone(show: Show, side: int, face: Placement | None) -> None:
    show(*([Placement(face.x * side, face.y * side, face.side * side, face.turn_rad)] if face else []))
    answer = placed(side, side)
    assert answer.how == "as it is"
    assert answer.placement == Placement.from_box(0, 0, side)


@pytest.mark.parametrize(
    "face",
    [
        Placement(30.0, 64.0, 100.0),
        Placement(64.0, 64.0, 60.0),
        Placement(64.0, 64.0, 128.0, math.radians(25)),
    ],
)
def test_a_small_square_with_its_face_elsewhere_is_aligned(show: Show, face: Placement) -> None:
    show(face)
    answer = placed(128, 128)
    assert answer.how == "aligned"
    assert same(answer.placement, face)


def test_a_face_that_may_be_none_does_not_overrule_a_prepared_crop(show: Show) -> None:
    show(Placement(64.0, 64.0, 60.0), sure=0.95)
    answer = placed(128, 128)
    assert (answer.how, answer.doubtful) == ("as it is", True)
    assert not placed(128, 128, CropOptions(face=1)).doubtful
    assert placed(640, 480).how == "aligned"


def test_asking_for_a_face_aligns_even_a_prepared_crop(show: Show) -> None:
    face = Placement(66.0, 62.0, 120.0)
    show(face)
    assert same(placed(128, 128, CropOptions(face=1)).placement, face)


def test_no_face_is_looked_for_where_none_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placing, "find_faces", lambda _: pytest.fail("looked"))
    middle = Placement.from_box(10, 0, 40)
    assert placed(60, 40, CropOptions(align=False)) == Placed(middle, "middle")
    assert placed(60, 40, template=None) == Placed(middle, "middle")
    with pytest.raises(UsageError, match="--face is for categories of faces"):
        placed(60, 40, CropOptions(face=1), template=None)


@pytest.mark.parametrize(
    ("crop", "expected"),
    [
        ((10.0, 20.0, 30.0, 30.0), Placement.from_box(10, 20, 30)),
        ((10.0, 20.0, 30.0, 50.0), Placement.from_box(0, 20, 50)),  # the square that holds all of it
        ((-5.0, 0.0, 20.5, 10.0), Placement.from_box(-5, -5.25, 20.5)),
    ],
)
def test_a_crop_of_the_users_own(crop: tuple[float, float, float, float], expected: Placement) -> None:
    assert placed(100, 80, CropOptions(crop=crop)) == Placed(expected, "crop")


def test_a_crop_that_would_be_mostly_made_up() -> None:
    most = (-50.0, -50.0, 200.0, 150.0)
    assert same(placed(100, 80, CropOptions(crop=most)).placement, Placement.from_box(-50, -75, 200))
    with pytest.raises(UsageError, match=r"is far larger than photo\.jpg, 100x80 pixels") as refusal:
        placed(100, 80, CropOptions(crop=(-20_000.0, -20_000.0, 40_100.0, 40_080.0)))
    assert "200 at most" in refusal.value.remedy


def test_a_crop_beside_the_photo() -> None:
    with pytest.raises(UsageError, match=r"--crop 90,0,30,30 lies outside photo\.jpg, 100x80 pixels"):
        placed(100, 80, CropOptions(crop=(90.0, 0.0, 30.0, 30.0)))


@pytest.mark.parametrize(
    "crop_options",
    [
        CropOptions(align=False, face=1),
        CropOptions(align=False, crop=(0.0, 0.0, 9.0, 9.0)),
        CropOptions(face=2, crop=(0.0, 0.0, 9.0, 9.0)),
    ],
)
def test_wishes_that_exclude_each_other(crop_options: CropOptions) -> None:
    with pytest.raises(UsageError, match="exclude each other"):
        crop_options.check()
