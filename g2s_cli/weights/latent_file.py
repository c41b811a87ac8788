"""Latents in W, read from files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from g2s_cli.errors import WeightsError, attempt
from g2s_cli.weights.tensors import load_tensors
from g2s_cli.weights.torch_file import is_plain, load_torch_file


@dataclass(frozen=True)
class LatentFile:
    """A file that holds a latent in W; row: which of several, from 0."""

    path: Path
    row: int | None = None

    @classmethod
    def parse(cls, said: Path | str) -> LatentFile:
        """FILE or FILE:ROW. A file that is called so, colon and all, is meant itself."""
        file, _, row = str(said).rpartition(":")
        names_a_row = file and row.isdecimal() and isinstance(attempt(Path(said).stat), OSError)
        return cls(Path(file), int(row)) if names_a_row else cls(Path(said))


def read_latent(file: LatentFile, size: int) -> Float[Tensor, d]:
    """A latent in W: of a torch file with a tensor of shape d or 1 x d, or a dict that holds one as "latent".

    Or of what g2s writes: "w" in a result's state, one row of it in a sample's latents. Raises WeightsError, for W+ (a
    vector a layer) and another GAN's size in sentences of their own.
    """
    path = file.path
    try:
        if path.is_dir():
            remedy = f"Name its file of latents, such as {path / 'state.safetensors'}."
            raise WeightsError(f"{path} is a folder.", remedy)
        path.stat()
    except FileNotFoundError as error:
        raise WeightsError(f"There is no file {path}.", "Check the path.") from error
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror or error}.", "Check the file.") from error
    content = load_tensors(path) if path.suffix == ".safetensors" else load_torch_file(path)
    rows = isinstance(content, Mapping) and "latent" not in content
    latent = content.get("w" if rows else "latent") if isinstance(content, Mapping) else content
    if not isinstance(latent, Tensor) or not latent.is_floating_point() or not is_plain(latent):
        raise WeightsError(f"{path} holds no latent.", "Save the tensor itself, or a dict with the key 'latent'.")
    if rows and latent.dim() == 2:
        latent = _row_of(latent, file)
    elif file.row is not None:
        raise WeightsError(f"{path} holds no rows of latents.", f"Leave :{file.row} out.")
    latent = latent.float().squeeze(0) if latent.dim() == 2 and len(latent) == 1 else latent.float()
    if latent.dim() > 1:
        shape = " x ".join(map(str, latent.shape))
        raise WeightsError(
            f"{path} holds a latent of {shape}: W+, a vector a layer; g2s works in W, with one for all.",
            "Project the photo into W, or leave --latent out and let g2s do it.",
        )
    if latent.numel() != size:
        raise WeightsError(
            f"{path} holds a latent of {latent.numel()} numbers; this GAN's have {size}.", "Use its own GAN (--gan)."
        )
    if not torch.isfinite(latent).all():
        raise WeightsError(f"{path} has numbers that are not finite.", "Fetch the file again.")
    return latent


def _row_of(latents: Float[Tensor, "n d"], file: LatentFile) -> Float[Tensor, d]:
    if file.row is None and len(latents) == 1:
        return latents[0]
    if file.row is None or file.row >= len(latents):
        what = f"{file.path} holds {len(latents)} latents" + ("" if file.row is None else f", no row {file.row}")
        raise WeightsError(f"{what}.", f"Name the photo's, 0 to {len(latents) - 1}, as in {file.path}:0.")
    return latents[file.row]
