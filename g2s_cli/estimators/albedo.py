"""Step 1 of the paper (3.1): the albedo that reconstructs the photo with depth, view and light held fixed."""

from __future__ import annotations

import copy
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from g2s_cli.estimators.base import Observation
from g2s_cli.estimators.feedforward import FactorNets
from g2s_cli.estimators.optimize import Fit, minimise
from g2s_cli.estimators.reconstruction import PhotoGeometry, photo_loss
from g2s_cli.gan.losses import PerceptualDistance
from g2s_cli.geometry.factors import Factors
from g2s_cli.progress import Progress


def fit_albedo(
    nets: FactorNets,
    factors: Factors,
    observation: Observation,
    perceptual: PerceptualDistance,
    fit: Fit,
    progress: Progress,
) -> Factors:
    """The factors with the albedo that a copy of A gives after it was fitted to the photo."""
    nets = replace(nets, albedo=copy.deepcopy(nets.albedo))
    depth, view, light = factors.depth[None], factors.view[None], factors.light[None]
    photo = PhotoGeometry.of(depth, view, light, nets, symmetric=False)

    def loss() -> list[Tensor]:
        return [albedo_loss(nets, photo, observation, perceptual)]

    minimise(loss, nets.parameters("albedo"), fit, "albedo", progress)
    with torch.no_grad():
        return replace(factors, albedo=nets.albedo_of(observation.image[None])[0])


def albedo_loss(
    nets: FactorNets, photo: PhotoGeometry, observation: Observation, perceptual: PerceptualDistance
) -> Float[Tensor, ""]:
    """What step 1 minimises; its gradient reaches A alone."""
    return photo_loss(photo, nets.albedo_of(observation.image[None]), observation, perceptual)
