"""The relief beyond the tight crop: an inflated outline that the crop's own depth runs into."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from g2s_cli.geometry.camera import Camera, canonical_to_view, project_points, rotate_view, unproject_points
from g2s_cli.geometry.factors import Factors
from g2s_cli.mesh.extend import Wide, extend_factors, inflate, limit_view_slope, smooth_beyond

TIGHT = Camera(64)
WIDE = TIGHT.widen(32)
CROP = slice(32, 96)
RADIUS = 44  # pixels: of a ball that the crop cuts off all around


def disc(size: int, radius: float) -> Tensor:
    ticks = torch.arange(size) - (size - 1) / 2
    return ticks[:, None].square() + ticks.square() < radius**2


def ball(camera: Camera, radius_px: float = RADIUS) -> Tensor:
    """Depth of a ball about (0, 0, 1.05), a plane behind it elsewhere."""
    rays, radius = camera.rays(torch.zeros(1)), radius_px / camera.focal
    across = rays.square().sum(dim=-1)
    inner = 1.05**2 - across * (1.05**2 - radius**2)
    return torch.where(inner > 0, (1.05 - inner.clamp(min=0).sqrt()) / across, 1.05)


def factors(view: Tensor | None = None) -> Factors:
    light = torch.tensor((0.5, 0.5, 0.0, 0.0))
    return Factors(ball(TIGHT), torch.zeros(3, 64, 64), torch.zeros(6) if view is None else view, light)


@pytest.mark.parametrize("radius", [12, 30, 55])
def test_a_disc_is_inflated_to_half_a_ball(radius: int) -> None:
    domain = disc(128, radius)
    height = inflate(domain, torch.ones(128, 128), 4.0)
    ticks = torch.arange(128) - 63.5
    exact = (radius**2 - ticks[:, None].square() - ticks.square()).clamp(min=0).sqrt()
    error = (height + 4 - (exact.square() + 16).sqrt())[disc(128, 0.9 * radius)]
    assert error.abs().max() < 0.12 * radius
    assert error.abs().mean() < 0.05 * radius
    assert (height[~disc(128, radius + 2)] == 0).all()


def test_an_inflated_outline_goes_on_beyond_the_image() -> None:
    strip = torch.zeros(64, 64, dtype=torch.bool)
    strip[:, 20:44] = True
    height = inflate(strip, torch.ones(64, 64), 4.0)
    torch.testing.assert_close(height, height[32].expand(64, 64), atol=0.3, rtol=0)


def test_a_ball_cut_by_the_crop_continues_as_a_ball() -> None:
    wide, support = extend_factors(factors(), torch.ones(64, 64), TIGHT, Wide(WIDE, disc(128, RADIUS)))
    error = (wide.depth - ball(WIDE)).abs() * WIDE.focal / RADIUS
    upper = disc(128, 0.9 * RADIUS)
    upper[80:] = False  # a body is flatter
    assert error[upper].max() < 0.15
    assert error[upper].mean() < 0.03
    assert (support[disc(128, RADIUS)] == 1).all()


def test_depth_in_the_crop_is_unchanged() -> None:
    wide, _ = extend_factors(factors(), torch.ones(64, 64), TIGHT, Wide(WIDE, disc(128, RADIUS)))
    torch.testing.assert_close(wide.depth[CROP, CROP][9:-9, 9:-9], ball(TIGHT)[9:-9, 9:-9], atol=0, rtol=0)


def test_there_is_no_step_at_the_crops_edge() -> None:
    wide, _ = extend_factors(factors(), torch.ones(64, 64), TIGHT, Wide(WIDE, disc(128, RADIUS)))
    middle = wide.depth[24:44, 64]  # down a column, over the crop's upper edge
    assert (middle.diff().diff().abs() * WIDE.focal).max() < 0.15  # pixels of depth a pixel, of slopes near 1


@pytest.mark.parametrize("size", [64, 128])
def test_the_border_columns_leave_no_step(size: int) -> None:
    """The networks' depth ends in columns that are far behind: two of 64."""
    tight, share = Camera(size), size // 64
    wide_camera = tight.widen(32 * share)
    stepped = ball(tight, RADIUS * share)
    stepped[:, : 2 * share] = stepped[:, -2 * share :] = 1.04
    made = Factors(stepped, torch.zeros(3, size, size), torch.zeros(6), torch.tensor((0.5, 0.5, 0.0, 0.0)))
    domain = disc(2 * size, RADIUS * share)
    wide, _ = extend_factors(made, torch.ones(size, size), tight, Wide(wide_camera, domain))
    across = wide.depth[size, 24 * share : 44 * share]  # along a row, over the crop's left edge
    assert (across.diff().diff().abs() * wide_camera.focal).max() < 0.3


def test_creases_beyond_the_crop_are_rounded() -> None:
    ridge = (torch.arange(128) - 96.0).abs().expand(128, 128).clone()
    known, domain = torch.zeros(128, 128, dtype=torch.bool), disc(128, 60)
    known[CROP, 16:72] = True
    smooth = smooth_beyond(ridge, known, domain, 64)
    bend, before = (one[64].diff().diff().abs().max() for one in (smooth[:, 88:104], ridge[:, 88:104]))
    assert bend < before / 3
    torch.testing.assert_close(smooth[41:87, 25:63], ridge[41:87, 25:63], atol=1e-4, rtol=0)  # the crop, inside its rim
    assert torch.equal(smooth[~domain], ridge[~domain])


@pytest.mark.parametrize("yaw_deg", [-35.0, 0.0, 20.0])
def test_the_canonical_camera_sees_all_that_the_photo_shows(yaw_deg: float) -> None:
    turned = factors(rotate_view(torch.zeros(6), math.radians(yaw_deg), 0.1))
    domain = disc(128, RADIUS)
    wide, support = extend_factors(turned, torch.ones(64, 64), TIGHT, Wide(WIDE, domain))
    points = canonical_to_view(unproject_points(wide.depth[None], WIDE), wide.view[None], WIDE)[0]
    pixels = project_points(points, WIDE)[support > 0].round().long().clamp(0, 127)
    shown = torch.zeros(128, 128)
    shown[pixels[:, 1], pixels[:, 0]] = 1
    around = torch.nn.functional.max_pool2d(shown[None], 5, 1, 2)[0] > 0  # steep slopes leave gaps
    assert around[disc(128, RADIUS - 1)].float().mean() > 0.995


def test_slopes_are_limited_as_the_canonical_camera_sees_them() -> None:
    depth = ball(WIDE)
    turned = factors(rotate_view(torch.zeros(6), math.radians(30.0), 0.0))
    limited = limit_view_slope(depth, torch.zeros(128, 128, dtype=torch.bool), turned, WIDE)
    assert (limited <= depth + 1e-5).all()
    slope = torch.rad2deg(torch.atan(limited.diff(dim=1) * WIDE.focal))[64]
    # The head turns to the right: its left side, which recedes to the left, is what the photo shows more of.
    assert min(slope.min().neg(), slope.max()) == pytest.approx(40.0, abs=1.0)
