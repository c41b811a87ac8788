"""Networks built from state dicts whose names and shapes describe them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn

from g2s_cli.errors import WeightsError

Net = TypeVar("Net", bound=nn.Module)


def load_state(cls: type[Net], build: Callable[[], Net], state: Mapping[str, Tensor]) -> Net:
    """Build a network and give it copies of a state dict's weights in float32.

    The network is built on the meta device first: the sizes that a file's names suggest may exceed what it holds.

    Args:
        cls: the class to name in errors.
        build: makes the network with the sizes read off the state dict.
        state: must match the network name by name.

    Raises:
        WeightsError: names or shapes do not match.
    """
    try:
        with torch.device("meta"):
            net = build()
        net.load_state_dict({name: tensor.detach().float().clone() for name, tensor in state.items()}, assign=True)
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise state_mismatch(cls, first) from error
    return net


def state_mismatch(cls: type[nn.Module], reason: str) -> WeightsError:
    """The error for a state dict that does not belong to a class of networks."""
    return WeightsError(
        f"These tensors are not the weights of a {cls.__name__}: {reason.rstrip('.')}.",
        "Fetch the file again or name another.",
    )
