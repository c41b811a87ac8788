"""GAN inversion: latents w with G(w) ≈ photo (paper 4.1; Karras et al. 2020, app. D).

Adam optimises w from a regressed initial latent, on L1 and discriminator features, with a penalty on the distance from
the mean latent. Photos are inverted in batches; their latents do not depend on batch composition.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from g2s_cli.adam import Adam
from g2s_cli.gan.latents import LatentStatistics, random_latents
from g2s_cli.gan.losses import DiscriminatorDistance, Features
from g2s_cli.gan.stylegan2 import Generator
from g2s_cli.geometry.metrics import psnr
from g2s_cli.progress import Progress

BATCH_PIXELS = 1 << 16  # 16 photos of 64 px, 4 of 128; larger batches are slower (benchmarks/inversion_batch.py)
STATISTICS_SAMPLES = 1024  # latents behind the mean and the distance from it
CANDIDATE_BATCH = 64
REGRESSION_PX = 8  # resolution of the features that initial latents are regressed on
RIDGE = 0.06  # in units of the features' variance


@dataclass(frozen=True)
class InversionSettings:
    """Settings of the optimisation; docs/experiments/inversion-start.md has the figures behind the defaults.

    Args:
        candidates: random latents that the initial latent is regressed from.
        learning_rate: of Adam.
        latent_weight: of the squared distance from the mean latent, in units of the latents' mean squared distance.
        feature_weight: of the discriminator's features, beside L1.
    """

    iterations: int = 200
    candidates: int = 128
    learning_rate: float = 0.1
    latent_weight: float = 2e-3
    feature_weight: float = 0.1


@dataclass(frozen=True)
class Inversion:
    """The latent of a photo.

    Args:
        image: G(w), clamped to [-1, 1].
        psnr_db: of the image over the whole crop.
        feature_distance: mean L1 of the discriminator's blocks.
        latent_distance: from the mean latent, in units of that of random latents.
    """

    latent: Float[Tensor, d]
    image: Float[Tensor, "3 s s"]
    psnr_db: float
    feature_distance: float
    latent_distance: float


def invert(
    photos: Float[Tensor, "k 3 s s"],
    generator: Generator,
    distance: DiscriminatorDistance,
    settings: InversionSettings,
    rng: torch.Generator,
    progress: Progress,
    initial: Float[Tensor, "k d"] | None = None,
) -> list[Inversion]:
    """Find w with G(w) ≈ photo for each photo.

    Args:
        photos: in [-1, 1].
        rng: the same state gives a photo the same latent in any batch.
        initial: latents to start from; by default they are regressed.
    """
    latents = random_latents(generator, max(STATISTICS_SAMPLES, settings.candidates), rng)
    statistics = LatentStatistics.of(latents)
    if initial is None:
        initial = _regress_latents(latents[: settings.candidates], photos, generator, distance, progress)
    count = max(1, BATCH_PIXELS // generator.size**2)
    batches = zip(photos.split(count), initial.to(photos.device).split(count), strict=True)
    return [
        inversion
        for batch, start in batches
        for inversion in _optimise(batch, start, statistics, generator, distance, settings, progress)
    ]


def _optimise(
    photos: Float[Tensor, "k 3 s s"],
    initial: Float[Tensor, "k d"],
    statistics: LatentStatistics,
    generator: Generator,
    distance: DiscriminatorDistance,
    settings: InversionSettings,
    progress: Progress,
) -> list[Inversion]:
    """Adam on a batch of latents, with a loss for each."""
    target = distance.features(photos)
    latent = initial.clone().requires_grad_()
    adam = Adam({latent: settings.learning_rate})

    progress.begin("invert", settings.iterations)
    for iteration in range(settings.iterations):
        image = generator(latent)
        penalty = (latent - statistics.mean).square().sum(dim=1) / statistics.rms_distance.square()
        losses = (
            (image - photos).abs().flatten(1).mean(dim=1)
            + settings.feature_weight * _feature_distances(distance.features(image), target)
            + settings.latent_weight * penalty
        )
        adam.step(losses.sum(), _rate_factor(iteration / settings.iterations))
        progress.advance(iteration + 1, losses.mean().item())

    with torch.no_grad():
        latent = latent.detach()
        images = generator(latent)
        feature_distances = _feature_distances(distance.features(images), target) / distance.blocks
        latent_distances = (latent - statistics.mean).norm(dim=1) / statistics.rms_distance
    rows = zip(latent, images, photos, feature_distances.tolist(), latent_distances.tolist(), strict=True)
    return [
        Inversion(w, image.clamp(-1, 1), psnr(image, photo), feature_distance, latent_distance)
        for w, image, photo, feature_distance, latent_distance in rows
    ]


def _feature_distances(a: Features, b: Features) -> Float[Tensor, k]:
    """Mean L1 of each image's features, summed over blocks."""
    distances = [(x.float() - y.float()).abs().flatten(1).mean(dim=1) for x, y in zip(a, b, strict=True)]
    return torch.stack(distances).sum(dim=0)


@torch.no_grad()
def _regress_latents(
    latents: Float[Tensor, "n d"],
    photos: Float[Tensor, "k 3 s s"],
    generator: Generator,
    distance: DiscriminatorDistance,
    progress: Progress,
) -> Float[Tensor, "k d"]:
    """Kernel ridge regression of w on the discriminator's features of random images.

    A few dozen images give a better start than the nearest of thousands.
    """
    target = _pooled_rows(distance.features(photos))
    batches = torch.split(latents, min(CANDIDATE_BATCH, generator.max_batch))
    progress.begin("search", len(batches))
    samples, nearest = [], target[0].new_full((len(photos),), torch.inf)
    for done, batch in enumerate(batches, start=1):
        samples.append(_pooled_rows(distance.features(generator(batch))))
        gaps = [torch.cdist(y, x, p=1).amin(dim=1) / x.shape[1] for x, y in zip(samples[-1], target, strict=True)]
        nearest = torch.minimum(nearest, torch.stack(gaps).sum(dim=0))
        progress.advance(done, nearest.mean().item())
    gram, products = latents.new_zeros(len(latents), len(latents)), latents.new_zeros(len(photos), len(latents))
    for block, rows in zip(map(torch.cat, zip(*samples, strict=True)), target, strict=True):
        mean = block.mean(dim=0)
        centred = block - mean
        scale = centred.square().sum(dim=1).mean().clamp(min=1e-12) * len(target)
        gram += centred @ centred.T / scale
        # Row by row, so that a photo's products do not depend on the batch.
        products += torch.stack([centred @ (row - mean) for row in rows]) / scale
    mean = latents.mean(dim=0)
    weights = torch.linalg.solve(gram + RIDGE * torch.eye(len(latents)).to(gram), latents - mean)
    return torch.stack([row @ weights for row in products]) + mean


def _pooled_rows(features: Features) -> list[Float[Tensor, "b _"]]:
    """The features of each block at low resolution, one row an image."""
    return [adaptive_avg_pool2d(maps.float(), min(maps.shape[-1], REGRESSION_PX)).flatten(1) for maps in features]


def _rate_factor(share: float, rise: float = 0.05, fall: float = 0.25) -> float:
    """Learning-rate factor at a share of the run: linear rise, constant, cosine fall (Karras et al. 2020)."""
    remaining = min(1.0, (1 - share) / fall)
    return min(1.0, (share + 1e-3) / rise) * (0.5 - 0.5 * math.cos(math.pi * remaining))
