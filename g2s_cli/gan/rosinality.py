"""Tensors of StyleGAN2 checkpoints in the rosinality layout, by name and checked by shape."""

from __future__ import annotations

import math
from collections.abc import Mapping

from jaxtyping import Float
from torch import Tensor

from g2s_cli.errors import WeightsError

State = Mapping[str, Tensor]


def get_tensor(state: State, name: str, *shape: int | None) -> Tensor:
    """A tensor in float32.

    Args:
        shape: the expected one; None stands for any length.

    Raises:
        WeightsError: the tensor is missing or has another shape.
    """
    tensor = state.get(name)
    if tensor is None:
        raise _mismatch(f"{name} is missing")
    if len(tensor.shape) != len(shape) or any(n not in (None, m) for n, m in zip(shape, tensor.shape, strict=True)):
        expected = " x ".join("any" if n is None else str(n) for n in shape)
        raise _mismatch(f"{name} is {' x '.join(map(str, tensor.shape))}, not {expected}")
    return tensor.float()


def get_scaled_weight(state: State, name: str, *shape: int | None) -> Float[Tensor, "o ..."]:
    """A weight times its equalised-learning-rate gain, 1 / √(inputs of one output). Raises WeightsError."""
    return scale_weight(get_tensor(state, name, *shape))


def scale_weight(weight: Float[Tensor, "o ..."]) -> Float[Tensor, "o ..."]:
    """A weight times its equalised-learning-rate gain."""
    return weight / math.sqrt(weight[0].numel())


def get_blur_kernel(state: State, name: str) -> Float[Tensor, "4 4"]:
    """A blur's kernel for cross-correlation; the layout stores it for convolution. Raises WeightsError."""
    return get_tensor(state, name, 4, 4).flip(0, 1)


def count_modules(state: State, prefix: str) -> int:
    """The length of a module list: one more than the largest N among names `prefix.N.…`."""
    names = (name.split(".") for name in state)
    return max((int(parts[1]) + 1 for parts in names if parts[0] == prefix and parts[1].isdigit()), default=0)


def _mismatch(reason: str) -> WeightsError:
    return WeightsError(
        f"These weights are not a StyleGAN2 in the rosinality layout: {reason}.", "Convert the checkpoint to it first."
    )
