"""Lessons in shape: faces as the networks have them, reshaped at random, and rendered with the pictures' own pixels.

What explains pictures best on the whole is a mean head: the networks hardly tell people apart
(docs/experiments/accuracy-bound.md). So D also learns to read off a picture what was done to the shape that it shows:
wider, longer, larger, deeper, with a sharper step from chin to neck. Nothing here is known of true shapes; whatever is
rendered is the networks' own.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate, pad

from g2s_cli.config import LightRanges
from g2s_cli.estimators.base import MaskedImages
from g2s_cli.estimators.factor_codes import BORDER_COLUMNS, depth_from_raw, raw_from_depth
from g2s_cli.estimators.feedforward import Canonical, FactorNets
from g2s_cli.gan.losses import depth_and_slope_distance
from g2s_cli.geometry.camera import Camera, canonical_to_view, unproject_points
from g2s_cli.geometry.normals import depth_to_normals
from g2s_cli.geometry.rasterizer import render_depth
from g2s_cli.geometry.resample import tent_blur
from g2s_cli.geometry.shading import diffuse_shading, lambert_shading, remove_shading
from g2s_cli.geometry.warp import forward_grid, grid_sample, hflip, identity_grid, symmetrize
from recipes.synface.explaining import Lesson, Terms, canonical_of, lesson_of, mask_to_canonical, misreading

# Standard deviations: of a shift in shares of half the frame, of the logarithms of size and relief, of raw depth.
SHIFT, SIZE, RELIEF, ADDED = 0.05, 0.08, 0.15, 0.04
CELLS = 4  # smooth fields are enlarged from so many random numbers a side
SHARPEST = (-0.5, 1.5)  # how much of what a blur takes away is added again, least and most
BLUR_SHARE = 20  # the blur reaches this share of the frame to each side, twice
OWN_PIXELS = 0.7  # how often a face has the pixels of its picture; otherwise the albedo that A says
OCCLUDED = 0.006  # scene units behind what is seen
CLEARLY = 0.3  # of what the other half shows of a point: a half that shows less borrows the other's pixels
LITTLE = 0.03  # weight of what A says among pixels
DARKEST = 0.15  # shading that pixels are divided by, at the least

DEPTH_WEIGHT, SLOPE_WEIGHT, ALBEDO_WEIGHT = 1.0, 10.0, 0.3


@dataclass(frozen=True)
class ShapeLesson:
    """A lesson, and the shape that it shows.

    canonical: what was rendered. mask: where of it there is an object, 0 or 1.
    """

    lesson: Lesson
    canonical: Canonical
    mask: Float[Tensor, "b 1 h w"]


@torch.no_grad()
def shape_lesson(
    teacher: FactorNets, faces: MaskedImages, views: int, lights: LightRanges, rng: torch.Generator
) -> ShapeLesson:
    """The faces as the teacher has them, each reshaped by itself, under random views and lights.

    faces: `views` of each, one after the other; the first says what the shape is.
    """
    camera = teacher.camera
    known = canonical_of(teacher, faces, views)
    view, light = teacher.view_of(faces.image), teacher.light_of(faces.image)
    lot = (torch.rand(len(view), 1, 1, 1, generator=rng) < OWN_PIXELS).to(view.device)
    albedo = torch.where(lot, own_pixels(known, faces, view, light, camera), known.albedo)
    mask = mask_to_canonical(known, view, faces.mask, camera)
    canonical, mask = reshaped(Canonical(known.depth, albedo), mask, camera, rng)
    return ShapeLesson(lesson_of(canonical, mask, camera, lights, rng), canonical, mask)


def misshaping(nets: FactorNets, asked: ShapeLesson) -> Terms:
    """How far from the truth is what D, A, V and L say of a lesson in shape.

    Depth without its mean over the object, which no picture tells, and its differences to the right and downwards. The
    border columns, where every relief is a wall, are left out.
    """
    mask = pad(asked.mask[:, 0, :, BORDER_COLUMNS:-BORDER_COLUMNS], (BORDER_COLUMNS, BORDER_COLUMNS))
    shape, steps = depth_and_slope_distance(nets.depth_of(asked.lesson.image) - asked.canonical.depth, mask)
    colours = ((nets.albedo_of(asked.lesson.image) - asked.canonical.albedo) * asked.mask).abs().mean(dim=1).sum()
    return {
        "shape": DEPTH_WEIGHT * shape,
        "shape's slopes": SLOPE_WEIGHT * steps,
        "own albedo": ALBEDO_WEIGHT * colours / asked.mask.sum().clamp(min=1),
    } | misreading(nets, asked.lesson)


def reshaped(
    canonical: Canonical, mask: Float[Tensor, "b 1 h w"], camera: Camera, rng: torch.Generator
) -> tuple[Canonical, Float[Tensor, "b 1 h w"]]:
    """Canonical objects, each changed at random alike in both halves; and what is object of them now, 0 or 1.

    Relief, albedo and mask move together by a smooth shift and a change of size, which the relief follows in depth.
    Relief alone is made sharper or smoother, deeper or flatter, and gets a smooth change of its own.
    """
    count, device = len(mask), mask.device

    def drawn(spread: float) -> Float[Tensor, "b 1 1 1"]:
        return (spread * torch.randn(count, 1, 1, 1, generator=rng)).to(device)

    size = drawn(SIZE).exp()
    across, down = (SHIFT * _smooth_field(count, camera.size, rng, device, sign) for sign in (-1, 1))
    x, y = identity_grid(camera.size, device)[0].unbind(dim=-1)
    grid = torch.cat((x / size + across, y / size + down), dim=1).permute(0, 2, 3, 1)

    raw = raw_from_depth(canonical.depth, camera).unsqueeze(1)
    level = raw.mean(dim=(2, 3))
    raw = pad(raw[..., BORDER_COLUMNS:-BORDER_COLUMNS], (BORDER_COLUMNS, BORDER_COLUMNS, 0, 0), mode="replicate")
    least, most = SHARPEST
    sharper = (least + (most - least) * torch.rand(count, 1, 1, 1, generator=rng)).to(device)
    raw = raw + sharper * (raw - tent_blur(raw, camera.size // BLUR_SHARE))
    moved = grid_sample(torch.cat((raw, canonical.albedo, mask), dim=1), grid, padding_mode="border")
    relief = moved[:, :1] - moved[:, :1].mean(dim=(2, 3), keepdim=True)
    relief = relief * size * drawn(RELIEF).exp() + ADDED * _smooth_field(count, camera.size, rng, device, 1)
    depth = depth_from_raw(relief[:, 0], level[..., None].expand(-1, *canonical.depth.shape[1:]), camera)
    return Canonical(depth, moved[:, 1:4]), (moved[:, 4:] > 0.5).float()


def own_pixels(
    canonical: Canonical,
    faces: MaskedImages,
    view: Float[Tensor, "b 6"],
    light: Float[Tensor, "b 4"],
    camera: Camera,
) -> Float[Tensor, "b 3 h w"]:
    """Albedo made of the faces' pixels, less their light; what A says where no pixel shows it.

    Each half has its own pixels, except where the other shows a point far better. So the two may differ, as they do in
    pictures; A, which says equal halves, can be right about their middle alone.
    """
    grid = forward_grid(canonical.depth, view, camera)
    found = grid_sample(torch.cat((faces.image, faces.mask), dim=1), grid)
    shading = lambert_shading(diffuse_shading(depth_to_normals(canonical.depth, camera), light), light)
    bare = remove_shading(found[:, :3], shading.clamp(min=DARKEST)).clamp(-1, 1)
    nearest = grid_sample(render_depth(canonical.depth, view, camera).unsqueeze(1), grid)[:, 0]
    behind = canonical_to_view(unproject_points(canonical.depth, camera), view, camera)[..., 2] - nearest
    width = pad(grid[..., 0].diff(dim=-1) * camera.centre, (0, 1)).clamp(0, 1)  # pixels of the picture a point has
    shown = ((behind < OCCLUDED) & (found[:, 3] > 0.99)).float() * width.square()
    shown = shown.unsqueeze(1)
    shown = avg_pool2d(shown, 3, 1, 1) * (shown > 0)
    better = shown > CLEARLY * hflip(shown)
    own, other = torch.where(better, shown, 0.0), torch.where(better, 0.0, hflip(shown))
    return (own * bare + other * hflip(bare) + LITTLE * canonical.albedo) / (own + other + LITTLE)


def _smooth_field(
    count: int, size: int, rng: torch.Generator, device: torch.device, sign: int
) -> Float[Tensor, "b 1 h w"]:
    """Random fields of standard deviation near one whose halves are alike (sign 1) or opposite (sign -1)."""
    cells = torch.randn(count, 1, CELLS, CELLS, generator=rng).to(device)
    field = interpolate(cells, (size, size), mode="bicubic", align_corners=True)
    return (symmetrize(field) if sign > 0 else field - symmetrize(field)) * 2**0.5
