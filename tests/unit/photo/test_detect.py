"""The detector on a portrait (NASA's of Eileen Collins, public domain) and on what is no face."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from g2s_cli.errors import WeightsError
from g2s_cli.geometry.placement import Placement
from g2s_cli.photo import detect as module
from g2s_cli.photo.crop import cut
from g2s_cli.photo.detect import find_faces
from g2s_cli.weights.catalog import load_category

DATA = Path(__file__).parents[2] / "data"
# Read off the picture by eye: eyes, tip of the nose, corners of the mouth.
BY_EYE = ((123, 101), (167, 103), (145, 128), (121, 140), (165, 141))
CORNERS = np.array(((0.0, 0), (1, 0), (0, 1), (1, 1)))


@pytest.fixture(scope="module")
def portrait() -> Image.Image:
    with Image.open(DATA / "portrait.jpg") as picture:
        return picture.convert("RGB")


def test_the_points_are_where_people_see_them(portrait: Image.Image) -> None:
    [face] = find_faces(portrait)
    assert np.linalg.norm(face.points - BY_EYE, axis=1).max() < 4
    assert 80 < face.size < 130
    assert face.sure > 0.95


def test_a_render_has_a_face_too() -> None:
    with Image.open(DATA / "face.png") as picture:
        [face] = find_faces(picture.convert("RGB").resize((64, 64)))
    assert 30 < face.size < 64


def test_the_largest_comes_first(portrait: Image.Image) -> None:
    small = portrait.resize((180, 200))
    both = Image.new("RGB", (580, 400), "grey")
    both.paste(small, (10, 100))
    both.paste(portrait, (200, 0))
    first, second = find_faces(both)
    assert first.size > 1.5 * second.size
    assert first.points[:, 0].min() > 200 > second.points[:, 0].max()


@pytest.mark.parametrize("category", ["synface", "celeba"])
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
    ],
)
def test_however_the_photo_is_taken_the_crop_is_the_same(
    portrait: Image.Image, category: str, turn_deg: float, scale: float, x: float, y: float
) -> None:
    template = load_category(category).align
    upright = template.align(find_faces(portrait)[0].points).to_photo(CORNERS)
    # The photo that another camera would have taken: tilted, from nearer or farther, pointed elsewhere.
    taken = Placement(180.0 + x, 180.0 + y, 480.0, math.radians(turn_deg))
    size = round(480 * scale)
    other = find_faces(cut(portrait, taken, size))[0]
    corners = taken.to_photo((template.align(other.points).to_photo(CORNERS) + 0.5) / size)
    side_px = np.linalg.norm(upright[1] - upright[0])
    assert np.linalg.norm(corners - upright, axis=1).max() / side_px * 128 < 2


def no_face(config: str) -> Image.Image:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:240, :320]
    if config == "landscape":
        hills = 120 + 25 * np.sin(x / 40) + 10 * np.sin(x / 11 + 2)
        sky, grass = np.array((150, 190, 240)), np.array((60, 120, 40))
        shades = np.where((y > hills)[..., None], grass, sky) + rng.normal(size=(240, 320, 1)) * 12
        return Image.fromarray(shades.clip(0, 255).astype(np.uint8))
    if config == "noise":
        return Image.fromarray(rng.integers(0, 256, (240, 320, 3), dtype=np.uint8))
    return Image.new("RGB", (17, 900), "white")


@pytest.mark.parametrize("config", ["landscape", "noise", "strip"])
def test_what_is_no_face(config: str) -> None:
    assert find_faces(no_face(config)) == []


@pytest.fixture
def forgotten() -> Iterator[None]:
    """The networks as not yet read."""
    module._networks.cache_clear()
    yield
    module._networks.cache_clear()


def test_weights_that_are_not_there(portrait: Image.Image, monkeypatch: pytest.MonkeyPatch, forgotten: None) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(WeightsError, match="pip install"):
        find_faces(portrait)


def test_weights_that_are_damaged(
    portrait: Image.Image, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, forgotten: None
) -> None:
    package = tmp_path / "mtcnn"
    (package / "assets" / "weights").mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "assets" / "weights" / "pnet.lz4").write_bytes(b"not numbers")
    spec = importlib.util.spec_from_file_location("mtcnn", package / "__init__.py")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: spec)
    with pytest.raises(WeightsError, match="damaged"):
        find_faces(portrait)
