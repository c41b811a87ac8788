"""Normals and roughness of surfaces whose answers are known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from g2s_cli.geometry.camera import Camera, unproject_points
from g2s_cli.geometry.normals import (
    TURNED_AWAY,
    depth_to_normals,
    limit_slope,
    points_to_normals,
    replicate_border,
    silhouette_offset,
    smoothness_loss,
)
from g2s_cli.geometry.resample import window_mean

ONE = torch.zeros(1, dtype=torch.float64)


@pytest.mark.parametrize("slope", [(0.0, 0.0, 1.0), (0.5, 0.0, 1.0), (-0.3, 0.8, 1.0)])
def test_a_plane_has_its_normal_everywhere(slope: tuple[float, float, float]) -> None:
    camera = Camera(8)
    wanted = torch.nn.functional.normalize(torch.tensor(slope, dtype=torch.float64), dim=0)
    found = depth_to_normals((wanted[2] / (camera.rays(ONE) @ wanted))[None], camera)[0, 1:-1, 1:-1]
    length = found.norm(dim=-1, keepdim=True)
    torch.testing.assert_close(found / length, wanted.expand_as(found), rtol=0, atol=1e-12)
    assert ((length > 0.999) & (length < 1)).all()


def test_a_sphere_has_its_radii() -> None:
    camera, radius = Camera(64), 0.07
    rays = camera.rays(ONE)
    # |d r - c| = radius with c = (0, 0, 1): the nearer root.
    square = rays.square().sum(-1)
    root = 1 - square * (1 - radius**2)
    depth = torch.where(root > 0, (1 - root.clamp(min=0).sqrt()) / square, 1.0)
    towards_centre = (torch.tensor((0, 0, 1.0)) - unproject_points(depth[None], camera)) / radius
    found = depth_to_normals(depth[None], camera)
    inside = towards_centre[..., 2] > 0.6
    assert inside.sum() > 1000
    cosine = (found * towards_centre).sum(-1) / found.norm(dim=-1)
    assert torch.rad2deg(torch.acos(cosine[inside].clamp(max=1))).max() < 0.25


def test_the_outermost_pixels_face_the_camera() -> None:
    found = depth_to_normals(torch.rand(2, 5, 5) + 1, Camera(5))
    rim = torch.ones(5, 5, dtype=torch.bool)
    rim[1:-1, 1:-1] = False
    assert (found[:, rim] == torch.tensor((0.0, 0, 1))).all()


def test_what_is_made_of_normals_goes_on_to_the_rim() -> None:
    found = replicate_border(torch.arange(16.0).view(1, 1, 4, 4))
    assert found[0, 0].tolist() == [[5, 5, 6, 6], [5, 5, 6, 6], [9, 9, 10, 10], [9, 9, 10, 10]]


def test_normals_of_points_know_no_grid() -> None:
    """A plane's, wherever on it the points lie."""
    across, down = torch.tensor((1.0, 0.0, 0.5)), torch.tensor((0.0, 1.0, -0.25))
    rng = torch.Generator().manual_seed(0)
    shift = 0.3 * torch.rand(2, 6, 6, generator=rng, dtype=torch.float32)
    ticks = torch.arange(6.0)
    points = (ticks + shift[0])[..., None] * across + (ticks[:, None] + shift[1])[..., None] * down
    wanted = torch.linalg.cross(across, down)
    found = points_to_normals(points[None])[0, 1:-1, 1:-1]
    torch.testing.assert_close(found, (wanted / wanted.norm()).expand_as(found))


def test_gradient_of_normals() -> None:
    depth = 1 + 0.1 * torch.rand(2, 6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda d: depth_to_normals(d, Camera(6)), depth.requires_grad_(), eps=1e-7)


def test_roughness_counts_second_differences_alone() -> None:
    y, x = torch.meshgrid(torch.arange(6.0), torch.arange(6.0), indexing="ij")
    assert smoothness_loss((3 * x - 2 * y + 1)[None]) == 0
    assert smoothness_loss((x**2)[None]) == 2  # xx
    assert smoothness_loss((x * y)[None]) == 2  # xy and yx, 1 each
    assert smoothness_loss(torch.stack((x**2, -5 * y**2))[None]) == (2 + 10) / 2


def test_a_rim_that_looks_behind_the_object_is_held_at_its_slope() -> None:
    camera = Camera(32)
    ticks = torch.linspace(-1, 1, 32)
    bump = (1 - ticks[:, None] ** 2 - ticks**2).clamp(min=0).sqrt()
    mask = bump > 0.3
    depth = 1.0 - 0.05 * bump
    torch.testing.assert_close(limit_slope(depth, mask, camera, 79.0), depth)  # nothing here is that steep
    behind = depth.clone()
    rim = mask & (bump < 0.42)
    behind[rim] = 1.2
    held = limit_slope(behind, mask, camera, 79.0)
    step = math.tan(math.radians(79.0)) * 1.0 / camera.focal
    assert (held[rim] < 1.0 + step).all()
    assert (held <= behind).all()
    assert torch.equal(held[~mask], behind[~mask])
    assert torch.equal(held[mask & ~rim], behind[mask & ~rim])


def test_holding_reaches_four_pixels_and_needs_a_mask() -> None:
    camera, depth = Camera(16), torch.full((16, 16), 1.2)
    depth[:, :4] = 1.0
    held = limit_slope(depth, torch.ones(16, 16, dtype=torch.bool), camera, 60.0)
    assert (held[:, 4:8].diff(dim=1) > 0).all()
    assert (held[:, 8:] == 1.2).all()
    assert torch.equal(limit_slope(depth, torch.zeros(16, 16, dtype=torch.bool), camera, 60.0), depth)


@pytest.fixture
def right_half() -> Tensor:
    """A mask with one straight outline, from the picture's top to its bottom."""
    return (torch.arange(64) >= 32).expand(64, 64)


def test_a_straight_outline_falls_off_alike_all_along_it(right_half: Tensor) -> None:
    farther = silhouette_offset(right_half)
    row = farther[32]
    torch.testing.assert_close(farther, row.expand(64, -1))  # the picture's edge is no outline
    torch.testing.assert_close((row[31] + row[32]) / 2, torch.tensor(TURNED_AWAY))
    assert (row[31:39].diff() < 0).all()
    assert row[38:].abs().max() < 1e-7


def test_what_fills_the_picture_has_no_outline() -> None:
    assert silhouette_offset(torch.ones(16, 16, dtype=torch.bool)).abs().max() < 1e-9


def test_the_fall_is_as_wide_in_shares_of_a_larger_picture(right_half: Tensor) -> None:
    large = silhouette_offset(right_half.repeat_interleave(2, dim=0).repeat_interleave(2, dim=1))
    assert (large[::2, ::2] - silhouette_offset(right_half)).abs().max() < 0.12 * TURNED_AWAY


def test_a_ball_learnt_too_flat_comes_nearer_to_itself() -> None:
    """A ball whose depth has been blurred, as pictures teach it, inside its outline."""
    ticks = torch.linspace(-1, 1, 64)
    ball = 1 - 0.05 * (0.7 - ticks[:, None] ** 2 - ticks**2).clamp(min=0).sqrt()
    mask = ticks[:, None] ** 2 + ticks**2 < 0.66
    blurred = ball
    for _ in range(3):
        sums, share = window_mean(torch.stack((blurred * mask, mask.float())), 2)
        blurred = sums / share.clamp(min=1 / 25)

    def wrong(depth: Tensor) -> float:
        return (depth - ball)[mask].std().item()

    assert wrong(blurred + silhouette_offset(mask)) < 0.75 * wrong(blurred)
