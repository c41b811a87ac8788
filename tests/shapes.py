"""Canonical objects that tests know all about."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from g2s_cli.method.model import Canonical
from g2s_cli.scene.camera import Camera

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
