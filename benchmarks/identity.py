"""How far a picture is from showing the same person: the angle between what an embedder says of two pictures.

A face embedder is an ONNX file with one picture in and one vector out, such as ArcFace's. Where there is none, the
GAN's discriminator says how alike pictures are, which is not who they show.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate, normalize

from g2s_cli.errors import UsageError
from g2s_cli.gan.discriminator import Discriminator

USUAL_PX = 112  # ArcFace's, where a file leaves its size open


class Embedder(Protocol):
    """name: for the table. Call: images (b 3 h w) in [-1, 1] to unit vectors (b d)."""

    name: str

    def __call__(self, images: Tensor) -> Tensor: ...


class OnnxEmbedder:
    """A face embedder from an ONNX file, which sees whole pictures, RGB in [-1, 1], at its own size."""

    def __init__(self, path: Path) -> None:
        try:
            import onnxruntime  # noqa: PLC0415  optional
        except ImportError as error:
            raise UsageError("--embedder needs onnxruntime.", "Install it: pip install onnxruntime") from error
        try:
            self.session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        except Exception as error:  # its errors have no base of their own
            raise UsageError(
                f"{path} is no ONNX network: {str(error).rstrip('.')}.", "Name a face embedder's .onnx file."
            ) from error
        [self.asked, *more] = self.session.get_inputs()
        if more or len(self.asked.shape) != 4 or 3 not in (self.asked.shape[1], self.asked.shape[3]):
            raise UsageError(f"{path} does not take one RGB picture.", "Name a face embedder's .onnx file.")
        self.name = path.name

    def __call__(self, images: Tensor) -> Tensor:
        last = self.asked.shape[1] != 3
        height, width = (side if isinstance(side, int) else USUAL_PX for side in self.asked.shape[1 + (not last) :][:2])
        seen = interpolate(images.cpu().float(), size=(height, width), mode="bilinear", antialias=True)
        seen = seen.permute(0, 2, 3, 1) if last else seen
        # One at a time: many files are for batches of one.
        said = [self.session.run(None, {self.asked.name: one[None].contiguous().numpy()})[0] for one in seen]
        return normalize(torch.from_numpy(np.concatenate(said)).flatten(1).float(), dim=1)


class DiscriminatorEmbedder:
    """The discriminator's last features, averaged over the picture."""

    name = "discriminator features"

    def __init__(self, discriminator: Discriminator) -> None:
        self.discriminator = discriminator

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        [*_, last] = self.discriminator.features(images, len(self.discriminator.blocks))
        return normalize(last.float().mean(dim=(2, 3)), dim=1).cpu()


def angles_deg(some: Tensor, one: Tensor) -> Tensor:
    """Degrees between unit vectors (b d) and another one (d)."""
    return torch.rad2deg(torch.acos((some @ one).clamp(-1, 1)))
