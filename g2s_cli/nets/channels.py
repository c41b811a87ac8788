"""Arithmetic between maps and one number a channel, on channels-last memory.

Several pixels are taken as one long row, and the numbers repeated along it. Otherwise torch handles each pixel by
itself, and on CPUs, with 32 channels of bfloat16 or fewer, without vector instructions (benchmarks/README.md).
"""

from __future__ import annotations

import math

from jaxtyping import Float
from torch import Tensor

ROW = 1024  # numbers in a row, if the maps have as many


def scaled(maps: Float[Tensor, "b c h w"], scale: Float[Tensor, "b c"]) -> Float[Tensor, "b c h w"]:
    """Maps times one number a channel of each sample."""
    pixels = _pixels(maps)
    return _maps(_rows(maps, pixels) * scale.to(maps.dtype).repeat(1, pixels)[:, None], maps)


def shifted_(maps: Float[Tensor, "b c h w"], shift: Float[Tensor, "1 c s s"]) -> Float[Tensor, "b c h w"]:
    """Maps plus one number a channel (s = 1), or one a channel and pixel, in place."""
    if shift.shape[2:] == maps.shape[2:]:
        return maps.add_(shift)
    pixels = _pixels(maps)
    return _maps(_rows(maps, pixels).add_(shift.flatten().to(maps.dtype).repeat(pixels)), maps)


def _pixels(maps: Float[Tensor, "b c h w"]) -> int:
    """How many pixels make a row: a divisor of all, a power of two."""
    channels, pixels = maps.shape[1], maps.shape[2] * maps.shape[3]
    return math.gcd(pixels, 1 << max(0, (ROW // channels).bit_length() - 1))


def _rows(maps: Float[Tensor, "b c h w"], pixels: int) -> Float[Tensor, "b n k"]:
    return maps.permute(0, 2, 3, 1).reshape(len(maps), -1, pixels * maps.shape[1])


def _maps(rows: Float[Tensor, "b n k"], like: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    batch, channels, height, width = like.shape
    return rows.view(batch, height, width, channels).permute(0, 3, 1, 2)
