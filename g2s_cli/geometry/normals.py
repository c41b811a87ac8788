"""Surface normals of a depth map, and its smoothness."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import max_pool2d, pad

from g2s_cli.geometry.camera import Camera, unproject_points

# Added to the length before dividing, as the authors do. It shortens the normals of a 64 px map by about 0.3 %. Their
# networks were trained with it, so their light keeps its meaning only with it.
LENGTH_FLOOR = 1e-7


def depth_to_normals(
    depth: Float[Tensor, "b h w"], camera: Camera, length_floor: float = LENGTH_FLOOR
) -> Float[Tensor, "b h w 3"]:
    """Normals of a depth map in its own frame: `points_to_normals` of the unprojected points."""
    return points_to_normals(unproject_points(depth, camera), length_floor)


def points_to_normals(points: Float[Tensor, "b h w 3"], length_floor: float = LENGTH_FLOOR) -> Float[Tensor, "b h w 3"]:
    """Normals of a grid of points by central differences, n = t_u × t_v, with t_u along rows and t_v down columns.

    They point away from the viewer (see `geometry.camera`) and are (0, 0, 1) at the outermost pixels. On grids much
    finer than the networks' the default `length_floor` would outweigh the length.
    """
    along_row = points[:, 1:-1, 2:] - points[:, 1:-1, :-2]
    down_column = points[:, 2:, 1:-1] - points[:, :-2, 1:-1]
    cross = torch.linalg.cross(along_row, down_column)
    normal = torch.zeros_like(points)
    normal[..., 2] = 1.0
    normal[:, 1:-1, 1:-1] = cross / (cross.norm(dim=-1, keepdim=True) + length_floor)
    return normal


def replicate_border(maps: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """Replace the outermost pixels, where `depth_to_normals` has no normals, by their inner neighbours."""
    return pad(maps[..., 1:-1, 1:-1], (1,) * 4, mode="replicate")


def smoothness_loss(maps: Float[Tensor, "b *c h w"]) -> Float[Tensor, ""]:
    """Sum of the mean absolute second differences xx, xy, yx, yy (Zhou et al. 2017; paper Eq. 3)."""
    dx, dy = maps.diff(dim=-1), maps.diff(dim=-2)
    seconds = (dx.diff(dim=-1), dx.diff(dim=-2), dy.diff(dim=-1), dy.diff(dim=-2))
    return sum((second.abs().mean() for second in seconds), start=maps.new_zeros(()))


def limit_slope(
    depth: Float[Tensor, "h w"], mask: Bool[Tensor, "h w"], camera: Camera, max_deg: float, iterations: int = 4
) -> Float[Tensor, "h w"]:
    """Limit how steeply depth recedes from one pixel of the mask to the next.

    A surface at a grazing angle covers hardly a pixel. Where the outline of the depth and that of the mask differ by a
    pixel, the depth there belongs to something far behind.

    Args:
        depth: scene units; it only comes nearer.
        max_deg: largest angle between the surface and the image plane.
        iterations: width in pixels of the widest band that is corrected.
    """
    pixel = depth[mask].mean() / camera.focal if mask.any() else depth.new_zeros(())
    step = math.tan(math.radians(max_deg)) * pixel
    limited = torch.where(mask, depth, torch.inf)
    for _ in range(iterations):
        limited = torch.minimum(limited, -max_pool2d(-limited[None, None], 3, 1, 1)[0, 0] + step)
    return torch.where(mask, limited, depth)
