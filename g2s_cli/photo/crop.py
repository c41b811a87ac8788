"""Cutting a placed square out of a photo, filled by reflection where it reaches beyond the photo's edges."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from PIL import Image

from g2s_cli.geometry.placement import Placement

Beyond = Literal["reflect", "black"]

MARGIN_PX = 3  # that interpolation looks beyond a crop's own pixels
OUTSIDE_GRID = 64  # points a side at which the share outside the photo is counted


def cut(picture: Image.Image, placement: Placement, size: int, beyond: Beyond = "reflect") -> Image.Image:
    """The square at `size` pixels a side. What lies beyond the photo mirrors it, or is black."""
    corners = placement.to_photo(np.array(((0, 0), (1, 0), (0, 1), (1, 1)), dtype=float))
    left, top = (math.floor(at) - MARGIN_PX for at in corners.min(axis=0))
    right, bottom = (math.ceil(at) + MARGIN_PX + 1 for at in corners.max(axis=0))
    if placement.turn_rad == 0:
        # Nothing but a box of the photo: what lies around it within the photo may serve the filter.
        left, top = min(left, 0), min(top, 0)
        right, bottom = max(right, picture.width), max(bottom, picture.height)
    inside = (max(left, 0), max(top, 0), min(right, picture.width), min(bottom, picture.height))
    part = picture if inside == (0, 0, *picture.size) else picture.crop(inside)
    if (left, top, right, bottom) != inside:
        rows, columns = (inside[1] - top, bottom - inside[3]), (inside[0] - left, right - inside[2])
        around = (rows, columns, (0, 0))[: 3 if part.mode == "RGB" else 2]
        part = Image.fromarray(np.pad(np.asarray(part), around, "reflect" if beyond == "reflect" else "constant"))
    moved = Placement(placement.x - left, placement.y - top, placement.side, placement.turn_rad)
    return _box(part, moved, size) if placement.turn_rad == 0 else _turned(part, moved, size)


def resized(square: Image.Image, size: int) -> Image.Image:
    """A square picture at another size."""
    return _box(square, Placement.from_box(0, 0, square.width), size)


def share_outside(placement: Placement, width: int, height: int) -> float:
    """How much of the square lies beyond the photo."""
    ticks = (np.arange(OUTSIDE_GRID) + 0.5) / OUTSIDE_GRID
    points = placement.to_photo(np.stack(np.meshgrid(ticks, ticks), axis=-1)) + 0.5
    outside = (points < 0) | (points > (width, height))
    return outside.any(axis=-1).mean().item()


def _box(picture: Image.Image, placement: Placement, size: int) -> Image.Image:
    left, top = (at + 0.5 - placement.side / 2 for at in (placement.x, placement.y))
    # A box filter is the exact area average when whole pixels fall together; Pillow's bicubic widens its
    # support when it shrinks, so the other factors do not alias either.
    whole = placement.side % size == left % 1 == top % 1 == 0
    method = Image.Resampling.BOX if whole else Image.Resampling.BICUBIC
    return picture.resize((size, size), method, box=(left, top, left + placement.side, top + placement.side))


def _turned(picture: Image.Image, placement: Placement, size: int) -> Image.Image:
    """By interpolation, after averaging as far down as leaves it something to do."""
    step = max(1, math.floor(placement.side / size))
    if step > 1:
        picture, placement = picture.reduce(step), placement.scale(1 / step)
    finer = 2 if placement.side > 1.1 * size else 1
    columns = placement.matrix(size * finer)
    # Pillow counts from a pixel's corner, on both sides.
    shift = columns[:, 2] + 0.5 - columns[:, :2].sum(axis=1) / 2
    affine = (*columns[0, :2], shift[0], *columns[1, :2], shift[1])
    turned = picture.transform((size * finer,) * 2, Image.Transform.AFFINE, affine, Image.Resampling.BICUBIC)
    return turned.reduce(finer) if finer > 1 else turned
