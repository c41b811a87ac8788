"""Warps: shifts and grids whose answers are known, and gradients."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from g2s_cli.geometry.camera import Camera, canonical_to_view, project_points
from g2s_cli.geometry.rasterizer import VIEW_FAR, render_depth
from g2s_cli.geometry.warp import grid_sample, hflip, inverse_grid, symmetrize, warp

SLANTED = torch.tensor([[0.1, -0.2, 0.05, 0.002, -0.003, 0.001]], dtype=torch.float64)


def smooth(size: int) -> Tensor:
    ticks = torch.linspace(-1, 1, size, dtype=torch.float64)
    y, x = torch.meshgrid(ticks, ticks, indexing="ij")
    return (1 + 0.02 * torch.sin(2 * x + y) * torch.cos(1.5 * y))[None]


def texture_of(size: int, channels: int = 2) -> Tensor:
    return torch.rand(1, channels, size, size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_from_the_front_a_texture_is_itself() -> None:
    texture = texture_of(9)
    image, valid = warp(texture, smooth(9), torch.zeros(1, 6, dtype=torch.float64), Camera(9))
    assert valid.all()
    torch.testing.assert_close(image, texture, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("shift", "axis"), [((1, 0), -1), ((0, 1), -2)], ids=["right", "down"])
def test_a_shift_of_a_pixel_moves_the_picture_by_one(shift: tuple[int, int], axis: int) -> None:
    camera, texture = Camera(9), texture_of(9)
    view = torch.zeros(1, 6, dtype=torch.float64)
    view[0, 3:5] = view.new_tensor(shift) / camera.focal  # at depth 1
    image, valid = warp(texture, torch.ones(1, 9, 9, dtype=torch.float64), view, camera)
    moved = image.narrow(axis, 1, 8)
    torch.testing.assert_close(moved, texture.narrow(axis, 0, 8), rtol=0, atol=1e-12)
    assert not valid.narrow(axis, 0, 1).any()
    assert valid.narrow(axis, 1, 8).all()


def test_where_a_pixel_looks_is_what_lands_on_it() -> None:
    camera, flat = Camera(12), torch.ones(1, 12, 12, dtype=torch.float64)
    seen = render_depth(flat, SLANTED, camera, margin=6)
    assert (seen < VIEW_FAR).all()
    looked = (inverse_grid(seen, SLANTED, camera) + 1) * camera.centre
    # Pixels to points of the plane z = 1, which is what was seen.
    points = torch.cat(((looked - camera.centre) / camera.focal, torch.ones_like(looked[..., :1])), dim=-1)
    row, column = torch.meshgrid(*[torch.arange(12, dtype=torch.float64)] * 2, indexing="ij")
    landed = project_points(canonical_to_view(points, SLANTED, camera), camera)[0]
    torch.testing.assert_close(landed, torch.stack((column, row), dim=-1), rtol=0, atol=1e-10)


def test_outside_is_zero_or_what_the_border_has() -> None:
    maps = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    far = torch.tensor([[[[-5.0, -1.0], [0.0, 0.0]], [[0.0, 5.0], [1.0, 1.0]]]])
    assert grid_sample(maps, far).flatten().tolist() == [0, 2.5, 0, 4]
    assert grid_sample(maps, far, padding_mode="border").flatten().tolist() == [1, 2.5, 3.5, 4]


def test_gradient_of_the_warp() -> None:
    camera = Camera(8)
    inputs = [value.clone().requires_grad_() for value in (texture_of(8), smooth(8), SLANTED)]
    valid = warp(*inputs, camera)[1]
    assert 20 < valid.sum() < 64
    assert torch.autograd.gradcheck(lambda t, d, v: warp(t, d, v, camera)[0], inputs, eps=1e-7, atol=1e-5)


def test_mirroring() -> None:
    maps = texture_of(5)
    assert torch.equal(hflip(maps)[..., 0], maps[..., -1])
    assert torch.equal(hflip(hflip(maps)), maps)
    assert torch.equal(hflip(symmetrize(maps)), symmetrize(maps))
    torch.testing.assert_close(symmetrize(maps).mean(), maps.mean())
