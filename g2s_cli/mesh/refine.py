"""The canonical relief at a finer resolution than the networks', cut out along the outline of the photo."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import max_pool2d, pad

from g2s_cli.geometry.camera import Camera, canonical_to_view, project_points, unproject_points
from g2s_cli.geometry.factors import Factors
from g2s_cli.geometry.normals import limit_slope
from g2s_cli.geometry.resample import resize_bspline
from g2s_cli.geometry.warp import grid_sample, hflip, normalize_pixels

# At the outline and outside the relief recedes no more steeply than this, clear of what is cut away as a curtain.
STEEPEST_DEG = 75.0

# How far outside the photo a point may land and still have what its edge shows, pixels of the networks'.
EDGE_PX = 1.0


@dataclass(frozen=True)
class ObjectMask:
    """What of the photo is object: a mask from 0 to 1 at any resolution, and whether the object's halves are alike.

    What one side shows of an object with equal halves, the other has. Otherwise the far cheek of a turned head
    ends ragged, where it disappears behind the photo's horizon.
    """

    mask: Float[Tensor, "n n"]
    symmetric: bool


@dataclass(frozen=True)
class CanonicalDepth:
    """A canonical depth map and what of it is object (0 to 1), seen by a canonical camera of their own.

    The camera covers the networks' frame and a margin about it, since a photo shows more of a turned object than
    that frame does.
    """

    depth: Float[Tensor, "g g"]
    mask: Float[Tensor, "g g"]
    camera: Camera


def refine_depth(
    factors: Factors, outline: ObjectMask, camera: Camera, size: int, *, extend: bool = False
) -> CanonicalDepth:
    """The relief on a grid of `size` points a side, margin and all.

    The surface inside is the smooth one through the networks' depths. At the outline it follows those inside:
    those outside may belong to something far behind, which would bend the rim back. extend: an object that the
    photo cuts off above or below goes on there, as far as the margin reaches.
    """
    wide = camera.with_margin()
    margin = (wide.size - camera.size) // 2
    depth = pad(factors.depth[None], (margin,) * 4, mode="replicate")[0]
    inside = canonical_object_mask(depth, wide, factors, outline, camera, extend=extend)
    held = limit_slope(depth, torch.ones_like(depth, dtype=torch.bool), wide, STEEPEST_DEG)
    certain = -max_pool2d(-inside[None], 3, 1, 1)[0] >= 0.5
    depth = resize_bspline(torch.where(certain, depth, held)[None], size)[0]
    fine = wide.resize(size)
    return CanonicalDepth(depth, canonical_object_mask(depth, fine, factors, outline, camera, extend=extend), fine)


def canonical_object_mask(
    depth: Float[Tensor, "g g"],
    canonical: Camera,
    factors: Factors,
    outline: ObjectMask,
    camera: Camera,
    *,
    extend: bool = False,
) -> Float[Tensor, "g g"]:
    """What of a canonical depth map is object: the outline's mask, looked up where each point lands in the photo."""
    view = factors.view[None]
    points = canonical_to_view(unproject_points(depth[None], canonical), view, canonical)
    seen_by = camera.resize(len(outline.mask))
    grid = normalize_pixels(project_points(points, seen_by), seen_by)
    # As far as the surface is cut at the photo's edge, it is cut a little outside.
    reach = 1 + EDGE_PX / camera.centre
    held = torch.where(grid.abs() <= reach, grid.clamp(-1, 1), grid)
    if extend:
        held[..., 1].clamp_(-1, 1)
    mask = grid_sample(outline.mask[None, None], held)[0, 0]
    if outline.symmetric:
        mask = torch.maximum(mask, hflip(mask))
    # Beside the networks' frame there is no depth; an ear would be drawn out to a streak.
    ticks = torch.arange(canonical.size, device=depth.device) - canonical.centre
    return mask * (ticks.abs() / canonical.focal <= camera.size / 2 / camera.focal)


def points_in_view(relief: CanonicalDepth, factors: Factors) -> Float[Tensor, "1 g g 3"]:
    """Every point of the relief in the photo's frame."""
    points = unproject_points(relief.depth[None], relief.camera)
    return canonical_to_view(points, factors.view[None], relief.camera)
