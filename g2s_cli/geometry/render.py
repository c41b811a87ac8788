"""The renderer Φ of paper Eq. 1: factors in, the image and all its maps in the photo's view out."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from g2s_cli.geometry.camera import Camera, rotation_matrix
from g2s_cli.geometry.factors import Factors
from g2s_cli.geometry.normals import depth_to_normals, limit_slope, replicate_border
from g2s_cli.geometry.rasterizer import has_surface, render_depth
from g2s_cli.geometry.shading import apply_shading, diffuse_shading, lambert_shading
from g2s_cli.geometry.warp import forward_grid, grid_sample, inverse_grid

# The slope limit of `photo_depth` at yaw 0, and how much it falls a degree of yaw: behind the far cheek of a turned
# head the canonical surface continues far away. Tuned on the training images (docs/experiments/outlines.md).
MAX_SLOPE_DEG, SLOPE_PER_YAW = 88.0, 0.2
GREY, STUDIO_LIGHT = 0.6, (0.3, 0.65, -0.3, -0.4)  # of `render_shape`: albedo; ambient, diffuse, l_x, l_y


@dataclass(frozen=True)
class Rendering:
    """The factors in the photo's view, pixel for pixel."""

    image: Float[Tensor, "3 h w"]  # in [-1, 1]
    depth: Float[Tensor, "h w"]  # scene units, 1.2 where there is no surface
    normal: Float[Tensor, "h w 3"]  # unit, in the photo's frame, n_z > 0 where it faces the camera (`geometry.camera`)
    albedo: Float[Tensor, "3 h w"]  # in [-1, 1]
    shading: Float[Tensor, "h w"]  # ambient + diffuse
    valid: Bool[Tensor, "h w"]  # where there is a surface


def render_depth_with_margin(
    depth: Float[Tensor, "b h w"], view: Float[Tensor, "b 6"], camera: Camera
) -> Float[Tensor, "b h w"]:
    """As `render_depth`, with the surface continued by the camera's margin, as pictures show it."""
    return render_depth(depth, view, camera, margin=camera.margin_px)


def render(factors: Factors, camera: Camera) -> Rendering:
    """Render the factors from their view, under their light."""
    depth, view, light = factors.depth[None], factors.view[None], factors.light[None]
    normal = depth_to_normals(depth, camera)
    shading = lambert_shading(diffuse_shading(normal, light), light)
    lit = apply_shading(factors.albedo[None], shading)
    view_depth = render_depth_with_margin(depth, view, camera)
    # Shading keeps the outermost normals of the networks, which face the camera; the normal map does not.
    facing = replicate_border(normal.permute(0, 3, 1, 2))
    maps = torch.cat((lit, factors.albedo[None], shading, facing), dim=1)
    maps = grid_sample(maps, inverse_grid(view_depth, view, camera), padding_mode="border")[0]
    rotated = torch.einsum("ij,jhw->hwi", rotation_matrix(view)[0], maps[7:])
    return Rendering(
        image=maps[:3].clamp(-1, 1),
        depth=view_depth[0],
        normal=rotated / rotated.norm(dim=-1, keepdim=True).clamp(min=1e-6),
        albedo=maps[3:6],
        shading=maps[6],
        valid=has_surface(view_depth[0]),
    )


def render_shape(factors: Factors, camera: Camera) -> Float[Tensor, "3 h w"]:
    """The shape in the photo's view, grey and lit from the upper left, in [-1, 1]; white where there is no surface."""
    grey = replace(factors, albedo=torch.full_like(factors.albedo, GREY), light=factors.light.new_tensor(STUDIO_LIGHT))
    rendering = render(grey, camera)
    return torch.where(rendering.valid, rendering.image, 1.0)


def photo_depth(
    rendering: Rendering, factors: Factors, mask: Float[Tensor, "h w"], camera: Camera
) -> Float[Tensor, "h w"]:
    """The final depth at every pixel of the photo's mask.

    The rendered depth plus its residual; without one, its slope is limited.

    Returns:
        Scene units, NaN outside the mask and where there is no surface.
    """
    inside, depth = mask >= 0.5, rendering.depth
    if factors.depth_residual is None:
        max_deg = MAX_SLOPE_DEG - SLOPE_PER_YAW * abs(math.degrees(factors.view[1].item()))
        depth = limit_slope(depth, inside, camera, max_deg)
    else:
        depth = torch.where(rendering.valid, depth + factors.depth_residual, depth)
    return torch.where(inside & has_surface(depth), depth, torch.nan)


def mask_to_canonical(mask: Float[Tensor, "h w"], factors: Factors, camera: Camera) -> Float[Tensor, "h w"]:
    """Warp a mask of the photo to the canonical frame."""
    grid = forward_grid(factors.depth[None], factors.view[None], camera)
    return grid_sample(mask[None, None], grid)[0, 0]


def mask_to_view(canonical: Float[Tensor, "h w"], factors: Factors, camera: Camera) -> Float[Tensor, "h w"]:
    """Warp a canonical mask to the factors' view, 0 to 1 with a soft edge.

    An object that the canonical frame cuts off continues above and below it (hair, a neck) but not beside it, where an
    ear would be drawn out to a streak.
    """
    depth, view = factors.depth[None], factors.view[None]
    view_depth = render_depth_with_margin(depth, view, camera)
    grid = inverse_grid(view_depth, view, camera)
    mask = grid_sample(canonical[None, None], grid, padding_mode="border")[0, 0]
    beside_px = (grid[0, ..., 0].abs() - 1).clamp(min=0) * camera.centre
    return mask * (1 - beside_px).clamp(min=0) * has_surface(view_depth[0])
