"""The surface a depth map describes: its normals, and how smooth it is."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import max_pool2d, pad

from g2s_cli.geometry.camera import Camera, back_project
from g2s_cli.geometry.resample import averaged

# Added to the length before dividing, as the authors do. It shortens the normals of a 64 px map by about
# 0.3 %; their networks learnt with it, so their light means the same here only if we keep it.
LENGTH_FLOOR = 1e-7
# Solid things turn away from the camera where they end: by so much, in scene units, where half of what is around is
# surroundings, felt over windows of so many shares of the picture's side. Found on the training images
# (docs/experiments/outlines.md).
TURNED_AWAY, FELT = 0.005, 3 / 64


def normals(
    depth: Float[Tensor, "b h w"], camera: Camera, length_floor: float = LENGTH_FLOOR
) -> Float[Tensor, "b h w 3"]:
    """Normals of a depth map, in its own frame, by central differences of the lifted points.

    n = t_u × t_v, with t_u along the rows and t_v down the columns; the outermost pixels get (0, 0, 1).
    A surface facing the camera has n_z > 0: the authors' normal points *away* from the viewer, and so does
    their light (see `scene.light`); we keep the sign so that their networks mean the same here. On grids much
    finer than their networks', where the floor would outweigh the length, name a smaller one.
    """
    return normals_of(back_project(depth, camera), length_floor)


def normals_of(points: Float[Tensor, "b h w 3"], length_floor: float = LENGTH_FLOOR) -> Float[Tensor, "b h w 3"]:
    """As `normals`, of a grid of points wherever they lie."""
    along_row = points[:, 1:-1, 2:] - points[:, 1:-1, :-2]
    down_column = points[:, 2:, 1:-1] - points[:, :-2, 1:-1]
    cross = torch.linalg.cross(along_row, down_column)
    inner = cross / (cross.norm(dim=-1, keepdim=True) + length_floor)
    normal = torch.zeros_like(points)
    normal[..., 2] = 1.0
    normal[:, 1:-1, 1:-1] = inner
    return normal


def to_the_rim(maps: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """Maps that are made of `normals`: the outermost, which are not the surface's, become what their neighbours are."""
    return pad(maps[..., 1:-1, 1:-1], (1,) * 4, mode="replicate")


def roughness(maps: Float[Tensor, "b *c h w"]) -> Float[Tensor, ""]:
    """Mean absolute second differences (xx, xy, yx, yy): the smoothness loss of Zhou et al. (paper Eq. 3)."""
    dx, dy = maps.diff(dim=-1), maps.diff(dim=-2)
    return sum(
        (second.abs().mean() for second in (dx.diff(dim=-1), dx.diff(dim=-2), dy.diff(dim=-1), dy.diff(dim=-2))),
        start=maps.new_zeros(()),
    )


def held_to_slope(
    depth: Float[Tensor, "h w"], mask: Bool[Tensor, "h w"], camera: Camera, steepest_deg: float, rounds: int = 4
) -> Float[Tensor, "h w"]:
    """Depth that recedes no more steeply than this from one pixel of the mask to the next.

    A surface seen at a grazing angle hardly covers a pixel, so where the outline of a relief and that of a photo
    differ by a pixel, what is read there lies far behind the rim. Depths come nearer, never farther; what is wrong
    for more than `rounds` pixels stays.
    """
    pixel = depth[mask].mean() / camera.focal if mask.any() else depth.new_zeros(())
    step = math.tan(math.radians(steepest_deg)) * pixel
    held = torch.where(mask, depth, torch.inf)
    for _ in range(rounds):
        held = torch.minimum(held, -max_pool2d(-held[None, None], 3, 1, 1)[0, 0] + step)
    return torch.where(mask, held, depth)


def turned_away(mask: Bool[Tensor, "h w"]) -> Float[Tensor, "h w"]:
    """How much farther a solid object lies near its outline than a relief learnt from pictures has it, in scene units.

    Of the slant of their last pixels pictures say little. The picture's edge is no outline.
    """
    reach = max(1, round(FELT * mask.shape[-1]))
    around = averaged(averaged(1 - mask.float()[None], reach), reach)[0]
    return 2 * TURNED_AWAY * around
