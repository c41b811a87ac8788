"""Latents in W, read from files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from g2s_cli.errors import WeightsError, try_call
from g2s_cli.weights.importers import is_plain, load_torch_file
from g2s_cli.weights.tensors import load_tensors


@dataclass(frozen=True)
class LatentFile:
    """A file of latents in W; row: which of several, from 0."""

    path: Path
    row: int | None = None

    @classmethod
    def parse(cls, text: Path | str) -> LatentFile:
        """FILE or FILE:ROW. An existing file whose name ends in :ROW is that file."""
        file, _, row = str(text).rpartition(":")
        has_row = file and row.isdecimal() and isinstance(try_call(Path(text).stat), OSError)
        return cls(Path(file), int(row)) if has_row else cls(Path(text))


def read_latent(file: LatentFile, size: int) -> Float[Tensor, d]:
    """A latent in W.

    Read are torch files with a tensor of shape d or 1 x d or a dict that has it as "latent", and the safetensors files
    that g2s writes ("w": one latent in a result's state, a row a picture in a sample's).

    Raises:
        WeightsError: the file holds no latent, one in W+ (a vector a layer), or one of another GAN's size.
    """
    path = file.path
    latent = _select(_load(path), file)
    if latent.dim() == 2 and len(latent) == 1:
        latent = latent[0]
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


def _load(path: Path) -> Any:
    try:
        if path.is_dir():
            remedy = f"Name its file of latents, such as {path / 'state.safetensors'}."
            raise WeightsError(f"{path} is a folder.", remedy)
        path.stat()
    except FileNotFoundError as error:
        raise WeightsError(f"There is no file {path}.", "Check the path.") from error
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror or error}.", "Check the file.") from error
    return load_tensors(path) if path.suffix == ".safetensors" else load_torch_file(path)


def _select(content: Any, file: LatentFile) -> Tensor:
    """The latent in a file's content, in float32."""
    path, row = file.path, file.row
    has_rows = isinstance(content, Mapping) and "latent" not in content
    latent = content.get("w" if has_rows else "latent") if isinstance(content, Mapping) else content
    if not isinstance(latent, Tensor) or not latent.is_floating_point() or not is_plain(latent):
        raise WeightsError(f"{path} holds no latent.", "Save the tensor itself, or a dict with the key 'latent'.")
    if has_rows and latent.dim() == 2:
        if row is None and len(latent) == 1:
            row = 0
        if row is None or row >= len(latent):
            what = f"{path} holds {len(latent)} latents" + ("" if row is None else f", no row {row}")
            raise WeightsError(f"{what}.", f"Name the photo's, 0 to {len(latent) - 1}, as in {path}:0.")
        latent = latent[row]
    elif row is not None:
        raise WeightsError(f"{path} holds no rows of latents.", f"Leave :{row} out.")
    return latent.float()
