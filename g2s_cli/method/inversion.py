"""From users' photos to latents w whose images G(w) are the photos (paper 4.1; Karras et al. 2020, app. D).

Adam on w alone, from the nearest of many random latents, with noise on w that dies away, a pull towards the
cloud of latents the mapping network makes, and a distance of L1 and discriminator features. Several photos go
through the networks as one batch, each with a latent of its own that knows nothing of the others.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from g2s_cli.method.latents import LatentCloud, random_latents
from g2s_cli.method.losses import DiscriminatorDistance
from g2s_cli.method.metrics import psnr
from g2s_cli.method.progress import Watch
from g2s_cli.nets.stylegan2 import Generator

PIXELS_AT_ONCE = (
    1 << 16
)  # of photos in one update: 16 of 64 px, 4 of 128; more are slower (benchmarks/inversion_batch.py)


@dataclass(frozen=True)
class InversionSettings:
    """How hard to try. Figures behind the defaults are in docs/LOG.md.

    candidates: random latents the start is chosen from. rate: Adam's. noise: of the latent's own spread, at
    the start; gone after three quarters of `iterations`. pull: weight of the squared distance from the mean
    latent in units of the latents' spread. features: weight of the discriminator's features beside L1.
    """

    iterations: int = 200
    candidates: int = 2048
    rate: float = 0.05
    noise: float = 0.05
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
    strangeness: float


def invert(
    photos: Float[Tensor, "k 3 s s"],
    generator: Generator,
    distance: DiscriminatorDistance,
    settings: InversionSettings,
    rng: torch.Generator,
    watch: Watch,
    known: Float[Tensor, "k d"] | None = None,
) -> list[Inversion]:
    """Find w with G(w) ≈ photo for each photo. The networks stay as they are.

    The same generator state gives a photo the same w in whatever company: candidates are drawn and shown once for all
    photos, and each is moved with the noise that it alone would draw. known: where to start; None is the nearest of
    some random latents.
    """
    latents = random_latents(generator, settings.candidates, rng)
    cloud = LatentCloud.of(latents)
    start = _nearest(latents, photos, generator, distance, watch) if known is None else known.to(photos.device)
    state, count = rng.get_state(), max(1, PIXELS_AT_ONCE // generator.size**2)
    found = []
    for some, own in zip(photos.split(count), start.split(count), strict=True):
        rng.set_state(state)
        found += _descend(some, own, cloud, generator, distance, settings, rng, watch)
    return found


def _descend(
    photos: Float[Tensor, "k 3 s s"],
    start: Float[Tensor, "k d"],
    cloud: LatentCloud,
    generator: Generator,
    distance: DiscriminatorDistance,
    settings: InversionSettings,
    rng: torch.Generator,
    watch: Watch,
) -> list[Inversion]:
    """Adam from some latents on, all of them at once, each as if it were alone."""
    wanted = distance.features(photos)
    latent = start.clone().requires_grad_()
    optimizer = torch.optim.Adam([latent], lr=settings.rate, betas=(0.9, 0.999))
    unit = cloud.spread / math.sqrt(latent.shape[1])

    watch.begin("invert", settings.iterations)
    for done in range(settings.iterations):
        share = done / settings.iterations
        for group in optimizer.param_groups:
            group["lr"] = settings.rate * _ramp(share)
        strength = settings.noise * max(0.0, 1 - share / 0.75) ** 2
        jitter = torch.randn(1, latent.shape[1], generator=rng, device=rng.device).to(latent) * (unit * strength)
        image = generator(latent + jitter)
        away = (latent - cloud.mean).square().sum(dim=1) / cloud.spread.square()
        losses = (
            (image - photos).abs().flatten(1).mean(dim=1)
            + settings.features * _gaps(distance.features(image), wanted)
            + settings.pull * away
        )
        optimizer.zero_grad()
        losses.sum().backward()
        optimizer.step()
        watch.advance(done + 1, losses.mean().item())

    with torch.no_grad():
        found = latent.detach()
        images = generator(found)
        gaps = _gaps(distance.features(images), wanted) / distance.blocks
        away = (found - cloud.mean).norm(dim=1) / cloud.spread
    return [
        Inversion(w, image.clamp(-1, 1), psnr(image, photo), gap, strangeness)
        for w, image, photo, gap, strangeness in zip(found, images, photos, gaps.tolist(), away.tolist(), strict=True)
    ]


def _gaps(a: Sequence[Float[Tensor, "k _ _ _"]], b: Sequence[Float[Tensor, "k _ _ _"]]) -> Float[Tensor, k]:
    """How far each photo's features are from those wanted: mean L1, summed over blocks."""
    gaps = [(one.float() - other.float()).abs().flatten(1).mean(dim=1) for one, other in zip(a, b, strict=True)]
    return torch.stack(gaps).sum(dim=0)


@torch.no_grad()
def _nearest(
    latents: Float[Tensor, "n d"],
    photos: Float[Tensor, "k 3 s s"],
    generator: Generator,
    distance: DiscriminatorDistance,
    watch: Watch,
    batch: int = 64,
) -> Float[Tensor, "k d"]:
    """For each photo the latent whose image's features are nearest the photo's. Each latent is shown once."""
    wanted = [maps.flatten(1).float() for maps in distance.features(photos)]
    least = wanted[0].new_full((len(photos),), torch.inf)
    start = latents[:1].repeat(len(photos), 1)
    chunks = torch.split(latents, min(batch, generator.at_once))
    watch.begin("search", len(chunks))
    for done, chunk in enumerate(chunks, start=1):
        shown = [maps.flatten(1).float() for maps in distance.features(generator(chunk))]
        gaps = torch.stack([torch.cdist(a, b, p=1) / a.shape[1] for a, b in zip(shown, wanted, strict=True)]).sum(0)
        gap, index = gaps.min(dim=0)
        start = torch.where((gap < least)[:, None], chunk[index], start)
        least = torch.minimum(least, gap)
        watch.advance(done, least.mean().item())
    return start


def _ramp(share: float, up: float = 0.05, down: float = 0.25) -> float:
    """Learning-rate factor over a run: a short rise, a level stretch, a cosine fall."""
    fall = min(1.0, (1 - share) / down)
    return min(1.0, (share + 1e-3) / up) * (0.5 - 0.5 * math.cos(math.pi * fall))
