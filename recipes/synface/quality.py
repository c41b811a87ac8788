"""How near made pictures are to rendered ones: Fréchet distances (Heusel et al. 2017) of two kinds of features.

Inception's weights are no part of any package, and its classes know nothing of faces. Ours are: "faces", 128 numbers
that dlib's network (Davis King, CC0) tells people apart by; and "colours", the picture shrunk to 16 x 16 pixels, which
sees light, hair and background. The distances compare with each other alone, not with published ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, interpolate

from g2s_cli.errors import G2SError
from g2s_cli.gan.latents import random_latents
from g2s_cli.gan.stylegan2 import Generator

CHIP = 150  # pixels that dlib's network looks at
FACES = "face_recognition_models"
Features = Callable[[Float[Tensor, "b 3 s s"]], Float[np.ndarray, "b d"]]


@dataclass(frozen=True)
class Moments:
    """Mean and covariance of features."""

    mean: Float[np.ndarray, d]
    covariance: Float[np.ndarray, "d d"]

    @classmethod
    def of(cls, features: Float[np.ndarray, "n d"]) -> Moments:
        """Those of samples, one a row."""
        return cls(features.mean(axis=0), np.cov(features, rowvar=False))


def frechet_distance(one: Moments, other: Moments) -> float:
    """|m₁ - m₂|² + tr(C₁ + C₂ - 2 (C₁^½ C₂ C₁^½)^½): the squared distance of two normal distributions."""
    values, vectors = np.linalg.eigh(one.covariance)
    root = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    product = np.linalg.eigvalsh(root @ other.covariance @ root)
    shared = np.sqrt(np.clip(product, 0, None)).sum()
    apart = np.square(one.mean - other.mean).sum()
    return float(apart + np.trace(one.covariance) + np.trace(other.covariance) - 2 * shared)


def moments(batches: Iterable[Float[Tensor, "b 3 s s"]], kinds: dict[str, Features]) -> dict[str, Moments]:
    """Those of every kind of features, over pictures in [-1, 1]."""
    gathered: dict[str, list[Float[np.ndarray, "b d"]]] = {name: [] for name in kinds}
    for images in batches:
        for name, features in kinds.items():
            gathered[name].append(features(images))
    return {name: Moments.of(np.concatenate(rows)) for name, rows in gathered.items()}


def colours(images: Float[Tensor, "b 3 s s"]) -> Float[np.ndarray, "b 768"]:
    """Pictures shrunk to 16 x 16 pixels."""
    return adaptive_avg_pool2d(images, 16).flatten(1).double().numpy()


def faces() -> Features:
    """dlib's face descriptor, of whole pictures. Raises G2SError if dlib or its weights are not installed."""
    weights = find_spec(FACES)
    if find_spec("dlib") is None or weights is None or weights.origin is None:
        what = f"dlib or its weights, {FACES}, cannot be imported."
        raise G2SError(what, f"pip install dlib-bin {FACES}, or go without: --features colours.")
    import dlib  # noqa: PLC0415 - an optional package

    # The weights' own package needs an old setuptools to be imported; they do not.
    place = Path(weights.origin).parent / "models" / "dlib_face_recognition_resnet_model_v1.dat"
    network = dlib.face_recognition_model_v1(str(place))

    def describe(images: Float[Tensor, "b 3 s s"]) -> Float[np.ndarray, "b 128"]:
        chips = interpolate(images, CHIP, mode="bilinear", antialias=True, align_corners=False).clamp(-1, 1)
        pixels = ((chips + 1) * 127.5).round().byte().permute(0, 2, 3, 1).contiguous().numpy()
        return np.array(network.compute_face_descriptor(list(pixels)))

    return describe


@torch.no_grad()
def result(generator: Generator, count: int, seed: int, batch: int = 32) -> Iterator[Float[Tensor, "b 3 s s"]]:
    """Pictures of random latents, not truncated."""
    rng = torch.Generator().manual_seed(seed)
    for start in range(0, count, batch):
        yield generator(random_latents(generator, min(batch, count - start), rng)).clamp(-1, 1)
