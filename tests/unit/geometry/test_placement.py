"""Square crops of photos: pixel centres, the best similarity, and turned heads."""

from __future__ import annotations

import math
from dataclasses import astuple, replace

import numpy as np
import pytest

from g2s_cli.geometry.placement import FaceTemplate, Placement

TILTED = Placement(40.0, 25.0, 30.0, math.radians(20))
HEAD = FaceTemplate(
    ((0.33, 0.32, -0.34), (0.67, 0.32, -0.34), (0.5, 0.51, -0.54), (0.37, 0.69, -0.39), (0.63, 0.69, -0.39))
)


def test_the_whole_photo_keeps_its_pixels() -> None:
    whole = Placement.from_box(0, 0, 8)
    assert np.allclose(whole.matrix(8), ((1, 0, 0), (0, 1, 0)))
    # At half the size, the first pixel's centre lies between the photo's first two.
    assert np.allclose(whole.matrix(4), ((2, 0, 0.5), (0, 2, 0.5)))


def test_a_turn_is_clockwise_in_the_photo() -> None:
    lean = math.radians(20)
    # The middle of the crop's upper edge, and what points up in the crop, lean to the right.
    assert TILTED.to_photo(np.array((0.5, 0.0))) == pytest.approx((40 + 15 * math.sin(lean), 25 - 15 * math.cos(lean)))
    assert TILTED.direction_to_photo(0.0, 1.0) == pytest.approx((math.sin(lean), math.cos(lean)))


def test_crop_and_photo_transforms_are_inverse() -> None:
    points = np.random.default_rng(0).random((3, 7, 2))
    assert np.allclose(TILTED.to_crop(TILTED.to_photo(points)), points)
    assert TILTED.direction_to_crop(*TILTED.direction_to_photo(0.3, -0.7)) == pytest.approx((0.3, -0.7))


def test_the_matrix_transforms_pixel_centres() -> None:
    pixel = np.array((3.0, 17.0))
    assert np.allclose(TILTED.matrix(20) @ (*pixel, 1), TILTED.to_photo((pixel + 0.5) / 20))


def test_the_fit_recovers_a_similarity() -> None:
    points = np.random.default_rng(1).random((5, 2))
    assert astuple(Placement.fit(points, TILTED.to_photo(points))) == pytest.approx(astuple(TILTED))


def test_the_fit_is_a_least_squares_optimum() -> None:
    rng = np.random.default_rng(2)
    crop_points = rng.random((5, 2))
    photo_points = TILTED.to_photo(crop_points) + rng.normal(size=(5, 2))
    best = Placement.fit(crop_points, photo_points)

    def error(placement: Placement) -> float:
        return np.square(placement.to_photo(crop_points) - photo_points).sum()

    for field, step in (("x", 0.1), ("y", 0.1), ("side", 0.1), ("turn_rad", 0.1 / 30)):
        for sign in (1, -1):
            assert error(best) < error(replace(best, **{field: getattr(best, field) + sign * step}))


def test_a_subsquare_lies_inside_its_square() -> None:
    part = TILTED.subsquare(0.25, 0.5)
    assert np.allclose(part.to_photo(np.zeros(2)), TILTED.to_photo(np.full(2, 0.25)))
    assert np.allclose(part.to_photo(np.ones(2)), TILTED.to_photo(np.full(2, 0.75)))


def test_a_scaled_photo_has_the_square_at_the_same_place() -> None:
    # Pixel (3, 5) of a photo covers pixels 6, 7 and 10, 11 of twice its size.
    found = TILTED.scale(2.0).to_photo(TILTED.to_crop(np.array((3.0, 5.0))))
    assert found == pytest.approx((6.5, 10.5))


def test_a_flat_template_is_aligned_by_a_similarity() -> None:
    points = ((0.3, 0.4), (0.7, 0.4), (0.5, 0.6), (0.35, 0.75), (0.65, 0.75))
    assert astuple(FaceTemplate(points).align(TILTED.to_photo(np.array(points)))) == pytest.approx(astuple(TILTED))


@pytest.mark.parametrize("yaw_deg", [-40.0, -12.5, 0.0, 25.0])
def test_the_crop_of_a_turned_head_stays_about_its_centre(yaw_deg: float) -> None:
    yaw = math.radians(yaw_deg)
    x, y, z = (np.array(HEAD.points) - (0.5, 0.5, 0)).T
    landmarks = np.stack((x * math.cos(yaw) + z * math.sin(yaw), y), axis=1) + 0.5
    assert abs(landmarks[:, 0].mean() - 0.5) >= 0.2 * abs(math.sin(yaw))  # the face itself is far from the middle
    assert astuple(HEAD.align(TILTED.to_photo(landmarks))) == pytest.approx(astuple(TILTED), abs=1e-6)
    assert HEAD.yaw_deg(TILTED.to_photo(landmarks)) == yaw_deg


def test_a_flat_template_has_no_yaw() -> None:
    points = np.array(HEAD.points)
    assert FaceTemplate(tuple(map(tuple, points[:, :2]))).yaw_deg(TILTED.to_photo(points[:, :2])) == 0.0
