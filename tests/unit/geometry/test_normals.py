"""Normals, smoothness and slopes of surfaces whose answers are known."""

from __future__ import annotations

import math

import torch

from g2s_cli.geometry.camera import Camera, unproject_points
from g2s_cli.geometry.normals import (
    depth_to_normals,
    limit_slope,
    points_to_normals,
    replicate_border,
    smoothness_loss,
)

LIKE = torch.zeros(1, dtype=torch.float64)
TICKS = torch.linspace(-1, 1, 64)


def test_the_normals_of_a_sphere_are_its_radii() -> None:
    camera, radius = Camera(64), 0.07
    # |d r - c| = radius with c = (0, 0, 1): the nearer root.
    square = camera.rays(LIKE).square().sum(-1)
    root = 1 - square * (1 - radius**2)
    depth = torch.where(root > 0, (1 - root.clamp(min=0).sqrt()) / square, 1.0)[None]
    to_centre = (torch.tensor((0, 0, 1.0)) - unproject_points(depth, camera)) / radius
    found = depth_to_normals(depth, camera)
    inside = to_centre[..., 2] > 0.6
    assert inside.sum() > 1000
    cosine = (found * to_centre).sum(-1) / found.norm(dim=-1)
    assert torch.rad2deg(torch.acos(cosine[inside].clamp(max=1))).max() < 0.25


def test_the_outermost_normals_face_the_camera() -> None:
    found = depth_to_normals(torch.rand(2, 5, 5) + 1, Camera(5))
    border = torch.ones(5, 5, dtype=torch.bool)
    border[1:-1, 1:-1] = False
    assert (found[:, border] == torch.tensor((0.0, 0, 1))).all()


def test_replicate_border_repeats_the_inner_neighbours() -> None:
    found = replicate_border(torch.arange(16.0).view(1, 1, 4, 4))
    assert found[0, 0].tolist() == [[5, 5, 6, 6], [5, 5, 6, 6], [9, 9, 10, 10], [9, 9, 10, 10]]


def test_normals_of_points_need_no_regular_grid() -> None:
    across, down = torch.tensor((1.0, 0.0, 0.5)), torch.tensor((0.0, 1.0, -0.25))
    shift = 0.3 * torch.rand(2, 6, 6, generator=torch.Generator().manual_seed(0))
    ticks = torch.arange(6.0)
    points = (ticks + shift[0])[..., None] * across + (ticks[:, None] + shift[1])[..., None] * down  # of one plane
    expected = torch.linalg.cross(across, down)
    found = points_to_normals(points[None])[0, 1:-1, 1:-1]
    torch.testing.assert_close(found, (expected / expected.norm()).expand_as(found))


def test_normals_are_differentiable() -> None:
    depth = 1 + 0.1 * torch.rand(2, 6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda d: depth_to_normals(d, Camera(6)), depth.requires_grad_(), eps=1e-7)


def test_the_smoothness_loss_counts_second_differences() -> None:
    y, x = torch.meshgrid(torch.arange(6.0), torch.arange(6.0), indexing="ij")
    assert smoothness_loss((3 * x - 2 * y + 1)[None]) == 0
    assert smoothness_loss((x**2)[None]) == 2  # xx
    assert smoothness_loss((x * y)[None]) == 2  # xy and yx, 1 each
    assert smoothness_loss(torch.stack((x**2, -5 * y**2))[None]) == (2 + 10) / 2


def test_the_slope_limit_changes_steep_pixels_only() -> None:
    camera, ticks = Camera(32), torch.linspace(-1, 1, 32)
    bump = (1 - ticks[:, None] ** 2 - ticks**2).clamp(min=0).sqrt()
    mask = bump > 0.3
    depth = 1.0 - 0.05 * bump
    torch.testing.assert_close(limit_slope(depth, mask, camera, 79.0), depth)
    steep = mask & (bump < 0.42)
    behind = torch.where(steep, 1.2, depth)
    limited = limit_slope(behind, mask, camera, 79.0)
    assert (limited[steep] < 1.0 + math.tan(math.radians(79.0)) / camera.focal).all()
    assert torch.equal(limited[~steep], behind[~steep])


def test_the_slope_limit_reaches_four_pixels_inside_the_mask() -> None:
    camera, depth = Camera(16), torch.full((16, 16), 1.2)
    depth[:, :4] = 1.0
    limited = limit_slope(depth, torch.ones(16, 16, dtype=torch.bool), camera, 60.0)
    assert (limited[:, 4:8].diff(dim=1) > 0).all()
    assert (limited[:, 8:] == 1.2).all()
    assert torch.equal(limit_slope(depth, torch.zeros(16, 16, dtype=torch.bool), camera, 60.0), depth)
