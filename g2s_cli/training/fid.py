"""Fréchet distances (Heusel et al. 2017) between generated and real images, with two extractors of features.

Inception's weights are in no package, and its classes know nothing of faces. The features here are "faces", the 128
numbers of dlib's face descriptor (Davis King, CC0), and "colours", the image reduced to 16 x 16 pixels, which describes
light, hair and background. The distances compare with each other alone, not with published ones.
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

DESCRIPTOR_SIZE = 150  # pixels of the input of dlib's network
WEIGHTS_PACKAGE = "face_recognition_models"
Extractor = Callable[[Float[Tensor, "b 3 s s"]], Float[np.ndarray, "b d"]]


@dataclass(frozen=True)
class Gaussian:
    """Mean and covariance of features."""

    mean: Float[np.ndarray, d]
    covariance: Float[np.ndarray, "d d"]

    @classmethod
    def fit(cls, features: Float[np.ndarray, "n d"]) -> Gaussian:
        """The moments of samples, one a row."""
        return cls(features.mean(axis=0), np.cov(features, rowvar=False))


def frechet_distance(one: Gaussian, other: Gaussian) -> float:
    """|m₁ - m₂|² + tr(C₁ + C₂ - 2 (C₁^½ C₂ C₁^½)^½): the squared distance of two normal distributions."""
    values, vectors = np.linalg.eigh(one.covariance)
    root = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    product = np.linalg.eigvalsh(root @ other.covariance @ root)
    shared = np.sqrt(np.clip(product, 0, None)).sum()
    distance = np.square(one.mean - other.mean).sum()
    return float(distance + np.trace(one.covariance) + np.trace(other.covariance) - 2 * shared)


def feature_statistics(
    batches: Iterable[Float[Tensor, "b 3 s s"]], extractors: dict[str, Extractor]
) -> dict[str, Gaussian]:
    """The moments of each extractor's features over images in [-1, 1]."""
    features: dict[str, list[Float[np.ndarray, "b d"]]] = {name: [] for name in extractors}
    for images in batches:
        for name, extractor in extractors.items():
            features[name].append(extractor(images))
    return {name: Gaussian.fit(np.concatenate(rows)) for name, rows in features.items()}


def colour_features(images: Float[Tensor, "b 3 s s"]) -> Float[np.ndarray, "b 768"]:
    """Images reduced to 16 x 16 pixels."""
    return adaptive_avg_pool2d(images, 16).flatten(1).double().numpy()


def face_extractor() -> Extractor:
    """dlib's face descriptor, of whole images. Raises G2SError if dlib or its weights are not installed."""
    weights = find_spec(WEIGHTS_PACKAGE)
    if find_spec("dlib") is None or weights is None or weights.origin is None:
        what = f"dlib or its weights, {WEIGHTS_PACKAGE}, cannot be imported."
        raise G2SError(what, f"pip install dlib-bin {WEIGHTS_PACKAGE}, or go without: --features colours.")
    import dlib  # noqa: PLC0415 - an optional package

    # The weights' package cannot be imported without an old setuptools; its file can be read.
    file = Path(weights.origin).parent / "models" / "dlib_face_recognition_resnet_model_v1.dat"
    network = dlib.face_recognition_model_v1(str(file))

    def describe(images: Float[Tensor, "b 3 s s"]) -> Float[np.ndarray, "b 128"]:
        crops = interpolate(images, DESCRIPTOR_SIZE, mode="bilinear", antialias=True, align_corners=False).clamp(-1, 1)
        pixels = ((crops + 1) * 127.5).round().byte().permute(0, 2, 3, 1).contiguous().numpy()
        return np.array(network.compute_face_descriptor(list(pixels)))

    return describe


@torch.no_grad()
def random_images(generator: Generator, count: int, seed: int, batch: int = 32) -> Iterator[Float[Tensor, "b 3 s s"]]:
    """Images of random latents without truncation."""
    rng = torch.Generator().manual_seed(seed)
    for start in range(0, count, batch):
        yield generator(random_latents(generator, min(batch, count - start), rng)).clamp(-1, 1)
