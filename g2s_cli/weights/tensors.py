"""Files of tensors (safetensors): what they hold, and what they say of themselves."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save, save_file
from torch import Tensor

from g2s_cli.errors import WeightsError
from g2s_cli.files import sha256_of
from g2s_cli.weights.cache import ELSEWHERE, replacing_weights

METADATA = {"format": "g2s-weights-1"}
TRAINED_WITH = "gan_sha256"  # in the metadata of networks
STEPS = ".steps"  # how large the steps are of a tensor that is kept in bytes, an entry of its first dimension each
MOST = 127  # steps on either side of 0
LEAST_NUMBERS = 256  # of a tensor that is worth it


def load_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file, in float32. Raises WeightsError if it cannot be read.

    Those kept in bytes (see `in_bytes`) are what they stand for.
    """
    try:
        kept = load_file(path)
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path} is not a readable safetensors file.", "Fetch or make it again.") from error
    steps = {name.removesuffix(STEPS): kept.pop(name).float() for name in list(kept) if name.endswith(STEPS)}
    tensors = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in kept.items()}
    for name, step in steps.items():
        if name not in tensors or tensors[name].shape[:1] != step.shape:
            raise WeightsError(f"{path} is damaged: {name}{STEPS} are no steps of {name}.", "Fetch or make it again.")
        tensors[name] = tensors[name].float() * step.view(-1, *[1] * (tensors[name].dim() - 1))
    return tensors


def quantize(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights in a byte a number, and how large the steps of each output are; small ones, and biases, as halves."""
    packed: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if tensor.dim() < 2 or tensor.numel() < LEAST_NUMBERS:
            packed[name] = tensor.half()
            continue
        weight = tensor.float()
        step = (weight.flatten(1).abs().amax(dim=1) / MOST).clamp(min=torch.finfo(torch.float32).tiny)
        packed[name] = (weight / step.view(-1, *[1] * (tensor.dim() - 1))).round().to(torch.int8)
        packed[f"{name}{STEPS}"] = step
    return packed


def read_metadata(path: Path) -> Mapping[str, str]:
    """What a safetensors file says about itself. Raises WeightsError if it cannot be read."""
    try:
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path} is not a readable safetensors file.", "Fetch or make it again.") from error


def submodule_state(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with `prefix` and a dot, without it."""
    return {name.removeprefix(f"{prefix}."): value for name, value in tensors.items() if name.startswith(f"{prefix}.")}


def write_weights(tensors: Mapping[str, Tensor], path: Path, trained_with: str = "", remedy: str = ELSEWHERE) -> None:
    """Write tensors as a safetensors file in one move.

    The same tensors are the same bytes, whoever writes them and when, so that a file's SHA-256 says which GAN it is;
    metadata of more than one entry would be written in an order of chance. trained_with: of networks, the SHA-256 of
    their GAN's file. Raises WeightsError with this remedy if the disk refuses.
    """
    with replacing_weights(path, remedy) as temporary:
        save_weights(tensors, temporary, trained_with)


def save_weights(tensors: Mapping[str, Tensor], path: Path, trained_with: str = "") -> None:
    """As `write_weights`, straight to a path. Raises whatever safetensors does."""
    save_file(_apart(tensors), path, {TRAINED_WITH: trained_with} if trained_with else METADATA)


def converted_sha256(path: Path, tensors: Mapping[str, Tensor]) -> str:
    """The SHA-256 that a file has in the cache: its own, or if it must be converted, that of its tensors written."""
    if path.suffix == ".safetensors":
        return sha256_of(path)
    return hashlib.sha256(save(_apart(tensors), METADATA)).hexdigest()


def _apart(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors that share no memory, as safetensors wants them."""
    return {name: tensor.contiguous().clone() for name, tensor in tensors.items()}
