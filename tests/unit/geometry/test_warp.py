"""Warps and sampling grids whose answers are known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from g2s_cli.geometry.camera import Camera, canonical_to_view
from g2s_cli.geometry.rasterizer import VIEW_FAR, render_depth
from g2s_cli.geometry.warp import grid_sample, hflip, inverse_grid, points_to_grid, symmetrize, warp

SLANTED = torch.tensor([[0.1, -0.2, 0.05, 0.002, -0.003, 0.001]], dtype=torch.float64)


def smooth(size: int) -> Tensor:
    ticks = torch.linspace(-1, 1, size, dtype=torch.float64)
    y, x = torch.meshgrid(ticks, ticks, indexing="ij")
    return (1 + 0.02 * torch.sin(2 * x + y) * torch.cos(1.5 * y))[None]


def random_texture(size: int, channels: int = 2) -> Tensor:
    return torch.rand(1, channels, size, size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_the_front_view_shows_the_texture() -> None:
    texture = random_texture(9)
    image, valid = warp(texture, smooth(9), torch.zeros(1, 6, dtype=torch.float64), Camera(9))
    assert valid.all()
    torch.testing.assert_close(image, texture, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("shift", "axis"), [((1, 0), -1), ((0, 1), -2)], ids=["right", "down"])
def test_a_translation_of_one_pixel_moves_the_image_by_one(shift: tuple[int, int], axis: int) -> None:
    camera, texture = Camera(9), random_texture(9)
    view = torch.zeros(1, 6, dtype=torch.float64)
    view[0, 3:5] = view.new_tensor(shift) / camera.focal  # at depth 1
    image, valid = warp(texture, torch.ones(1, 9, 9, dtype=torch.float64), view, camera)
    moved = image.narrow(axis, 1, 8)
    torch.testing.assert_close(moved, texture.narrow(axis, 0, 8), rtol=0, atol=1e-12)
    assert not valid.narrow(axis, 0, 1).any()
    assert valid.narrow(axis, 1, 8).all()


def test_the_inverse_grid_inverts_the_projection() -> None:
    camera, flat = Camera(12), torch.ones(1, 12, 12, dtype=torch.float64)
    view_depth = render_depth(flat, SLANTED, camera, margin=6)
    assert (view_depth < VIEW_FAR).all()
    pixels = inverse_grid(view_depth, SLANTED, camera) * camera.centre
    points = torch.cat((pixels / camera.focal, torch.ones_like(pixels[..., :1])), dim=-1)  # of the plane z = 1
    grid = points_to_grid(canonical_to_view(points, SLANTED, camera), camera)
    ticks = torch.linspace(-1, 1, 12, dtype=torch.float64)
    torch.testing.assert_close(
        grid[0], torch.stack((ticks.expand(12, 12), ticks[:, None].expand(12, 12)), dim=-1), rtol=0, atol=1e-11
    )


def test_the_outside_is_zero_or_the_border() -> None:
    maps = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    far = torch.tensor([[[[-5.0, -1.0], [0.0, 0.0]], [[0.0, 5.0], [1.0, 1.0]]]])
    assert grid_sample(maps, far).flatten().tolist() == [0, 2.5, 0, 4]
    assert grid_sample(maps, far, padding_mode="border").flatten().tolist() == [1, 2.5, 3.5, 4]


def test_the_warp_is_differentiable() -> None:
    camera = Camera(8)
    inputs = [value.clone().requires_grad_() for value in (random_texture(8), smooth(8), SLANTED)]
    valid = warp(*inputs, camera)[1]
    assert 20 < valid.sum() < 64
    assert torch.autograd.gradcheck(lambda t, d, v: warp(t, d, v, camera)[0], inputs, eps=1e-7, atol=1e-5)


def test_symmetrize_averages_both_halves() -> None:
    maps = random_texture(5)
    assert torch.equal(hflip(maps)[..., 0], maps[..., -1])
    assert torch.equal(hflip(hflip(maps)), maps)
    assert torch.equal(hflip(symmetrize(maps)), symmetrize(maps))
    torch.testing.assert_close(symmetrize(maps).mean(), maps.mean())
