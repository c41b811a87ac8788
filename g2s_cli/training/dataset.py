"""Training images: a .npy file of bytes, of which a batch reads its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from g2s_cli.errors import UsageError


@dataclass(frozen=True)
class ImageDataset:
    """Square images as bytes, n s s 3, memory-mapped."""

    data: Shaped[np.ndarray, "n s s 3"]

    @classmethod
    def of(cls, path: Path) -> ImageDataset:
        """The images of a .npy file. Raises UsageError if it holds none."""
        try:
            data = np.load(path, mmap_mode="r")
        except (OSError, ValueError) as error:
            raise UsageError(f"{path} cannot be read: {error}.", "Render the images first.") from error
        if data.ndim != 4 or data.dtype != np.uint8 or data.shape[3] != 3 or data.shape[1] != data.shape[2]:
            raise UsageError(f"{path} does not hold square images of bytes.", "Render the images first.")
        return cls(data)

    def __len__(self) -> int:
        return len(self.data)

    @property
    def size(self) -> int:
        """Pixels of a side."""
        return self.data.shape[1]

    def batches(self, count: int, batch: int = 32) -> Iterator[Float[Tensor, "b 3 s s"]]:
        """The first `count` images. Raises UsageError if there are fewer."""
        if count > len(self):
            raise UsageError(f"There are {len(self)} images, not {count}.", "Render more, or ask for fewer.")
        for start in range(0, count, batch):
            indices = torch.arange(start, min(start + batch, count))
            yield self.take(indices, torch.zeros(len(indices), dtype=torch.bool))

    def take(self, indices: Shaped[Tensor, b], hflip: Shaped[Tensor, b]) -> Float[Tensor, "b 3 s s"]:
        """Some images in [-1, 1], of which some are mirrored."""
        images = torch.from_numpy(self.data[indices.numpy()]).permute(0, 3, 1, 2).float() / 127.5 - 1
        return torch.where(hflip[:, None, None, None], images.flip(3), images)
