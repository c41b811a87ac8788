"""Tensors of a StyleGAN2 checkpoint in the rosinality layout, taken by name and checked by shape."""

from __future__ import annotations

import math
from collections.abc import Mapping

from jaxtyping import Float
from torch import Tensor

from g2s_cli.errors import WeightsError

State = Mapping[str, Tensor]


def take(state: State, name: str, *shape: int | None) -> Tensor:
    """A tensor of this shape, in float32; None stands for any length. Raises WeightsError."""
    tensor = state.get(name)
    if tensor is None:
        raise _misfit(f"{name} is missing")
    if len(tensor.shape) != len(shape) or any(n not in (None, m) for n, m in zip(shape, tensor.shape, strict=True)):
        wanted = " x ".join("any" if n is None else str(n) for n in shape)
        raise _misfit(f"{name} is {' x '.join(map(str, tensor.shape))}, not {wanted}")
    return tensor.float()


def count_modules(state: State, prefix: str) -> int:
    """How many modules a list has: one more than the largest N among names `prefix.N.…`."""
    names = (name.split(".") for name in state)
    return max((int(parts[1]) + 1 for parts in names if parts[0] == prefix and parts[1].isdigit()), default=0)


def equalised(weight: Float[Tensor, "o ..."]) -> Float[Tensor, "o ..."]:
    """A weight with its equalised-learning-rate gain, 1 / √(numbers that make one output), folded in."""
    return weight / math.sqrt(weight[0].numel())


def take_blur(state: State, name: str) -> Float[Tensor, "4 4"]:
    """A blur's filter, turned for cross-correlation: the layout stores it for convolution. Raises WeightsError."""
    return take(state, name, 4, 4).flip(0, 1)


def _misfit(how: str) -> WeightsError:
    return WeightsError(
        f"These weights are not a StyleGAN2 in the rosinality layout: {how}.", "Convert the checkpoint to it first."
    )
