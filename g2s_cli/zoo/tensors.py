"""Files of tensors (safetensors): what they hold, and what they say of themselves."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from g2s_cli.errors import WeightsError


def load_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file, in float32. Raises WeightsError if it cannot be read."""
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path} is not a readable safetensors file.", "Fetch or make it again.") from error
    return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}


def metadata_of(path: Path) -> Mapping[str, str]:
    """What a safetensors file says about itself. Raises WeightsError if it cannot be read."""
    try:
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path} is not a readable safetensors file.", "Fetch or make it again.") from error


def part_of(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with `prefix` and a dot, without it."""
    return {name.removeprefix(f"{prefix}."): value for name, value in tensors.items() if name.startswith(f"{prefix}.")}
