"""Foreign checkpoints, read without running any code they carry, as flat tensors for safetensors files."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from g2s_cli.errors import WeightsError

FORMAT = "g2s-weights-1"


def read_rosinality(path: Path) -> dict[str, Tensor]:
    """A StyleGAN2 checkpoint in the rosinality layout as `g_ema.*`, `d.*` and `latent_avg`.

    Raises WeightsError if the file is no torch archive, holds anything but tensors and plain containers,
    lacks the generator, or has a number that is not finite.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch's unpickler, fed another file's bytes, lets through whatever goes wrong inside
        raise WeightsError(
            f"{path} cannot be read as a torch checkpoint of plain tensors.", "Fetch the file again."
        ) from error
    if not isinstance(content, Mapping) or not isinstance(content.get("g_ema"), Mapping):
        raise WeightsError(f"{path} has no g_ema entry.", "Name a StyleGAN2 checkpoint in the rosinality layout.")
    parts = {part: content[part] for part in ("g_ema", "d") if isinstance(content.get(part), Mapping)}
    tensors = {
        f"{part}.{name}": tensor
        for part, state in parts.items()
        for name, tensor in state.items()
        if isinstance(tensor, Tensor)
    }
    if isinstance(content.get("latent_avg"), Tensor):
        tensors["latent_avg"] = content["latent_avg"]
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise WeightsError(f"{path} is damaged: {name} has numbers that are not finite.", "Fetch the file again.")
    return tensors


def write_weights(tensors: Mapping[str, Tensor], path: Path, source: Path | None = None) -> None:
    """Write tensors as a safetensors file, with the hash of what they were made from."""
    metadata = {"format": FORMAT}
    if source is not None:
        metadata |= {"source": source.name, "source_sha256": sha256_of(source)}
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, metadata=metadata)


def sha256_of(path: Path) -> str:
    """A file's SHA-256, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
