"""Step 3 (paper 3.1): depth, albedo, views and lights that reconstruct the photo and its projected samples (Eq. 3)."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from g2s_cli.estimators.base import MaskedImages, Observation
from g2s_cli.estimators.feedforward import FactorNets, render_batch
from g2s_cli.estimators.reconstruction import PhotoGeometry, image_loss, photo_loss
from g2s_cli.gan.losses import PerceptualDistance


def shape_loss(
    nets: FactorNets,
    observation: Observation,
    samples: MaskedImages,
    perceptual: PerceptualDistance,
    *,
    symmetric: bool,
) -> Float[Tensor, ""]:
    """What step 3 minimises for a photo and a batch of its projected samples.

    Views and lights are predicted from each sample, not those its pseudo sample was rendered with: the GAN follows
    only so far.
    """
    image, camera = observation.image[None], nets.camera
    canonical = nets.canonical(image)
    photo = PhotoGeometry.of(canonical.depth, nets.view_of(image), nets.light_of(image), nets, symmetric=symmetric)
    loss = photo_loss(photo, canonical.albedo, observation, perceptual)
    views, lights = nets.view_of(samples.image), nets.light_of(samples.image)
    sample_loss = image_loss(render_batch(canonical, views, lights, camera), samples, perceptual)
    if symmetric:
        flipped = render_batch(canonical.hflip(), views, lights, camera)
        sample_loss = (sample_loss + image_loss(flipped, samples, perceptual)) / 2
    return loss + sample_loss
