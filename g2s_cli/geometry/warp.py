"""The warp Π of paper Eq. 1: a canonical texture as the photo's camera sees it, and the way back.

Grids are in the units of `grid_sample` with aligned corners: -1 and 1 are the centres of the first and the
last pixel.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from g2s_cli.geometry.camera import Camera, canonical_to_view, project_points, unproject_points, view_to_canonical
from g2s_cli.geometry.rasterizer import VIEW_FAR, render_depth


def normalize_pixels(pixels: Float[Tensor, "b h w 2"], camera: Camera) -> Float[Tensor, "b h w 2"]:
    """Pixel coordinates as sampling-grid coordinates."""
    return pixels / camera.centre - 1


def identity_grid(size: int, device: torch.device) -> Float[Tensor, "1 h w 2"]:
    """The grid that samples a square map as it is."""
    ticks = torch.linspace(-1, 1, size, device=device)
    y, x = torch.meshgrid(ticks, ticks, indexing="ij")
    return torch.stack((x, y), dim=-1).unsqueeze(0)


def forward_grid(depth: Float[Tensor, "b h w"], view: Float[Tensor, "b 6"], camera: Camera) -> Float[Tensor, "b h w 2"]:
    """Where each canonical pixel lands in the view (Eq. 5): samples a photo's map into the canonical frame."""
    return normalize_pixels(
        project_points(canonical_to_view(unproject_points(depth, camera), view, camera), camera), camera
    )


def inverse_grid(
    seen_depth: Float[Tensor, "b h w"], view: Float[Tensor, "b 6"], camera: Camera
) -> Float[Tensor, "b h w 2"]:
    """Where in the canonical texture each pixel of the view looks, given the depth seen there (A.2.1, η⁻¹)."""
    return normalize_pixels(
        project_points(view_to_canonical(unproject_points(seen_depth, camera), view, camera), camera), camera
    )


def grid_sample(
    maps: Float[Tensor, "b c h w"],
    grid: Float[Tensor, "b v u 2"],
    padding_mode: Literal["zeros", "border"] = "zeros",
    mode: Literal["bilinear", "bicubic"] = "bilinear",
) -> Float[Tensor, "b c v u"]:
    """Samples of maps at a grid; outside the maps zero, or what their border has. Bicubic ones keep more detail."""
    return functional.grid_sample(maps, grid, mode=mode, padding_mode=padding_mode, align_corners=True)


def warp(
    texture: Float[Tensor, "b c h w"],
    depth: Float[Tensor, "b h w"],
    view: Float[Tensor, "b 6"],
    camera: Camera,
) -> tuple[Float[Tensor, "b c h w"], Bool[Tensor, "b h w"]]:
    """A canonical texture on a canonical relief, seen from a view; and where the relief is seen at all.

    Differentiable with respect to texture, depth and view; the mask is not.
    """
    grid, valid = view_grid(depth, view, camera)
    return grid_sample(texture, grid), valid


def view_grid(
    depth: Float[Tensor, "b h w"], view: Float[Tensor, "b 6"], camera: Camera
) -> tuple[Float[Tensor, "b h w 2"], Bool[Tensor, "b h w"]]:
    """Where in a texture on a canonical relief each pixel of a view looks, and where it sees the relief at all."""
    seen = render_depth(depth, view, camera)
    return inverse_grid(seen, view, camera), (seen < VIEW_FAR).detach()


def hflip(maps: Float[Tensor, "*b h w"]) -> Float[Tensor, "*b h w"]:
    """Left and right swapped: the other half of a symmetric object."""
    return torch.flip(maps, dims=(-1,))


def symmetrize(maps: Float[Tensor, "*b h w"]) -> Float[Tensor, "*b h w"]:
    """The mean of a map and its mirror image."""
    return (maps + hflip(maps)) / 2
