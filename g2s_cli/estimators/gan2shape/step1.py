"""Step 1 of the paper (3.1): what the albedo network minimises with depth, view and light held fixed."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from g2s_cli.estimators.base import Observation
from g2s_cli.estimators.feedforward import FactorNets
from g2s_cli.estimators.reconstruction import PhotoGeometry, photo_loss
from g2s_cli.gan.losses import PerceptualDistance


def albedo_loss(
    nets: FactorNets, photo: PhotoGeometry, observation: Observation, perceptual: PerceptualDistance
) -> Float[Tensor, ""]:
    """The reconstruction loss of the photo; its gradient reaches A alone."""
    return photo_loss(photo, nets.albedo_of(observation.image[None]), observation, perceptual)
