"""Φ of paper Eq. 1: factors in, the picture out, with every map in the photo's view."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from g2s_cli.geometry.camera import Camera, rotation
from g2s_cli.geometry.factors import Factors
from g2s_cli.geometry.normals import held_to_slope, normals, to_the_rim, turned_away
from g2s_cli.geometry.rasterizer import VIEW_FAR, visible_depth
from g2s_cli.geometry.shading import diffuse_shading, shade
from g2s_cli.geometry.warp import forward_grid, inverse_grid, sample

# A picture shows the relief going on beyond the canonical frame by this share of its size (one in ...).
RIM_SHARE = 8
# How steeply `photo_depth` may recede seen from the front, and how much less a degree of yaw: behind the far cheek of a
# turned head the relief goes on far away. Found on the training images (docs/experiments/outlines.md).
STEEPEST_SEEN_DEG, LESS_A_DEGREE = 88.0, 0.2


@dataclass(frozen=True)
class Rendering:
    """What the photo's camera sees of some factors, pixel for pixel.

    image, albedo: in [-1, 1]. depth: scene units along the viewing axis, 1.2 where nothing is seen. normal:
    in the photo's frame with the internal sign (z > 0 faces the viewer). shading: ambient + diffuse.
    valid: where the relief is seen.
    """

    image: Float[Tensor, "3 h w"]
    depth: Float[Tensor, "h w"]
    normal: Float[Tensor, "h w 3"]
    albedo: Float[Tensor, "3 h w"]
    shading: Float[Tensor, "h w"]
    valid: Bool[Tensor, "h w"]


def lit_texture(factors: Factors, camera: Camera) -> Float[Tensor, "3 h w"]:
    """The canonical albedo under the factors' light: Λ(d, a, l)."""
    light = factors.light[None]
    diffuse = diffuse_shading(normals(factors.depth[None], camera), light)
    return shade(factors.albedo[None], diffuse, light)[0]


def depth_with_rim(depth: Float[Tensor, "b h w"], view: Float[Tensor, "b 6"], camera: Camera) -> Float[Tensor, "b h w"]:
    """What a picture shows of canonical depths: as `visible_depth`, with what goes on beyond the canonical frame."""
    return visible_depth(depth, view, camera, margin=camera.size // RIM_SHARE)


def render(factors: Factors, camera: Camera) -> Rendering:
    """See the factors from their view, under their light."""
    depth, view, light = factors.depth[None], factors.view[None], factors.light[None]
    normal = normals(depth, camera)
    diffuse = diffuse_shading(normal, light)
    shading = light[:, 0, None, None] + light[:, 1, None, None] * diffuse
    lit = shade(factors.albedo[None], diffuse, light)
    seen = depth_with_rim(depth, view, camera)
    # The light of the networks has outermost normals that face the camera; what is shown goes on to the frame's border.
    facing = to_the_rim(normal.permute(0, 3, 1, 2))
    maps = torch.cat((lit, factors.albedo[None], shading[:, None], facing), dim=1)
    maps = sample(maps, inverse_grid(seen, view, camera), outside="border")[0]
    turned = torch.einsum("ij,jhw->hwi", rotation(view)[0], maps[7:])
    return Rendering(
        image=maps[:3].clamp(-1, 1),
        depth=seen[0],
        normal=turned / turned.norm(dim=-1, keepdim=True).clamp(min=1e-6),
        albedo=maps[3:6],
        shading=maps[6],
        valid=seen[0] < VIEW_FAR,
    )


def photo_depth(seen: Rendering, factors: Factors, mask: Float[Tensor, "h w"], camera: Camera) -> Float[Tensor, "h w"]:
    """The depth at every pixel of the photo's mask, in scene units; NaN outside it, and where no surface is near.

    What is known of it beside the relief counts here alone, and the surface turns away at the mask's outline. seen: of
    the factors, whose view says how far the slope of the surface is to be believed.
    """
    inside = mask >= 0.5
    steepest_deg = STEEPEST_SEEN_DEG - LESS_A_DEGREE * abs(math.degrees(factors.view[1].item()))
    depth = seen.depth if factors.apart is None else torch.where(seen.valid, seen.depth + factors.apart, seen.depth)
    held = held_to_slope(depth, inside, camera, steepest_deg)
    return torch.where(inside & (held < VIEW_FAR), held + turned_away(inside), torch.nan)


def canonical_mask(mask: Float[Tensor, "h w"], factors: Factors, camera: Camera) -> Float[Tensor, "h w"]:
    """A mask of the photo, looked up where each canonical point lands in it."""
    grid = forward_grid(factors.depth[None], factors.view[None], camera)
    return sample(mask[None, None], grid)[0, 0]


def warped_mask(canonical: Float[Tensor, "h w"], factors: Factors, camera: Camera) -> Float[Tensor, "h w"]:
    """A canonical mask as the factors' view shows it, from 0 to 1 with a soft rim.

    An object that the canonical frame cuts off goes on above and below it (hair, a neck), but not beside it: there
    an ear would be drawn out to a streak.
    """
    depth, view = factors.depth[None], factors.view[None]
    seen = depth_with_rim(depth, view, camera)
    grid = inverse_grid(seen, view, camera)
    mask = sample(canonical[None, None], grid, outside="border")[0, 0]
    beside_px = (grid[0, ..., 0].abs() - 1).clamp(min=0) * camera.centre
    return mask * (1 - beside_px).clamp(min=0) * (seen[0] < VIEW_FAR)


def on_white(image: Float[Tensor, "3 h w"], mask: Float[Tensor, "h w"]) -> Float[Tensor, "3 h w"]:
    """What the mask shows of an image, laid on white."""
    return image * mask + (1 - mask)
