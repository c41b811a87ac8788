"""Squares in photos: pixel centres, the best similarity, and heads that are turned."""

from __future__ import annotations

import math

import numpy as np
import pytest

from g2s_cli.geometry.placement import FaceTemplate, Placement

TILTED = Placement(40.0, 25.0, 30.0, math.radians(20))
HEAD = FaceTemplate(
    ((0.33, 0.32, -0.34), (0.67, 0.32, -0.34), (0.5, 0.51, -0.54), (0.37, 0.69, -0.39), (0.63, 0.69, -0.39))
)


def test_the_whole_of_a_photo_has_its_pixels_where_they_were() -> None:
    whole = Placement.from_box(0, 0, 8)
    assert np.allclose(whole.matrix(8), ((1, 0, 0), (0, 1, 0)))
    # At half the size, the first pixel's centre lies between the photo's first two.
    assert np.allclose(whole.matrix(4), ((2, 0, 0.5), (0, 2, 0.5)))


def test_a_turn_is_clockwise_as_the_photo_is_seen() -> None:
    # The middle of the crop's upper edge leans to the right.
    x, y = TILTED.to_photo(np.array((0.5, 0.0)))
    assert (x, y) == pytest.approx((40 + 15 * math.sin(math.radians(20)), 25 - 15 * math.cos(math.radians(20))))


def test_directions_turn_with_the_crop() -> None:
    # What points up in the crop leans to the right in the photo.
    lean = math.radians(20)
    assert TILTED.direction_to_photo(0.0, 1.0) == pytest.approx((math.sin(lean), math.cos(lean)))
    assert TILTED.direction_to_crop(*TILTED.direction_to_photo(0.3, -0.7)) == pytest.approx((0.3, -0.7))


def test_there_and_back() -> None:
    shares = np.random.default_rng(0).random((3, 7, 2))
    assert np.allclose(TILTED.to_crop(TILTED.to_photo(shares)), shares)


def test_the_matrix_carries_pixel_centres() -> None:
    pixel = np.array((3.0, 17.0))
    expected = TILTED.to_photo((pixel + 0.5) / 20)
    assert np.allclose(TILTED.matrix(20) @ (*pixel, 1), expected)


def test_a_similarity_is_found_again() -> None:
    shares = np.random.default_rng(1).random((5, 2))
    found = Placement.fit(shares, TILTED.to_photo(shares))
    assert (found.x, found.y, found.side, found.turn_rad) == pytest.approx((40, 25, 30, math.radians(20)))


def test_no_similarity_fits_better() -> None:
    rng = np.random.default_rng(2)
    shares = rng.random((5, 2))
    points = TILTED.to_photo(shares) + rng.normal(size=(5, 2))
    best = Placement.fit(shares, points)

    def error(placement: Placement) -> float:
        return np.square(placement.to_photo(shares) - points).sum()

    for step in (0.1, -0.1):
        assert error(best) < error(Placement(best.x + step, best.y, best.side, best.turn_rad))
        assert error(best) < error(Placement(best.x, best.y + step, best.side, best.turn_rad))
        assert error(best) < error(Placement(best.x, best.y, best.side + step, best.turn_rad))
        assert error(best) < error(Placement(best.x, best.y, best.side, best.turn_rad + step / 30))


def test_a_part_of_a_square() -> None:
    part = TILTED.subsquare(0.25, 0.5)
    assert np.allclose(part.to_photo(np.zeros(2)), TILTED.to_photo(np.full(2, 0.25)))
    assert np.allclose(part.to_photo(np.ones(2)), TILTED.to_photo(np.full(2, 0.75)))


def test_a_photo_at_another_size_has_the_square_at_the_same_place() -> None:
    # Pixel (3, 5) of a photo covers pixels 6, 7 and 10, 11 of twice its size.
    x, y = TILTED.scale(2.0).to_photo(TILTED.to_crop(np.array((3.0, 5.0))))
    assert (x, y) == pytest.approx((6.5, 10.5))


def test_a_flat_template_is_a_similarity() -> None:
    points = ((0.3, 0.4), (0.7, 0.4), (0.5, 0.6), (0.35, 0.75), (0.65, 0.75))
    found = FaceTemplate(points).align(TILTED.to_photo(np.array(points)))
    assert (found.x, found.y, found.side, found.turn_rad) == pytest.approx((40, 25, 30, math.radians(20)))


@pytest.mark.parametrize("yaw_deg", [-40.0, -12.5, 0.0, 25.0])
def test_a_turned_head_stays_where_its_middle_is(yaw_deg: float) -> None:
    yaw = math.radians(yaw_deg)
    x, y, z = (np.array(HEAD.points) - (0.5, 0.5, 0)).T
    seen = np.stack((x * math.cos(yaw) + z * math.sin(yaw), y), axis=1) + 0.5
    assert abs(seen[:, 0].mean() - 0.5) >= 0.2 * abs(math.sin(yaw))  # the face itself is far from the middle
    found = HEAD.align(TILTED.to_photo(seen))
    assert (found.x, found.y, found.side, found.turn_rad) == pytest.approx((40, 25, 30, math.radians(20)), abs=1e-6)
