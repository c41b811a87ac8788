"""The warp Π of paper Eq. 1 between the canonical frame and the photo's view, and its sampling grids.

Grids are those of `torch.nn.functional.grid_sample` with align_corners=True (see `geometry.camera`).
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from g2s_cli.geometry.camera import Camera, canonical_to_view, project_points, unproject_points, view_to_canonical
from g2s_cli.geometry.rasterizer import has_surface, render_depth


def normalize_pixels(pixels: Float[Tensor, "*b 2"], camera: Camera) -> Float[Tensor, "*b 2"]:
    """Pixel coordinates as grid coordinates."""
    return pixels / camera.centre - 1


def points_to_grid(points: Float[Tensor, "*b 3"], camera: Camera) -> Float[Tensor, "*b 2"]:
    """Project points of the camera's frame to grid coordinates."""
    return normalize_pixels(project_points(points, camera), camera)


def identity_grid(size: int, device: torch.device) -> Float[Tensor, "1 h w 2"]:
    """The grid that samples every pixel at its own place."""
    ticks = torch.linspace(-1, 1, size, device=device)
    y, x = torch.meshgrid(ticks, ticks, indexing="ij")
    return torch.stack((x, y), dim=-1).unsqueeze(0)


def forward_grid(depth: Float[Tensor, "b h w"], view: Float[Tensor, "b 6"], camera: Camera) -> Float[Tensor, "b h w 2"]:
    """The grid that samples a map of the photo in the canonical frame (Eq. 5). depth: canonical."""
    return points_to_grid(canonical_to_view(unproject_points(depth, camera), view, camera), camera)


def inverse_grid(
    view_depth: Float[Tensor, "b h w"], view: Float[Tensor, "b 6"], camera: Camera
) -> Float[Tensor, "b h w 2"]:
    """The grid that samples a canonical map in the view (A.2.1, η⁻¹). view_depth: depth in the view."""
    return points_to_grid(view_to_canonical(unproject_points(view_depth, camera), view, camera), camera)


def view_grid(
    depth: Float[Tensor, "b h w"], view: Float[Tensor, "b 6"], camera: Camera
) -> tuple[Float[Tensor, "b h w 2"], Bool[Tensor, "b h w"]]:
    """The `inverse_grid` of a canonical depth map, and where the view shows a surface."""
    view_depth = render_depth(depth, view, camera)
    return inverse_grid(view_depth, view, camera), has_surface(view_depth).detach()


def warp(
    texture: Float[Tensor, "b c h w"], depth: Float[Tensor, "b h w"], view: Float[Tensor, "b 6"], camera: Camera
) -> tuple[Float[Tensor, "b c h w"], Bool[Tensor, "b h w"]]:
    """Warp a canonical texture to a view, differentiably; also returns where the view shows a surface."""
    grid, valid = view_grid(depth, view, camera)
    return grid_sample(texture, grid), valid


def grid_sample(
    maps: Float[Tensor, "b c h w"],
    grid: Float[Tensor, "b v u 2"],
    padding_mode: Literal["zeros", "border"] = "zeros",
    mode: Literal["bilinear", "bicubic"] = "bilinear",
) -> Float[Tensor, "b c v u"]:
    """`torch.nn.functional.grid_sample` with align_corners=True."""
    return functional.grid_sample(maps, grid, mode=mode, padding_mode=padding_mode, align_corners=True)


def hflip(maps: Float[Tensor, "*b h w"]) -> Float[Tensor, "*b h w"]:
    """Mirror left and right."""
    return torch.flip(maps, dims=(-1,))


def symmetrize(maps: Float[Tensor, "*b h w"]) -> Float[Tensor, "*b h w"]:
    """The mean of a map and its mirror image."""
    return (maps + hflip(maps)) / 2
