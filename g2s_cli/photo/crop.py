"""Resample a square of a photo; pixels beyond its edges are mirrored or black."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from g2s_cli.geometry.placement import Placement

Padding = Literal["reflect", "black"]

MARGIN_PX = 7  # read by shrinking and interpolation beyond a crop's own pixels
MIN_SHRINKING = 1.1  # below it bicubic interpolation alone does not alias visibly
COVERAGE_GRID = 64  # points a side that estimate the share outside the photo
MAX_ALIGNED_PX = 2048  # side of the crop that textures are made from
MAX_MATTE_PX = 3072  # a side


@dataclass(frozen=True)
class Matte:
    """The soft mask of an object in a square around a crop, mirrored beyond the photo's edges.

    span: side of the square, in sides of the crop.
    """

    alpha: UInt8[np.ndarray, "n n"]
    span: float


def crop_matte(mask: Image.Image, placement: Placement, span: float) -> Matte:
    """The matte of a whole photo's mask (grey, white is the object) around a crop."""
    wide = replace(placement, side=placement.side * span)
    return Matte(np.array(crop_photo(mask, wide, min(round(wide.side), MAX_MATTE_PX))), span)


def aligned_size(placement: Placement, size: int) -> int:
    """Side of a crop at the photo's resolution, in pixels; `size` at least."""
    return min(max(round(placement.side), size), MAX_ALIGNED_PX)


def crop_photo(image: Image.Image, placement: Placement, size: int, padding: Padding = "reflect") -> Image.Image:
    """Resample a square of a photo.

    Args:
        size: of the result, in pixels a side.
        padding: what lies beyond the photo's edges.
    """
    corners = placement.to_photo(np.array(((0, 0), (1, 0), (0, 1), (1, 1)), dtype=float))
    left, top = (math.floor(at) - MARGIN_PX for at in corners.min(axis=0))
    right, bottom = (math.ceil(at) + MARGIN_PX + 1 for at in corners.max(axis=0))
    if placement.turn_rad == 0:
        # An upright box: the filter may read the photo's pixels around it.
        left, top = min(left, 0), min(top, 0)
        right, bottom = max(right, image.width), max(bottom, image.height)
    inside = (max(left, 0), max(top, 0), min(right, image.width), min(bottom, image.height))
    part = image if inside == (0, 0, *image.size) else image.crop(inside)
    if (left, top, right, bottom) != inside:
        rows, columns = (inside[1] - top, bottom - inside[3]), (inside[0] - left, right - inside[2])
        widths = (rows, columns, (0, 0))[: 3 if part.mode == "RGB" else 2]
        part = Image.fromarray(np.pad(np.asarray(part), widths, "reflect" if padding == "reflect" else "constant"))
    shifted = Placement(placement.x - left, placement.y - top, placement.side, placement.turn_rad)
    return _resize_box(part, shifted, size) if placement.turn_rad == 0 else _rotate_crop(part, shifted, size)


def resize_square(image: Image.Image, size: int) -> Image.Image:
    """A square image at another size."""
    return _resize_box(image, Placement.from_box(0, 0, image.width), size)


def share_outside(placement: Placement, width: int, height: int) -> float:
    """The share of a square's area that lies beyond a photo of this size."""
    ticks = (np.arange(COVERAGE_GRID) + 0.5) / COVERAGE_GRID
    points = placement.to_photo(np.stack(np.meshgrid(ticks, ticks), axis=-1)) + 0.5
    outside = (points < 0) | (points > (width, height))
    return outside.any(axis=-1).mean().item()


def _resize_box(image: Image.Image, placement: Placement, size: int) -> Image.Image:
    left, top = (at + 0.5 - placement.side / 2 for at in (placement.x, placement.y))
    # A box filter is the exact area average for whole factors; Pillow's bicubic filter widens its support when it
    # shrinks, so other factors do not alias either.
    is_whole = placement.side % size == left % 1 == top % 1 == 0
    method = Image.Resampling.BOX if is_whole else Image.Resampling.BICUBIC
    return image.resize((size, size), method, box=(left, top, left + placement.side, top + placement.side))


def _rotate_crop(image: Image.Image, placement: Placement, size: int) -> Image.Image:
    """Area averaging by a whole factor, shrinking by the rest of it, then bicubic interpolation."""
    step = max(1, math.floor(placement.side / size))
    if step > 1:
        image, placement = image.reduce(step), placement.scale(1 / step)
    if (rest := placement.side / size) > MIN_SHRINKING:
        width, height = (math.floor(side / rest) for side in image.size)
        box = (0, 0, width * rest, height * rest)
        image, placement = image.resize((width, height), Image.Resampling.BICUBIC, box), placement.scale(1 / rest)
    matrix = placement.matrix(size)
    # Pillow counts from a pixel's corner, on both sides.
    shift = matrix[:, 2] + 0.5 - matrix[:, :2].sum(axis=1) / 2
    affine = (*matrix[0, :2], shift[0], *matrix[1, :2], shift[1])
    return image.transform((size, size), Image.Transform.AFFINE, affine, Image.Resampling.BICUBIC)
