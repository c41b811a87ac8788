"""From users' photos to latents w whose images G(w) are the photos (paper 4.1; Karras et al. 2020, app. D).

Adam on w alone, from what a ridge regression on random pictures says of the photo, with a pull towards the cloud of
latents the mapping network makes, and a distance of L1 and discriminator features. Several photos go through the
networks as one batch, each with a latent of its own that knows nothing of the others.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from g2s_cli.gan.latents import LatentCloud, random_latents
from g2s_cli.gan.losses import DiscriminatorDistance
from g2s_cli.gan.stylegan2 import Generator
from g2s_cli.geometry.metrics import psnr
from g2s_cli.progress import Progress

# Pixels of photos in one update: 16 of 64 px, 4 of 128; more are slower (benchmarks/inversion_batch.py).
PIXELS_AT_ONCE = 1 << 16
CLOUD = 1024  # latents that say where latents lie; showing their pictures is what costs
GUESS_PX = 8  # of the features that a start is regressed on
RIDGE = 0.06  # in units of what the features of random pictures vary by


@dataclass(frozen=True)
class InversionSettings:
    """How hard to try. Figures behind the defaults are in docs/experiments/inversion-start.md.

    candidates: random latents whose pictures the start is learnt from. rate: Adam's. pull: weight of the squared
    distance from the mean latent in units of the latents' spread. features: weight of the discriminator's features
    beside L1.
    """

    iterations: int = 200
    candidates: int = 128
    rate: float = 0.1
    pull: float = 2e-3
    features: float = 0.1


@dataclass(frozen=True)
class Inversion:
    """A latent, its image, and how near that is to the photo.

    psnr_db over the whole crop; feature_distance: mean L1 of the discriminator's blocks; strangeness:
    how far w lies from the mean latent, in units of what random latents do (1 is ordinary).
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
    known: Float[Tensor, "k d"] | None = None,
) -> list[Inversion]:
    """Find w with G(w) ≈ photo for each photo. The networks stay as they are.

    The same generator state gives a photo the same w in whatever company: candidates are drawn and shown once for all
    photos. known: where to start; None is what the candidates' pictures say.
    """
    latents = random_latents(generator, max(CLOUD, settings.candidates), rng)
    cloud, candidates = LatentCloud.of(latents), latents[: settings.candidates]
    start = (
        _first_guess(candidates, photos, generator, distance, progress) if known is None else known.to(photos.device)
    )
    count = max(1, PIXELS_AT_ONCE // generator.size**2)
    found = []
    for some, own in zip(photos.split(count), start.split(count), strict=True):
        found += _descend(some, own, cloud, generator, distance, settings, progress)
    return found


def _descend(
    photos: Float[Tensor, "k 3 s s"],
    start: Float[Tensor, "k d"],
    cloud: LatentCloud,
    generator: Generator,
    distance: DiscriminatorDistance,
    settings: InversionSettings,
    progress: Progress,
) -> list[Inversion]:
    """Adam from some latents on, all of them at once, each as if it were alone."""
    wanted = distance.features(photos)
    latent = start.clone().requires_grad_()
    optimizer = torch.optim.Adam([latent], lr=settings.rate, betas=(0.9, 0.999))

    progress.begin("invert", settings.iterations)
    for done in range(settings.iterations):
        share = done / settings.iterations
        for group in optimizer.param_groups:
            group["lr"] = settings.rate * _ramp(share)
        image = generator(latent)
        away = (latent - cloud.mean).square().sum(dim=1) / cloud.spread.square()
        losses = (
            (image - photos).abs().flatten(1).mean(dim=1)
            + settings.features * _gaps(distance.features(image), wanted)
            + settings.pull * away
        )
        optimizer.zero_grad()
        losses.sum().backward()
        optimizer.step()
        progress.advance(done + 1, losses.mean().item())

    with torch.no_grad():
        found = latent.detach()
        images = generator(found)
        gaps = _gaps(distance.features(images), wanted) / distance.blocks
        away = (found - cloud.mean).norm(dim=1) / cloud.spread
    return [
        Inversion(w, image.clamp(-1, 1), psnr(image, photo), gap, latent_distance)
        for w, image, photo, gap, latent_distance in zip(
            found, images, photos, gaps.tolist(), away.tolist(), strict=True
        )
    ]


def _gaps(a: Sequence[Float[Tensor, "k _ _ _"]], b: Sequence[Float[Tensor, "k _ _ _"]]) -> Float[Tensor, k]:
    """How far each photo's features are from those wanted: mean L1, summed over blocks."""
    gaps = [(one.float() - other.float()).abs().flatten(1).mean(dim=1) for one, other in zip(a, b, strict=True)]
    return torch.stack(gaps).sum(dim=0)


@torch.no_grad()
def _first_guess(
    latents: Float[Tensor, "n d"],
    photos: Float[Tensor, "k 3 s s"],
    generator: Generator,
    distance: DiscriminatorDistance,
    progress: Progress,
    batch: int = 64,
) -> Float[Tensor, "k d"]:
    """What latents of random pictures say of those of photos: ridge regression of w on the discriminator's features.

    A few dozen pictures give a better start than the nearest of thousands. Each latent is shown once.
    """
    wanted = _told_by(distance.features(photos))
    chunks = torch.split(latents, min(batch, generator.at_once))
    progress.begin("search", len(chunks))
    shown, least = [], wanted[0].new_full((len(photos),), torch.inf)
    for done, chunk in enumerate(chunks, start=1):
        shown.append(_told_by(distance.features(generator(chunk))))
        near = [torch.cdist(b, a, p=1).amin(dim=1) / a.shape[1] for a, b in zip(shown[-1], wanted, strict=True)]
        least = torch.minimum(least, torch.stack(near).sum(dim=0))
        progress.advance(done, least.mean().item())
    kernel, own = latents.new_zeros(len(latents), len(latents)), latents.new_zeros(len(photos), len(latents))
    for block, of_photos in zip(map(torch.cat, zip(*shown, strict=True)), wanted, strict=True):
        mean = block.mean(dim=0)
        apart = block - mean
        unit = apart.square().sum(dim=1).mean().clamp(min=1e-12) * len(wanted)
        kernel += apart @ apart.T / unit
        own += (
            torch.stack([apart @ (one - mean) for one in of_photos]) / unit
        )  # each by itself: the same in any company
    mean = latents.mean(dim=0)
    weights = torch.linalg.solve(kernel + RIDGE * torch.eye(len(latents)).to(kernel), latents - mean)
    return torch.stack([one @ weights for one in own]) + mean


def _told_by(features: Sequence[Float[Tensor, "b _ _ _"]]) -> list[Float[Tensor, "b _"]]:
    """The discriminator's features, block by block, at few pixels: a row a picture."""
    return [adaptive_avg_pool2d(maps.float(), min(maps.shape[-1], GUESS_PX)).flatten(1) for maps in features]


def _ramp(share: float, up: float = 0.05, down: float = 0.25) -> float:
    """Learning-rate factor over a run: a short rise, a level stretch, a cosine fall."""
    fall = min(1.0, (1 - share) / down)
    return min(1.0, (share + 1e-3) / up) * (0.5 - 0.5 * math.cos(math.pi * fall))
