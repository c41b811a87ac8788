"""Layers that round a row or a picture alike in batches of any size, so that no result depends on its company.

Libraries choose their kernels by the batch, and kernels round differently.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import linear, pad

LEAST_ROWS = 16  # products of fewer rows round otherwise
FEW_PX = 16  # a side, of maps that convolutions in single precision round otherwise where there is one picture alone


def steady_linear(
    rows: Float[Tensor, "b i"], weight: Float[Tensor, "o i"], bias: Float[Tensor, o] | None = None
) -> Float[Tensor, "b o"]:
    """A linear layer. BLAS has other kernels for one row and for a few: the same up to LEAST_ROWS."""
    missing = max(0, LEAST_ROWS - len(rows))
    return linear(pad(rows, (0, 0, 0, missing)), weight, bias)[: len(rows)]


def steady_convolution(
    convolve: Callable[[Float[Tensor, "b i h w"]], Float[Tensor, "b o h2 w2"]], maps: Float[Tensor, "b i h w"]
) -> Float[Tensor, "b o h2 w2"]:
    """A convolution. oneDNN has other kernels for a single picture of few pixels: then there are two."""
    if len(maps) > 1 or maps.dtype != torch.float32 or maps.device.type != "cpu" or maps.shape[-1] > FEW_PX:
        return convolve(maps)
    return convolve(torch.cat((maps, maps.detach())))[:1]
