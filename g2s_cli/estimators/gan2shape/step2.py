"""Step 2 (paper 3.1): pseudo samples under random views and lights, and their projections by the GAN."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from g2s_cli.config import LightRanges
from g2s_cli.estimators.base import MaskedImages, Observation
from g2s_cli.estimators.feedforward import FactorNets
from g2s_cli.estimators.gan2shape.offsets import EncoderPredictor, OffsetPredictor, PseudoSamples
from g2s_cli.estimators.gan2shape.sampling import ViewPrior, draw_lights
from g2s_cli.estimators.generate import generate
from g2s_cli.gan.losses import DiscriminatorDistance, PerceptualDistance, l1
from g2s_cli.gan.stylegan2 import Generator
from g2s_cli.geometry.normals import depth_to_normals
from g2s_cli.geometry.shading import diffuse_shading, shade
from g2s_cli.geometry.warp import forward_grid, grid_sample, warp

Sampler = Callable[[], PseudoSamples]


@dataclass(frozen=True)
class GanPrior:
    """What the method takes from the GAN, and the views and lights that it tries.

    Attributes:
        generator: G.
        distance: of discriminator features, for step 2.
        perceptual: for the reconstruction losses.
        views, lights: what step 2 draws.
    """

    generator: Generator
    distance: DiscriminatorDistance
    perceptual: PerceptualDistance
    views: ViewPrior
    lights: LightRanges


def pseudo_sampler(
    nets: FactorNets, observation: Observation, gan: GanPrior, batch: int, rng: torch.Generator
) -> Sampler:
    """A source of pseudo samples: the object, as the networks now see it, under random views and lights.

    Each call renders `batch` images with new draws; outside the object's warped mask they are 0.
    """
    image, camera = observation.image[None], nets.camera
    with torch.no_grad():
        canonical = nets.canonical(image)
        own_view, own_light = nets.view_of(image), nets.light_of(image)[0]
        normal = depth_to_normals(canonical.depth, camera)
        mask = grid_sample(observation.mask[None, None], forward_grid(canonical.depth, own_view, camera))
        depth = canonical.depth.expand(batch, -1, -1)
        albedo, mask = canonical.albedo.expand(batch, -1, -1, -1), mask.expand(batch, -1, -1, -1)

    @torch.no_grad()
    def draw() -> PseudoSamples:
        view, light = gan.views.draw(batch, rng, image.device), draw_lights(gan.lights, own_light, batch, rng)
        diffuse = diffuse_shading(normal.expand(batch, -1, -1, -1), light)
        texture = torch.cat((shade(albedo, diffuse, light), mask), dim=1)
        warped, valid = warp(texture, depth, view, camera)
        visible = ((warped[:, 3:] > 0.5) & valid.unsqueeze(1)).float()
        return PseudoSamples(warped[:, :3].clamp(-1, 1) * visible, visible, view, light)

    return draw


@torch.no_grad()
def photo_sample(nets: FactorNets, observation: Observation, generator: Generator) -> PseudoSamples:
    """The photo's object in its own view and light, as the GAN shows it: what offsets are relative to."""
    image = observation.image[None]
    inverted = observation.center_crop(generator(observation.latent[None]).clamp(-1, 1)) * observation.mask
    return PseudoSamples(inverted, observation.mask[None, None], nets.view_of(image), nets.light_of(image))


def offset_loss(
    predictor: EncoderPredictor, batch: PseudoSamples, photo: PseudoSamples, observation: Observation, gan: GanPrior
) -> Iterator[Float[Tensor, ""]]:
    """What step 2 minimises (Eq. 2) for a batch of pseudo samples, in parts that add up.

    Outside its mask a pseudo sample is unknown: the GAN's own image is pasted in there before features are compared,
    so that they see no border.
    """
    for part in batch.split(gan.generator.max_batch):
        offset = predictor.offset(part, photo)
        image = observation.center_crop(gan.generator(observation.latent + offset).clamp(-1, 1))
        pasted = part.mask * part.image + (1 - part.mask) * image.detach()
        features = gan.distance.between(gan.distance.features(image), gan.distance.features(pasted), part.mask)
        loss = l1(image, part.image, part.mask) + features + predictor.weight * offset.square().mean()
        yield loss * (len(part.image) / len(batch.image))


@torch.no_grad()
def project_samples(
    predictor: OffsetPredictor,
    samples: Sampler,
    photo: PseudoSamples,
    observation: Observation,
    generator: Generator,
    count: int,
) -> MaskedImages:
    """At least `count` projected samples: what the GAN makes of pseudo samples.

    Their masks are found in the new images by the observation's segmenter, or else are the pseudo samples'.
    """
    images: list[Tensor] = []
    masks: list[Tensor] = []
    while sum(len(batch) for batch in images) < count:
        for part in samples().split(generator.max_batch):
            latents = observation.latent + predictor.offset(part, photo)
            projected = generate(generator, latents, observation.center_crop, observation.segmenter)
            mask = part.mask if observation.segmenter is None else projected.mask
            images.append(projected.image * mask)
            masks.append(mask)
    return MaskedImages(torch.cat(images), torch.cat(masks))
