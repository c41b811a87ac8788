"""Layers whose results do not depend on batch composition.

BLAS and oneDNN choose their kernels by batch size, and kernels round differently.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import linear, pad

MIN_ROWS = 16  # BLAS has other kernels for fewer rows
SMALL_PX = 16  # sides up to which oneDNN has another float32 kernel for single images


def batch_invariant_linear(
    rows: Float[Tensor, "b i"], weight: Float[Tensor, "o i"], bias: Float[Tensor, o] | None = None
) -> Float[Tensor, "b o"]:
    """A linear layer of at least MIN_ROWS rows, padded with zeros."""
    missing = max(0, MIN_ROWS - len(rows))
    return linear(pad(rows, (0, 0, 0, missing)), weight, bias)[: len(rows)]


def batch_invariant_conv(
    convolve: Callable[[Float[Tensor, "b i h w"]], Float[Tensor, "b o h2 w2"]], maps: Float[Tensor, "b i h w"]
) -> Float[Tensor, "b o h2 w2"]:
    """A convolution that computes single small images as a batch of two."""
    if len(maps) > 1 or maps.dtype != torch.float32 or maps.device.type != "cpu" or maps.shape[-1] > SMALL_PX:
        return convolve(maps)
    return convolve(torch.cat((maps, maps.detach())))[:1]
