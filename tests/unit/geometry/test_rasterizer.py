"""Rasterized depth against ray casting and planes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from g2s_cli.geometry.camera import Camera, canonical_to_view, rotation_matrix, unproject_points
from g2s_cli.geometry.rasterizer import VIEW_FAR, VIEW_NEAR, grid_faces, interpolate, rasterize, render_depth

SLANTED = torch.tensor([[0.2, -0.35, 0.15, 0.004, -0.003, 0.005]], dtype=torch.float64)
PIVOT = SLANTED.new_tensor((0, 0, 1))


def plane(camera: Camera, normal: Tensor, distance: float | Tensor) -> Tensor:
    """Depth where the rays meet the plane n·X = distance."""
    return (distance / (camera.rays(normal) @ normal))[None]


def smooth(size: int) -> Tensor:
    ticks = torch.linspace(-1, 1, size, dtype=torch.float64)
    y, x = torch.meshgrid(ticks, ticks, indexing="ij")
    return (1 + 0.02 * torch.sin(2 * x + y) * torch.cos(1.5 * y))[None]


def cast_rays(vertices: Tensor, faces: Tensor, camera: Camera) -> Tensor:
    """Every ray against every triangle (Möller and Trumbore 1997): the nearest hit, +inf where there is none."""
    a, b, c = vertices[faces].numpy().swapaxes(0, 1)
    rays = camera.rays(vertices).reshape(-1, 1, 3).numpy()
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
def test_rough_depth_is_rasterized_as_by_ray_casting(seed: int) -> None:
    camera, rng = Camera(10), torch.Generator().manual_seed(seed)
    depth = 0.95 + 0.1 * torch.rand(1, 10, 10, generator=rng, dtype=torch.float64)
    view = torch.randn(1, 6, generator=rng, dtype=torch.float64) * depth.new_tensor([0.3, 0.5, 0.2, 0.01, 0.01, 0.01])
    vertices = canonical_to_view(unproject_points(depth, camera), view, camera).flatten(1, 2)
    faces = grid_faces(10, 10, vertices.device)
    face, z_buffer = rasterize(vertices, faces, camera)
    expected = cast_rays(vertices[0], faces, camera)
    assert torch.isfinite(expected).sum() > 20
    torch.testing.assert_close(z_buffer[0], expected, rtol=0, atol=1e-12)
    assert torch.equal(face[0] >= 0, torch.isfinite(expected))


def test_the_margin_continues_a_frontal_plane() -> None:
    camera, flat = Camera(16), torch.ones(1, 16, 16, dtype=torch.float64)
    assert not (render_depth(flat, SLANTED, camera) < VIEW_FAR).all()
    normal = rotation_matrix(SLANTED)[0, :, 2]
    expected = plane(camera, normal, normal @ (PIVOT + SLANTED[0, 3:]))
    torch.testing.assert_close(render_depth(flat, SLANTED, camera, margin=8), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("depths", [(0.97, 1.03), (1.03, 0.97)], ids=["near first", "far first"])
def test_the_nearer_of_two_layers_is_visible(depths: tuple[float, float]) -> None:
    camera = Camera(6)
    layers = [unproject_points(torch.full((1, 6, 6), depth), camera).flatten(1, 2) for depth in depths]
    faces = grid_faces(6, 6, torch.device("cpu"))
    face, z_buffer = rasterize(torch.cat(layers, dim=1), torch.cat((faces, faces + 36)), camera)
    assert torch.equal(face // len(faces), torch.full_like(face, depths.index(0.97)))
    torch.testing.assert_close(z_buffer, torch.full_like(z_buffer, 0.97))


def test_of_equally_near_layers_the_last_is_visible_whatever_the_threads() -> None:
    camera = Camera(256)  # enough pixels for several threads
    points = unproject_points(torch.ones(1, 9, 9), Camera(9)).flatten(1, 2)
    faces = grid_faces(9, 9, points.device)
    face, _ = rasterize(torch.cat((points, points), dim=1), torch.cat((faces, faces + 81)), camera)
    assert (face >= len(faces)).float().mean() > 0.98
    assert ((face == -1) | (face >= len(faces))).all()


def test_a_mesh_beside_the_image_is_invisible() -> None:
    camera = Camera(4)
    points = unproject_points(torch.ones(1, 4, 4), camera).flatten(1, 2) + torch.tensor((0.5, 0.0, 0.0))
    face, z_buffer = rasterize(points, grid_faces(4, 4, points.device), camera)
    assert (face == -1).all()
    assert torch.isinf(z_buffer).all()


def test_results_do_not_depend_on_the_batch() -> None:
    camera = Camera(12)
    depth = torch.cat((smooth(12), torch.ones_like(smooth(12)), smooth(12).flip(1)))
    views = torch.cat((SLANTED, -SLANTED, torch.zeros_like(SLANTED)))
    alone = [render_depth(one[None], view[None], camera) for one, view in zip(depth, views, strict=True)]
    torch.testing.assert_close(render_depth(depth, views, camera), torch.cat(alone))


def test_depth_is_clamped_to_the_range_of_views() -> None:
    flat, shift = torch.ones(2, 5, 5), torch.zeros(2, 6)
    shift[:, 5] = torch.tensor((-0.4, 0.4))
    found = render_depth(flat, shift, Camera(5))
    assert (found[0, 1:-1, 1:-1] == VIEW_NEAR).all()
    assert (found[1] == VIEW_FAR).all()


def test_rendered_depth_is_differentiable() -> None:
    inputs = (smooth(8).requires_grad_(), SLANTED.clone().requires_grad_())
    # So small a step leaves every pixel its triangle.
    assert torch.autograd.gradcheck(lambda d, v: render_depth(d, v, Camera(8)), inputs, eps=1e-7, atol=1e-5)


@pytest.mark.parametrize(("yaw_deg", "has_gradient"), [(80, True), (88, False)])
def test_a_surface_at_a_grazing_angle_has_no_gradient(yaw_deg: float, has_gradient: bool) -> None:
    flat = torch.ones(1, 9, 9, requires_grad=True)
    view = torch.tensor([[0, math.radians(yaw_deg), 0, 0, 0, 0]])
    found = render_depth(flat, view, Camera(9))
    assert ((found > VIEW_NEAR) & (found < VIEW_FAR)).any()  # at least the column of the axis
    (gradient,) = torch.autograd.grad(found.sum(), flat)
    assert gradient.any() == has_gradient


def test_interpolated_corners_are_the_points_that_rays_meet() -> None:
    camera = Camera(16)
    corners = torch.tensor([[-0.1, -0.08, 0.9], [0.14, -0.09, 1.6], [-0.02, 0.1, 1.1]])
    face, depth = rasterize(corners[None], torch.tensor([[0, 1, 2]]), camera)
    hit = face[0] == 0
    pixels = hit.nonzero().flip(1)
    triangles = corners.expand(len(pixels), -1, -1)
    points = interpolate(pixels.float(), triangles, triangles, camera)
    assert len(points) > 40
    torch.testing.assert_close(points[:, 2], depth[0, hit])
    torch.testing.assert_close(points, depth[0, hit, None] * camera.rays(corners)[hit])
