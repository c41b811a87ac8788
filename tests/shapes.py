"""Canonical objects that tests know all about."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from g2s_cli.estimators.feedforward import Canonical, FactorNets
from g2s_cli.estimators.networks import CodeNet, MapNet
from g2s_cli.geometry.camera import Camera

Colours = Callable[[Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]


def bumps(camera: Camera, count: int, *, wide: float, high: float, far: float, colours: Colours) -> Canonical:
    """Half an ellipsoid before a plane `far` away, `count` times.

    wide, high: its half axes in shares of half the frame. colours: albedo at x, y, both from -1 to 1.
    """
    ticks = torch.linspace(-1, 1, camera.size)
    y, x = torch.meshgrid(ticks, ticks, indexing="ij")
    depth = far - 0.07 * (1 - (x / wide) ** 2 - (y / high) ** 2).clamp(min=0).sqrt()
    albedo = torch.stack(colours(x, y))
    return Canonical(depth.expand(count, -1, -1), albedo.expand(count, -1, -1, -1))


def two_eyes(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Colours of `bumps`: two eyes below a forehead of one colour."""
    eyes = 0.8 * torch.exp(-((x.abs() - 0.25).square() + (y - 0.2).square()) / 0.01)
    return 0.4 - eyes, 0.3 - eyes, 0.2 - eyes


def nets_around(mean: Canonical, camera: Camera) -> FactorNets:
    """Untrained networks of the camera's size, the same each time, with a canonical object for their mean shape."""
    torch.manual_seed(0)
    base, size = torch.atanh((mean.depth[0] - 1) / 0.1), camera.size
    maps = MapNet(size, 1, 8, bounded=False), MapNet(size, 3, 8, bounded=True)
    coeffs = CodeNet(size, 6, 8), CodeNet(size, 4, 8)
    return FactorNets(*maps, *coeffs, camera, base, torch.zeros(6), torch.zeros(4), symmetric=True)
