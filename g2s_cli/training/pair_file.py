"""Pairs of image and depth in one .npy file: what a depth network may be trained on beside recombined photos."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from jaxtyping import Float, UInt16

from g2s_cli.errors import UsageError
from g2s_cli.geometry.rasterizer import VIEW_FAR, VIEW_NEAR
from g2s_cli.training.synthetic import Pairs

REMEDY = "Name a .npy file of pairs, as docs/training.md describes it."
CODES = 65535  # of depth in 16 bits: 0 at 0.8 scene units, the last where there is no surface

PairArray: TypeAlias = np.ndarray  # one-dimensional, of `pair_type`


def pair_type(size: int) -> np.dtype[Any]:
    """A pair: image (0 outside the mask), mask, and depth by `encode_pair_depth`, of `size` px."""
    return np.dtype([("image", "u1", (size, size, 3)), ("mask", "?", (size, size)), ("depth", "<u2", (size, size))])


def encode_pair_depth(depth: Float[np.ndarray, "*shape"]) -> UInt16[np.ndarray, "*shape"]:
    """Depth in 16 bits, in steps of 6e-6 scene units."""
    share = (depth - VIEW_NEAR) / (VIEW_FAR - VIEW_NEAR)
    return (share * CODES).round().clip(0, CODES).astype(np.uint16)


@dataclass(frozen=True)
class PairFile:
    """The pairs of a file, as a memory map."""

    data: PairArray

    @classmethod
    def open(cls, path: Path, size: int) -> PairFile:
        """Open a file of pairs. Raises UsageError if it is none, or of another size."""
        try:
            data = np.load(path, mmap_mode="r")
        except (OSError, ValueError, EOFError) as error:
            raise UsageError(f"{path} cannot be read as pairs: {error}.", REMEDY) from error
        if data.dtype != pair_type(size) or data.ndim != 1 or len(data) == 0:
            raise UsageError(f"{path} has no pairs of {size} px.", REMEDY)
        return cls(data)

    def draw(self, count: int, rng: torch.Generator) -> Pairs:
        """Random pairs."""
        return self.pick(torch.randint(len(self.data), (count,), generator=rng).numpy())

    def pick(self, index: np.ndarray) -> Pairs:
        """Some pairs."""
        rows = self.data[np.sort(index)]
        mask = torch.from_numpy(rows["mask"]).float().unsqueeze(1)
        image = torch.from_numpy(rows["image"]).permute(0, 3, 1, 2).float() / 127.5 - 1
        code = torch.from_numpy(rows["depth"].astype(np.int32))
        depth = VIEW_NEAR + code.float() / CODES * (VIEW_FAR - VIEW_NEAR)
        return Pairs(image * mask, mask, torch.where(code == CODES, VIEW_FAR, depth))
