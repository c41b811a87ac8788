"""The detector on a portrait (NASA's of Eileen Collins, public domain) and on images without a face."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from g2s_cli.geometry.placement import Placement
from g2s_cli.photo.crop import crop_photo
from g2s_cli.photo.detect import detect_faces
from g2s_cli.weights.categories import load_category

DATA = Path(__file__).parents[2] / "data"
LANDMARKS = ((123, 101), (167, 103), (145, 128), (121, 140), (165, 141))  # read off the portrait by eye
CORNERS = np.array(((0.0, 0), (1, 0), (0, 1), (1, 1)))


@pytest.fixture(scope="module")
def portrait() -> Image.Image:
    with Image.open(DATA / "portrait.jpg") as image:
        return image.convert("RGB")


def test_landmarks_lie_where_people_see_them(portrait: Image.Image) -> None:
    [face] = detect_faces(portrait)
    assert np.linalg.norm(face.landmarks - LANDMARKS, axis=1).max() < 4
    assert 80 < face.size < 130
    assert face.confidence > 0.95


def test_a_rendered_face_is_detected() -> None:
    with Image.open(DATA / "face.png") as image:
        [face] = detect_faces(image.convert("RGB").resize((64, 64)))
    assert 30 < face.size < 64


def test_the_largest_face_comes_first(portrait: Image.Image) -> None:
    both = Image.new("RGB", (580, 400), "grey")
    both.paste(portrait.resize((180, 200)), (10, 100))
    both.paste(portrait, (200, 0))
    first, second = detect_faces(both)
    assert first.size > 1.5 * second.size
    assert first.landmarks[:, 0].min() > 200 > second.landmarks[:, 0].max()


@pytest.mark.parametrize(
    ("turn_deg", "scale", "x", "y"),
    [
        (25, 1, 0, 0),
        (-25, 1, 0, 0),
        (0, 0.3, 0, 0),
        (0, 3, 0, 0),
        (0, 1, 90, -40),
        (-25, 0.5, -60, 30),
        (25, 2, 60, -30),
        (12, 0.3, 40, 40),
        (90, 1, 0, 0),
        (180, 1, 0, 0),
        (-135, 1, 0, 0),
    ],
)
def test_the_aligned_crop_is_equivariant(
    portrait: Image.Image, turn_deg: float, scale: float, x: float, y: float
) -> None:
    # The photo of another camera: tilted, from another distance, pointed elsewhere.
    view = Placement(180.0 + x, 180.0 + y, 480.0, math.radians(turn_deg))
    size = round(480 * scale)
    face = detect_faces(crop_photo(portrait, view, size))[0]
    landmarks = detect_faces(portrait)[0].landmarks
    for category in ("synface", "celeba"):
        template = load_category(category).face_template
        expected = template.align(landmarks).to_photo(CORNERS)
        corners = view.to_photo((template.align(face.landmarks).to_photo(CORNERS) + 0.5) / size)
        side_px = np.linalg.norm(expected[1] - expected[0])
        assert np.linalg.norm(corners - expected, axis=1).max() / side_px * 128 < 2, category


def test_a_face_that_fills_the_picture_is_detected(portrait: Image.Image) -> None:
    crop = load_category("synface").face_template.align(detect_faces(portrait)[0].landmarks)
    [face] = detect_faces(crop_photo(portrait, crop, 300))
    again = load_category("synface").face_template.align(face.landmarks)
    assert (again.x, again.y, again.side) == pytest.approx((150, 150, 300), abs=15)


def faceless(name: str) -> Image.Image:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:240, :320]
    if name == "landscape":
        hills = 120 + 25 * np.sin(x / 40) + 10 * np.sin(x / 11 + 2)
        sky, grass = np.array((150, 190, 240)), np.array((60, 120, 40))
        shades = np.where((y > hills)[..., None], grass, sky) + rng.normal(size=(240, 320, 1)) * 12
        return Image.fromarray(shades.clip(0, 255).astype(np.uint8))
    if name == "noise":
        return Image.fromarray(rng.integers(0, 256, (240, 320, 3), dtype=np.uint8))
    return Image.new("RGB", (17, 900), "white")


@pytest.mark.parametrize("name", ["landscape", "noise", "strip"])
def test_no_face_is_detected_where_there_is_none(name: str) -> None:
    assert detect_faces(faceless(name)) == []
