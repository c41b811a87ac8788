"""Crops: positions to a fraction of a pixel, and padding beyond the edges."""

from __future__ import annotations

import math

import numpy as np
import pytest
from PIL import Image

from g2s_cli.geometry.placement import Placement
from g2s_cli.photo.crop import crop_photo, resize_square, share_outside


def ramps(width: int = 200, height: int = 160) -> Image.Image:
    """Red is the column, green is the row."""
    y, x = np.mgrid[:height, :width]
    return Image.fromarray(np.stack((x, y, 0 * x), axis=-1).astype(np.uint8))


@pytest.mark.parametrize("turn_deg", [0.0, 15.0, -25.0, 90.0])
@pytest.mark.parametrize(("side", "size"), [(64.0, 64), (64.0, 100), (64.6, 20), (64.0, 16), (90.0, 60)])
def test_points_lie_where_the_placement_maps_them(turn_deg: float, side: float, size: int) -> None:
    y, x = np.mgrid[:160, :200]
    spot = np.exp(-((x - 101.3) ** 2 + (y - 79.6) ** 2) / (2 * 6**2))
    photo = Image.fromarray((255 * spot).round().astype(np.uint8)).convert("RGB")
    placement = Placement(98.3, 81.6, side, math.radians(turn_deg))
    crop = np.asarray(crop_photo(photo, placement, size)).astype(float)[..., 0]
    centre = [(crop * index).sum() / crop.sum() for index in np.indices(crop.shape)[::-1]]
    expected = placement.to_crop(np.array((101.3, 79.6))) * size - 0.5
    # Pillow rotates in 8 bits, which alone moves a centre by up to a tenth of a pixel.
    assert centre == pytest.approx(expected.tolist(), abs=0.1 * size / 64 + 0.03)


def test_a_box_of_whole_pixels_is_copied() -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 60, 3), dtype=np.uint8))
    crop = crop_photo(noise, Placement.from_box(7, 11, 32), 32)
    assert np.array_equal(np.asarray(crop), np.asarray(noise)[11:43, 7:39])


def test_a_crop_much_smaller_than_its_square_does_not_alias() -> None:
    board = np.indices((400, 400)).sum(axis=0) % 2 * 255
    image = Image.fromarray(board.astype(np.uint8)).convert("RGB")
    crop = np.asarray(crop_photo(image, Placement(200.0, 200.0, 250.0, math.radians(10)), 25)).astype(float)
    assert np.abs(crop - 127.5).max() < 12


@pytest.mark.parametrize("turn_deg", [0.0, 10.0])
def test_photos_are_mirrored_beyond_their_edges(turn_deg: float) -> None:
    placement = Placement(10.0, 80.0, 60.0, math.radians(turn_deg))
    crop = np.asarray(crop_photo(ramps(), placement, 60)).astype(float)
    ticks = (np.arange(60) + 0.5) / 60
    columns = placement.to_photo(np.stack(np.meshgrid(ticks, ticks), axis=-1))[..., 0]
    assert columns.min() < -15
    assert np.abs(crop[..., 0] - np.abs(columns)).max() < 1.5


def test_masks_are_black_beyond_their_edges() -> None:
    crop = np.asarray(crop_photo(Image.new("L", (50, 50), 255), Placement.from_box(-30, 0, 60), 60, padding="black"))
    assert (crop[:50, :29] == 0).all()
    assert (crop[:49, 31:] == 255).all()


@pytest.mark.parametrize(("left", "top", "share"), [(0, 0, 0), (-25, 0, 0.5), (25, 25, 0.75)])
def test_the_share_outside_the_photo(left: int, top: int, share: float) -> None:
    assert share_outside(Placement.from_box(left, top, 50), 50, 50) == pytest.approx(share, abs=0.02 * bool(share))


def test_resizing_by_whole_factors_averages_areas() -> None:
    image = ramps(64, 64)
    expected = np.asarray(image).reshape(16, 4, 16, 4, 3).mean(axis=(1, 3))
    assert np.abs(np.asarray(resize_square(image, 16)) - expected).max() <= 1
