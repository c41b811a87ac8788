"""Learning the morphable model on from photos, without depth or any other label.

A GAN's images have nearly one light, photos have many. So the fine slopes of the mean shape, which no smooth mode has,
are learnt from shading (photometric stereo over a population), in turn with fits, shape basis and albedo.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from g2s_cli.estimators.base import MaskedImages
from g2s_cli.estimators.morphable import (
    ALBEDO_SPREAD,
    PIXEL_WEIGHT,
    Correspondences,
    neg_log_posterior,
)
from g2s_cli.estimators.morphable_model import smooth_modes
from g2s_cli.gan.inversion import InversionSettings, invert
from g2s_cli.progress import Progress, SilentProgress
from g2s_cli.seeding import seeded_generator
from g2s_cli.segmentation.masks import segment_with_features
from g2s_cli.training.dataset import ImageDataset
from g2s_cli.training.factor_analysis import CORRELATED_PX
from g2s_cli.training.feedforward import TrainedNetworks
from g2s_cli.training.morphable import (
    EMState,
    Observations,
    fit_schedule,
    refit_albedo_basis,
    update_albedo,
    update_shape,
)

CHUNK = 32  # photos at once
INVERSION = InversionSettings(iterations=50)  # enough for masks and colours
DETAIL_UPDATES, DETAIL_LR = 80, 0.02  # of the mean shape in a round, each on one chunk
MIN_AMPLITUDE = 0.02  # of a fine mode, as a share of the strongest's
ALBEDO_COMPONENTS = 32


def observe_photos(
    trained: TrainedNetworks, images: ImageDataset, count: int, seed: int, progress: Progress
) -> tuple[Observations, list[Float[Tensor, "b 1 h w"]]]:
    """Correspondences of the first `count` photos, which are inverted first, and the object masks of each part."""
    gan, center_crop = trained.sampler.gan, trained.sampler.center_crop
    progress.begin("correspondences", count)
    parts: list[Correspondences] = []
    masks: list[Tensor] = []
    for batch in images.batches(count, CHUNK):
        rng, photos = seeded_generator(seed, "inversion"), batch.to(trained.template.depth.device)
        inversions = invert(photos, gan.generator, gan.inversion_distance, INVERSION, rng, SilentProgress())
        latents = torch.stack([one.latent for one in inversions])
        whole = [segment_with_features(latent, gan.generator, gan.segmenter, center_crop).mask for latent in latents]
        masks.append(torch.stack(whole).unsqueeze(1))
        parts.append(trained.correspond(MaskedImages(center_crop(photos), masks[-1]).masked, latents))
        progress.advance(sum(len(part.views) for part in parts), parts[-1].weights.mean().item())
    return Observations.of(parts, trained.nets.camera), masks


class Round(NamedTuple):
    """What a round learns beside the mean albedo and its variance.

    Attributes:
        reach: of the modes in which the mean shape is refined, in shares of the image's side; 0 for none.
        shape_basis: whether the shape basis is learnt.
        albedo_basis: whether the albedo basis is learnt anew.
    """

    reach: float = 0.0
    shape_basis: bool = False
    albedo_basis: bool = False


ROUNDS = [
    *[Round(reach=4 / 64, shape_basis=True)] * 10,
    *[Round(reach=2.5 / 64)] * 4,
    *[Round(reach=1.5 / 64)] * 6,
    *[Round(shape_basis=True)] * 2,
    *[Round(albedo_basis=True)] * 2,
]


def photo_round(state: EMState, observations: Observations, number: int, seed: int) -> tuple[EMState, float]:
    """Round `number` of ROUNDS: the state, and the variance that was left."""
    plan = ROUNDS[number]
    model = state.model(observations.modes)
    coeffs = observations.fit(model, state.coeffs, *fit_schedule(number))
    if plan.shape_basis:
        state = update_shape(state, coeffs, observations.covariance(model, coeffs))
    else:
        state = replace(state, coeffs=coeffs)
    if plan.reach:
        fine = smooth_modes(observations.camera, plan.reach, MIN_AMPLITUDE).to(observations.modes.device)
        rng = seeded_generator(seed, "mean detail", number)
        state = replace(state, detail=state.detail + mean_detail(state, fine, observations, rng))
    albedo, variance, residual = update_albedo(state, observations)
    if plan.albedo_basis:
        rng = seeded_generator(seed, "albedo basis", number)
        albedo, albedo_basis, variance = refit_albedo_basis(state, observations, ALBEDO_COMPONENTS, rng)
        zeros = state.coeffs.albedo.new_zeros(len(state.coeffs.albedo), ALBEDO_COMPONENTS)
        state = replace(state, albedo_basis=albedo_basis / ALBEDO_SPREAD, coeffs=replace(state.coeffs, albedo=zeros))
    return replace(state, albedo=albedo, variance=variance), residual


def mean_detail(
    state: EMState, fine: Float[Tensor, "h w 3 m"], observations: Observations, rng: torch.Generator
) -> Float[Tensor, "h w 3"]:
    """The change of the mean shape along fine modes that makes the photos likelier, by Adam on random chunks."""
    model, pairs = state.model(observations.modes), list(observations.pairs(state.coeffs))
    amounts = fine.new_zeros(fine.shape[-1], requires_grad=True)
    adam = torch.optim.Adam([amounts], lr=DETAIL_LR, betas=(0.9, 0.98))
    counts = torch.tensor([float(len(part.views)) for part, _ in pairs])
    for index in torch.multinomial(counts, DETAIL_UPDATES, replacement=True, generator=rng).tolist():
        part, coeffs = pairs[index]
        moved = replace(model, mean=model.mean + fine @ amounts)
        loss = neg_log_posterior(moved, part, observations.camera, coeffs).mean()
        adam.zero_grad()
        (loss * int(counts.sum()) / (CORRELATED_PX * PIXEL_WEIGHT) + amounts.square().sum() / 2).backward()
        adam.step()
    return fine @ amounts.detach()
