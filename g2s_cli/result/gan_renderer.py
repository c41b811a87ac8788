"""Renderings projected through the GAN: what step 2 of the paper does to pseudo samples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from g2s_cli.errors import WeightsError
from g2s_cli.estimators.gan2shape.steps import PseudoSamples
from g2s_cli.files import sha256_of
from g2s_cli.geometry.center_crop import CenterCrop
from g2s_cli.geometry.factors import Factors
from g2s_cli.geometry.render import mask_to_view, render
from g2s_cli.loading import Machine, Weights, fitted, load_gan, offset_predictor_of
from g2s_cli.result.schema import Result
from g2s_cli.result.surface import canonical_mask
from g2s_cli.weights.catalog import Part, load_category
from g2s_cli.weights.sources import Sources, obtain


def render_with_gan(result: Result, variants: Sequence[Factors], machine: Machine) -> Iterator[Float[Tensor, "3 h w"]]:
    """What the GAN makes of renderings of changed factors, some at a time."""
    category = load_category(result.category)
    needed: list[Part] = [] if result.report.get("gan_file") else ["gan"]
    needed += [] if result.offset_net else ["networks"]
    own_gan = Path(result.report["gan_file"]) if result.report.get("gan_file") else None
    weights = Weights(obtain(category, needed, Sources.of_environment()), own_gan)
    gan = load_gan(weights, machine)
    _check_gan(result, weights)
    category = fitted(category, gan.generator)
    center_crop = CenterCrop(category.frame_share, category.working_size)
    offset_predictor = offset_predictor_of(result, category, gan, weights, machine)
    mask, latent, own_mask = (
        canonical_mask(result),
        result.latent.to(machine.device),
        result.mask.to(machine.device),
    )
    with torch.no_grad():
        shown = center_crop(gan.generator(latent[None]).clamp(-1, 1)) * own_mask
    own = _asked([result.factors], shown, own_mask[None], machine)

    @torch.no_grad()
    def painted(some: Sequence[Factors]) -> Float[Tensor, "b 3 h w"]:
        masks = torch.stack([mask_to_view(mask, factors, result.camera) for factors in some]).round()
        pseudo = torch.stack([render(factors, result.camera).image for factors in some]) * masks[:, None]
        offset = offset_predictor.offset(_asked(some, pseudo, masks, machine), own)
        return center_crop(gan.generator(latent + offset).clamp(-1, 1)).cpu()

    at_once = gan.generator.at_once
    return (image for first in range(0, len(variants), at_once) for image in painted(variants[first : first + at_once]))


def _check_gan(result: Result, weights: Weights) -> None:
    """Raise WeightsError for another GAN than the result's: its latent is no picture of the photo there."""
    stated = result.report.get("weights", {}).get("gan")
    path = weights.gan_file or weights.files["gan"]
    if stated and sha256_of(path) != stated:
        raise WeightsError(
            f"The result was made with another GAN than {path}: the one whose SHA-256 begins with {stated[:12]}.",
            "Reconstruct the photo again, or use --by mesh.",
        )


def _asked(
    variants: Sequence[Factors], image: Float[Tensor, "b 3 h w"], mask: Float[Tensor, "b h w"], machine: Machine
) -> PseudoSamples:
    """Pictures of factors as something to ask the GAN for."""
    view, light = (torch.stack([getattr(one, name) for one in variants]) for name in ("view", "light"))
    tensors = (image, mask.unsqueeze(1), view, light)
    return PseudoSamples(*(tensor.to(machine.device) for tensor in tensors))
