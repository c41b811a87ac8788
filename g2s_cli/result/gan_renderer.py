"""Render a result through its GAN, as step 2 of the paper does with pseudo samples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from g2s_cli.config import Part
from g2s_cli.errors import WeightsError
from g2s_cli.estimators.gan2shape.offsets import PseudoSamples
from g2s_cli.files import sha256_of
from g2s_cli.geometry.center_crop import CenterCrop
from g2s_cli.geometry.factors import Factors
from g2s_cli.geometry.render import mask_to_view, render
from g2s_cli.loading import Weights, load_gan, offset_predictor_of, with_gan_size
from g2s_cli.machine import Machine
from g2s_cli.result.schema import Result
from g2s_cli.result.surface import canonical_mask
from g2s_cli.weights.categories import load_category
from g2s_cli.weights.registry import Sources, fetch_weights


def render_with_gan(result: Result, variants: Sequence[Factors], machine: Machine) -> Iterator[Float[Tensor, "3 h w"]]:
    """Project renderings of other factors through the generator, in batches.

    The offset predictor moves the photo's latent by what distinguishes a rendering from G(w).

    Args:
        result: The result, whose GAN is loaded.
        variants: Its factors with other views or lights.
        machine: Where the GAN runs.

    Returns:
        Images in [-1, 1] at the working size.

    Raises:
        WeightsError: The GAN is missing, or is not the result's.
    """
    category = load_category(result.category)
    gan_file = result.report.get("gan_file")
    needed: list[Part] = [] if gan_file else ["gan"]
    needed += [] if result.offset_net else ["networks"]
    weights = Weights(fetch_weights(category, needed, Sources.from_environment()), Path(gan_file) if gan_file else None)
    gan = load_gan(weights, machine)
    _check_gan(result, weights)
    category = with_gan_size(category, gan.generator)
    center_crop = CenterCrop(category.frame_share, category.working_size)
    predictor = offset_predictor_of(result.offset_net, category, gan, weights, machine)
    latent, photo_mask = result.latent.to(machine.device), result.mask.to(machine.device)
    object_mask = canonical_mask(result)
    with torch.no_grad():
        inverted = center_crop(gan.generator(latent[None]).clamp(-1, 1)) * photo_mask
    reference = _pseudo_samples([result.factors], inverted, photo_mask[None], machine)

    @torch.no_grad()
    def render_batch(batch: Sequence[Factors]) -> Float[Tensor, "b 3 h w"]:
        masks = torch.stack([mask_to_view(object_mask, factors, result.camera) for factors in batch]).round()
        images = torch.stack([render(factors, result.camera).image for factors in batch]) * masks[:, None]
        offset = predictor.offset(_pseudo_samples(batch, images, masks, machine), reference)
        return center_crop(gan.generator(latent + offset).clamp(-1, 1)).cpu()

    size = gan.generator.max_batch
    return (image for first in range(0, len(variants), size) for image in render_batch(variants[first : first + size]))


def _check_gan(result: Result, weights: Weights) -> None:
    """Raise WeightsError if the GAN is not the result's: the latent is no inversion of the photo there."""
    sha256, path = result.report.get("weights", {}).get("gan"), weights.gan_file or weights.files["gan"]
    if sha256 and sha256_of(path) != sha256:
        raise WeightsError(
            f"The result was made with another GAN than {path}: the one whose SHA-256 begins with {sha256[:12]}.",
            "Reconstruct the photo again, or use --by mesh.",
        )


def _pseudo_samples(
    variants: Sequence[Factors], images: Float[Tensor, "b 3 h w"], masks: Float[Tensor, "b h w"], machine: Machine
) -> PseudoSamples:
    view, light = (torch.stack([getattr(factors, name) for factors in variants]) for name in ("view", "light"))
    return PseudoSamples(*(tensor.to(machine.device) for tensor in (images, masks.unsqueeze(1), view, light)))
