"""Choosing the crop; detections are made up here."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import astuple
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from g2s_cli.errors import ImageError, UsageError
from g2s_cli.geometry.placement import FaceTemplate, Placement
from g2s_cli.photo import align as align_module
from g2s_cli.photo.align import MAX_PREPARED_PX, Alignment, CropOptions, align
from g2s_cli.photo.decode import Picture
from g2s_cli.photo.detect import Face

TEMPLATE = FaceTemplate(((0.35, 0.42), (0.65, 0.42), (0.5, 0.6), (0.38, 0.75), (0.62, 0.75)))
TILTED = Placement(300.0, 210.0, 160.0, math.radians(12))
Detections = Callable[..., None]


@pytest.fixture
def detections(monkeypatch: pytest.MonkeyPatch) -> Detections:
    """Sets the detected faces by the crops that they ask for."""

    def set_detections(*crops: Placement, confidence: float = 0.999) -> None:
        faces = [Face(crop.to_photo(np.array(TEMPLATE.points)), crop.side / 2, confidence) for crop in crops]
        monkeypatch.setattr(align_module, "detect_faces", lambda _: faces)

    return set_detections


def aligned(
    width: int, height: int, options: CropOptions | None = None, template: FaceTemplate | None = TEMPLATE
) -> Alignment:
    picture = Picture(Image.new("RGB", (width, height)), None, (width, height))
    return align(Path("photo.jpg"), picture, template, options or CropOptions())


def is_same(placement: Placement, expected: Placement) -> bool:
    return np.allclose(astuple(placement), astuple(expected))


def test_the_template_is_fitted_to_the_face(detections: Detections) -> None:
    detections(TILTED)
    alignment = aligned(640, 480)
    assert (alignment.method, alignment.face) == ("aligned", 1)
    assert is_same(alignment.placement, TILTED)


def test_the_face_option_chooses_among_several(detections: Detections) -> None:
    other = Placement(100.0, 90.0, 80.0)
    detections(TILTED, other)
    assert is_same(aligned(640, 480).placement, TILTED)
    assert is_same(aligned(640, 480, CropOptions(face=2)).placement, other)
    with pytest.raises(UsageError, match="2 faces; there is no --face 3"):
        aligned(640, 480, CropOptions(face=3))


@pytest.mark.parametrize(
    "size", [(640, 480), (MAX_PREPARED_PX + 1, MAX_PREPARED_PX + 1), (60, 64), (128, 128), (16, 16)]
)
def test_a_photo_without_a_face_is_refused(detections: Detections, size: tuple[int, int]) -> None:
    detections()
    with pytest.raises(ImageError, match="no face") as refusal:
        aligned(*size)
    assert "--crop" in refusal.value.remedy
    assert "--no-align" in refusal.value.remedy


@pytest.mark.parametrize("side", [64, 128, MAX_PREPARED_PX])
@pytest.mark.parametrize("face", [(0.5, 0.5, 1.0), (0.65, 0.35, 1.2, math.radians(10))])  # last: a head turned far
def test_a_small_square_with_its_face_near_the_template_is_kept(
    detections: Detections, side: int, face: tuple[float, ...]
) -> None:
    detections(Placement(*(side * value for value in face[:3]), *face[3:]))
    alignment = aligned(side, side)
    assert (alignment.method, alignment.placement) == ("as it is", Placement.from_box(0, 0, side))


@pytest.mark.parametrize("face", [(30.0, 64.0, 100.0), (64.0, 64.0, 60.0), (64.0, 64.0, 128.0, math.radians(25))])
def test_a_small_square_with_its_face_elsewhere_is_aligned(detections: Detections, face: tuple[float, ...]) -> None:
    detections(Placement(*face))
    alignment = aligned(128, 128)
    assert alignment.method == "aligned"
    assert is_same(alignment.placement, Placement(*face))


def test_an_uncertain_face_does_not_override_an_aligned_crop(detections: Detections) -> None:
    detections(Placement(64.0, 64.0, 60.0), confidence=0.9)
    alignment = aligned(128, 128)
    assert (alignment.method, alignment.uncertain) == ("as it is", True)
    assert not aligned(128, 128, CropOptions(face=1)).uncertain
    assert aligned(640, 480).method == "aligned"


def test_the_face_option_aligns_even_an_aligned_crop(detections: Detections) -> None:
    face = Placement(66.0, 62.0, 120.0)
    detections(face)
    assert is_same(aligned(128, 128, CropOptions(face=1)).placement, face)


def test_without_alignment_or_template_no_face_is_detected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(align_module, "detect_faces", lambda _: pytest.fail("detected"))
    centre = Alignment(Placement.from_box(10, 0, 40), "middle")
    assert aligned(60, 40, CropOptions(align=False)) == centre
    assert aligned(60, 40, template=None) == centre
    with pytest.raises(UsageError, match="--face is for categories of faces"):
        aligned(60, 40, CropOptions(face=1), template=None)


@pytest.mark.parametrize(
    ("crop", "square"),
    [
        ((10.0, 20.0, 30.0, 30.0), (10, 20, 30)),
        ((10.0, 20.0, 30.0, 50.0), (0, 20, 50)),
        ((-5.0, 0.0, 20.5, 10.0), (-5, -5.25, 20.5)),
        ((-50.0, -50.0, 200.0, 150.0), (-50, -75, 200)),  # the largest
    ],
)
def test_the_crop_is_the_square_around_the_users_box(
    crop: tuple[float, ...], square: tuple[float, float, float]
) -> None:
    assert aligned(100, 80, CropOptions(crop=crop)) == Alignment(Placement.from_box(*square), "crop")


def test_a_box_outside_or_far_larger_than_the_photo_is_refused() -> None:
    with pytest.raises(UsageError, match=r"--crop 90,0,30,30 lies outside photo\.jpg, 100x80 pixels"):
        aligned(100, 80, CropOptions(crop=(90.0, 0.0, 30.0, 30.0)))
    with pytest.raises(UsageError, match=r"is far larger than photo\.jpg, 100x80 pixels") as refusal:
        aligned(100, 80, CropOptions(crop=(-20_000.0, -20_000.0, 40_100.0, 40_080.0)))
    assert "200 at most" in refusal.value.remedy


BOX = (0.0, 0.0, 9.0, 9.0)


@pytest.mark.parametrize(
    "options", [{"align": False, "face": 1}, {"align": False, "crop": BOX}, {"face": 2, "crop": BOX}]
)
def test_options_that_exclude_each_other_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="exclude each other"):
        CropOptions(**options).check()
