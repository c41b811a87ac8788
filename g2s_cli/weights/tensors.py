"""Safetensors files: read, write, quantize."""

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
TRAINED_WITH = "gan_sha256"  # metadata of networks: the SHA-256 of their GAN's file
STEPS = ".steps"  # name suffix: quantization step of each output channel of an int8 tensor
INT8_MAX = 127
MIN_QUANTIZED_NUMEL = 256


def load_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file, in float32; int8 weights are dequantized (see `quantize`).

    Raises:
        WeightsError: the file cannot be read, or quantization steps do not fit their tensor.
    """
    try:
        stored = load_file(path)
    except (OSError, SafetensorError) as error:
        raise _unreadable(path) from error
    steps = {name.removesuffix(STEPS): stored.pop(name).float() for name in list(stored) if name.endswith(STEPS)}
    tensors = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in stored.items()}
    for name, step in steps.items():
        if name not in tensors or tensors[name].shape[:1] != step.shape:
            raise WeightsError(f"{path} is damaged: {name}{STEPS} does not fit {name}.", "Fetch or make it again.")
        tensors[name] = tensors[name].float() * _per_output(step, tensors[name])
    return tensors


def quantize(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights as int8 with one float32 step size per output channel; small tensors and biases as float16."""
    packed: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if tensor.dim() < 2 or tensor.numel() < MIN_QUANTIZED_NUMEL:
            packed[name] = tensor.half()
            continue
        weight = tensor.float()
        step = (weight.flatten(1).abs().amax(dim=1) / INT8_MAX).clamp(min=torch.finfo(torch.float32).tiny)
        packed[name] = (weight / _per_output(step, tensor)).round().to(torch.int8)
        packed[f"{name}{STEPS}"] = step
    return packed


def _per_output(step: Tensor, tensor: Tensor) -> Tensor:
    return step.view(-1, *[1] * (tensor.dim() - 1))


def read_metadata(path: Path) -> Mapping[str, str]:
    """The metadata of a safetensors file. Raises WeightsError if it cannot be read."""
    try:
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise _unreadable(path) from error


def tensor_names(path: Path) -> list[str]:
    """The names in a safetensors file. Raises WeightsError if it cannot be read."""
    try:
        with safe_open(path, framework="pt") as file:
            return list(file.keys())
    except (OSError, SafetensorError) as error:
        raise _unreadable(path) from error


def _unreadable(path: Path) -> WeightsError:
    return WeightsError(f"{path} is not a readable safetensors file.", "Fetch or make it again.")


def submodule_state(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with `prefix` and a dot, without that prefix."""
    return {name.removeprefix(f"{prefix}."): value for name, value in tensors.items() if name.startswith(f"{prefix}.")}


def write_weights(tensors: Mapping[str, Tensor], path: Path, trained_with: str = "", remedy: str = ELSEWHERE) -> None:
    """Write tensors as a safetensors file, atomically and reproducibly.

    The same tensors give the same bytes, so that a file's SHA-256 identifies a GAN. Safetensors writes metadata of
    more than one entry in random order, so there is one entry.

    Args:
        trained_with: of networks, the SHA-256 of their GAN's file.
        remedy: of the WeightsError that is raised if the disk refuses.
    """
    with replacing_weights(path, remedy) as temporary:
        save_weights(tensors, temporary, trained_with)


def save_weights(tensors: Mapping[str, Tensor], path: Path, trained_with: str = "") -> None:
    """As `write_weights`, straight to a path. Raises whatever safetensors does."""
    save_file(_unshared(tensors), path, {TRAINED_WITH: trained_with} if trained_with else METADATA)


def converted_sha256(path: Path, tensors: Mapping[str, Tensor]) -> str:
    """The SHA-256 that a file gets in the cache: its own if it is safetensors, else that of its converted tensors."""
    if path.suffix == ".safetensors":
        return sha256_of(path)
    return hashlib.sha256(save(_unshared(tensors), METADATA)).hexdigest()


def _unshared(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors that share no memory, as safetensors requires."""
    return {name: tensor.contiguous().clone() for name, tensor in tensors.items()}
