"""What is seen of a relief, against ray casting and planes whose answers are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from g2s_cli.geometry.camera import Camera, canonical_to_view, rotation_matrix, unproject_points
from g2s_cli.geometry.rasterizer import VIEW_FAR, VIEW_NEAR, grid_faces, rasterize, render_depth

SLANTED = torch.tensor([[0.2, -0.35, 0.15, 0.004, -0.003, 0.005]], dtype=torch.float64)
ONE = torch.zeros(1, dtype=torch.float64)


def plane(camera: Camera, normal: Tensor, distance: float) -> Tensor:
    """Depth where the rays meet the plane n·X = distance."""
    return (distance / (camera.rays(normal) @ normal))[None]


def smooth(size: int) -> Tensor:
    ticks = torch.linspace(-1, 1, size, dtype=torch.float64)
    y, x = torch.meshgrid(ticks, ticks, indexing="ij")
    return (1 + 0.02 * torch.sin(2 * x + y) * torch.cos(1.5 * y))[None]


def cast(points: Tensor, triangles: Tensor, camera: Camera) -> Tensor:
    """Every ray against every triangle (Möller and Trumbore 1997): the nearest hit, +inf where there is none."""
    a, b, c = points[triangles].numpy().swapaxes(0, 1)
    rays = camera.rays(points).reshape(-1, 1, 3).numpy()
    first, second = b - a, c - a
    p = np.cross(rays, second)
    scale = (first * p).sum(-1)
    u = (-a * p).sum(-1) / scale
    q = np.cross(-a, first)
    v = (rays * q).sum(-1) / scale
    depth = (second * q).sum(-1) / scale
    hits = (u >= 0) & (v >= 0) & (u + v <= 1)
    return torch.from_numpy(np.where(hits, depth, np.inf).min(axis=1)).view(camera.size, camera.size)


@pytest.mark.parametrize("seed", range(5))
def test_rough_reliefs_are_seen_as_by_ray_casting(seed: int) -> None:
    camera, rng = Camera(10), torch.Generator().manual_seed(seed)
    depth = 0.95 + 0.1 * torch.rand(1, 10, 10, generator=rng, dtype=torch.float64)
    view = torch.randn(1, 6, generator=rng, dtype=torch.float64) * depth.new_tensor([0.3, 0.5, 0.2, 0.01, 0.01, 0.01])
    points = canonical_to_view(unproject_points(depth, camera), view, camera).flatten(1, 2)
    triangles = grid_faces(10, 10, points.device)
    winner, nearest = rasterize(points, triangles, camera)
    wanted = cast(points[0], triangles, camera)
    assert torch.isfinite(wanted).sum() > 20
    torch.testing.assert_close(nearest[0], wanted, rtol=0, atol=1e-12)
    assert torch.equal(winner[0] >= 0, torch.isfinite(wanted))


def test_a_plane_is_where_the_rays_meet_it() -> None:
    camera = Camera(16)
    normal = torch.nn.functional.normalize(ONE.new_tensor((0.2, -0.1, 1)), dim=0)
    depth = plane(camera, normal, 0.98 * normal[2].item())
    turn, pivot = rotation_matrix(SLANTED)[0], ONE.new_tensor((0, 0, camera.pivot))
    # n·X = k with X' = R (X - c) + c + t is (R n)·X' = k - n·c + (R n)·(c + t).
    turned = turn @ normal
    distance = 0.98 * normal[2] - normal @ pivot + turned @ (pivot + SLANTED[0, 3:])
    seen = render_depth(depth, SLANTED, camera)
    hit = seen < VIEW_FAR
    assert 100 < hit.sum() < 256
    torch.testing.assert_close(seen[hit], plane(camera, turned, distance.item())[hit], rtol=0, atol=1e-12)


def test_the_margin_lets_a_plane_go_on() -> None:
    camera, flat = Camera(16), torch.ones(1, 16, 16, dtype=torch.float64)
    seen = render_depth(flat, SLANTED, camera, margin=8)
    without = render_depth(flat, SLANTED, camera)
    hit = without < VIEW_FAR
    assert not hit.all()
    assert (seen < VIEW_FAR).all()
    torch.testing.assert_close(seen[hit], without[hit], rtol=0, atol=1e-12)
    # A frontal plane's margin has the same depth, so that it stays one plane.
    turned = rotation_matrix(SLANTED)[0, :, 2]
    distance = turned @ (ONE.new_tensor((0, 0, 1)) + SLANTED[0, 3:])
    torch.testing.assert_close(seen, plane(camera, turned, distance.item()), rtol=0, atol=1e-12)


@pytest.mark.parametrize("order", [(0.97, 1.03), (1.03, 0.97)], ids=["near first", "far first"])
def test_of_two_layers_the_nearer_is_seen(order: tuple[float, float]) -> None:
    camera = Camera(6)
    layers = [unproject_points(torch.full((1, 6, 6), depth), camera).flatten(1, 2) for depth in order]
    triangles = grid_faces(6, 6, torch.device("cpu"))
    winner, depth = rasterize(torch.cat(layers, dim=1), torch.cat((triangles, triangles + 36)), camera)
    assert torch.equal(winner // len(triangles), torch.full_like(winner, order.index(0.97)))
    torch.testing.assert_close(depth, torch.full_like(depth, 0.97))


def test_of_layers_as_near_as_each_other_the_last_is_seen_whatever_the_threads() -> None:
    """As many pixels as several threads share: which of them came last decided, and Adam made other results of it."""
    camera = Camera(256)
    points = unproject_points(torch.ones(1, 9, 9), Camera(9)).flatten(1, 2)
    triangles = grid_faces(9, 9, points.device)
    both = torch.cat((triangles, triangles + 81))
    winner, _ = rasterize(torch.cat((points, points), dim=1), both, camera)
    assert (winner >= len(triangles)).float().mean() > 0.98
    assert ((winner == -1) | (winner >= len(triangles))).all()


def test_a_mesh_beside_the_picture_is_not_seen() -> None:
    camera = Camera(4)
    points = unproject_points(torch.ones(1, 4, 4), camera).flatten(1, 2) + torch.tensor((0.5, 0.0, 0.0))
    winner, depth = rasterize(points, grid_faces(4, 4, points.device), camera)
    assert (winner == -1).all()
    assert torch.isinf(depth).all()


def test_each_mesh_of_a_batch_is_seen_as_if_alone() -> None:
    camera = Camera(12)
    depth = torch.cat((smooth(12), torch.ones_like(smooth(12)), smooth(12).flip(1)))
    views = torch.cat((SLANTED, -SLANTED, torch.zeros_like(SLANTED)))
    alone = [render_depth(one[None], view[None], camera) for one, view in zip(depth, views, strict=True)]
    torch.testing.assert_close(render_depth(depth, views, camera), torch.cat(alone))


def test_depth_stays_in_the_range_of_views() -> None:
    flat, shift = torch.ones(2, 5, 5), torch.zeros(2, 6)
    shift[:, 5] = torch.tensor((-0.4, 0.4))
    seen = render_depth(flat, shift, Camera(5))
    assert (seen[0, 1:-1, 1:-1] == VIEW_NEAR).all()
    assert (seen[1] == VIEW_FAR).all()


def test_gradient_of_what_is_seen() -> None:
    camera = Camera(8)
    inputs = (smooth(8).requires_grad_(), SLANTED.clone().requires_grad_())
    # So small a step leaves every pixel with its triangle; beyond the relief the depth is constant.
    assert torch.autograd.gradcheck(lambda d, v: render_depth(d, v, camera), inputs, eps=1e-7, atol=1e-5)


@pytest.mark.parametrize(("yaw_deg", "passes"), [(80, True), (88, False)])
def test_a_surface_seen_edge_on_passes_no_gradient(yaw_deg: float, passes: bool) -> None:
    flat = torch.ones(1, 9, 9, requires_grad=True)
    view = torch.tensor([[0, math.radians(yaw_deg), 0, 0, 0, 0]])
    seen = render_depth(flat, view, Camera(9))
    assert ((seen > VIEW_NEAR) & (seen < VIEW_FAR)).any()  # at least the column the plane turns about
    (slope,) = torch.autograd.grad(seen.sum(), flat)
    assert slope.any() == passes
