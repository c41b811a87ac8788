"""The canonical depth at a finer resolution than the networks', cut out along the photo's silhouette."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate, max_pool2d, pad

from g2s_cli.geometry.camera import Camera, canonical_to_view, unproject_points
from g2s_cli.geometry.factors import Factors
from g2s_cli.geometry.normals import limit_slope
from g2s_cli.geometry.resample import resize_bspline
from g2s_cli.geometry.warp import grid_sample, hflip, points_to_grid

# Slope limit at and outside the silhouette, below `extract.MAX_BOUNDARY_SLOPE_DEG`.
MAX_SLOPE_DEG = 75.0

# How far outside the photo a point may project and still take the mask of the photo's edge, pixels of the networks'.
EDGE_PX = 1.0


@dataclass(frozen=True)
class SilhouetteMask:
    """The object in the photo, at any resolution, from 0 to 1.

    symmetric: left and right of the object are alike.
    extend: an object that the photo cuts off above or below continues there, as far as the margin reaches.
    completed: with `symmetric`, each side completes the mask of the other: in a tight crop the far cheek of a turned
        head would end ragged, where the photo does not show it.
    support: where the canonical depth is known, pixel for pixel; None is everywhere.
    """

    mask: Float[Tensor, "n n"]
    symmetric: bool
    extend: bool = False
    completed: bool = True
    support: Float[Tensor, "h h"] | None = None


@dataclass(frozen=True)
class CanonicalDepth:
    """A canonical depth map and the object in it (0 to 1); the camera covers the canonical frame and its margin."""

    depth: Float[Tensor, "g g"]
    mask: Float[Tensor, "g g"]
    camera: Camera


def refine_depth(factors: Factors, object_mask: SilhouetteMask, camera: Camera, size: int) -> CanonicalDepth:
    """Resample the canonical depth to a grid of `size` points a side, margin included.

    Inside, the surface is the spline through the networks' depths. At the silhouette it follows the depths inside:
    those outside may belong to something far behind and would bend it back.
    """
    wide = camera.with_margin()
    depth = pad(factors.depth[None], (camera.margin_px,) * 4, mode="replicate")[0]
    mask = canonical_object_mask(depth, wide, factors, object_mask, camera)
    limited = limit_slope(depth, torch.ones_like(depth, dtype=torch.bool), wide, MAX_SLOPE_DEG)
    inside = -max_pool2d(-mask[None], 3, 1, 1)[0] >= 0.5
    depth = resize_bspline(torch.where(inside, depth, limited)[None], size)[0]
    fine = wide.resize(size)
    return CanonicalDepth(depth, canonical_object_mask(depth, fine, factors, object_mask, camera), fine)


def canonical_object_mask(
    depth: Float[Tensor, "g g"], canonical: Camera, factors: Factors, object_mask: SilhouetteMask, camera: Camera
) -> Float[Tensor, "g g"]:
    """Sample the object mask where each point of a canonical depth map (of its own camera) projects to in the photo."""
    points = canonical_to_view(unproject_points(depth[None], canonical), factors.view[None], canonical)
    return sample_object_mask(
        points_to_grid(points, camera.resize(len(object_mask.mask))), canonical, object_mask, camera
    )


def sample_object_mask(
    grid: Float[Tensor, "1 g g 2"], canonical: Camera, object_mask: SilhouetteMask, camera: Camera
) -> Float[Tensor, "g g"]:
    """Sample the object mask at grid coordinates of the photo, one for each pixel of the canonical camera."""
    # The surface is cut off a little outside the photo's edge.
    limit = 1 + EDGE_PX / camera.centre
    grid = torch.where(grid.abs() <= limit, grid.clamp(-1, 1), grid)
    if object_mask.extend:
        grid[..., 1].clamp_(-1, 1)
    mask = grid_sample(object_mask.mask[None, None], grid)[0, 0]
    if object_mask.symmetric and object_mask.completed:
        mask = torch.maximum(mask, hflip(mask))
    if object_mask.support is not None:
        known = pad(object_mask.support[None, None], (camera.margin_px,) * 4)
        mask = mask * interpolate(known, size=mask.shape, mode="bilinear", align_corners=False)[0, 0]
    # Nothing beside the canonical frame: an ear would be drawn out to a streak.
    ticks = torch.arange(canonical.size, device=mask.device) - canonical.centre
    return mask * (ticks.abs() / canonical.focal <= camera.size / 2 / camera.focal)
