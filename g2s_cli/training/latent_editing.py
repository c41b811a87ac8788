"""Latent editing: directions in W that turn a GAN's objects and move their light, found by regression.

The networks predict the view and light of generated images. These attributes are close to linear in w
(docs/experiments/latent-editing.md), so w's mean change with an attribute edits that attribute alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from g2s_cli.estimators.base import MaskedImages
from g2s_cli.estimators.feedforward import FactorNets
from g2s_cli.estimators.generate import generate
from g2s_cli.gan.latents import random_latents
from g2s_cli.geometry.center_crop import CenterCrop
from g2s_cli.loading import Gan
from g2s_cli.result.pictures import MAX_TURN_RAD

ATTRIBUTES = ("pitch", "yaw", "light_x", "light_y")  # rotations about x and y, and l_x, l_y
RIDGE = 0.0125  # in units of the latents' mean variance
REFERENCES = 3000  # images that the regression is fitted to
CHUNK = 100  # images that the networks see at once
# Standard deviations and limits of edited views, in standard deviations of the GAN's own.
VIEW_STD, MAX_VIEW = 1.1, 2.2
WIDE_STD, MAX_WIDE = (1.1, 1.5), 2.6
TEMPLATE_PITCHES, TEMPLATE_YAWS = (-2, -1, 0, 1, 2), (-2, -1.5, -1, -0.5, 0, 0.5, 1, 1.5, 2)


@dataclass(frozen=True)
class ObjectSampler:
    """Images of a GAN's objects, in the centre crop that the canonical depth covers."""

    gan: Gan
    center_crop: CenterCrop

    def latents(self, count: int, rng: torch.Generator) -> Float[Tensor, "b d"]:
        """Random latents in W."""
        return random_latents(self.gan.generator, count, rng)

    def images(self, latents: Float[Tensor, "b *n d"]) -> MaskedImages:
        """Images with their background, and object masks. latents: one for all layers, or one for each."""
        return generate(self.gan.generator, latents, self.center_crop, self.gan.segmenter)

    def objects(self, latents: Float[Tensor, "b *n d"]) -> MaskedImages:
        """Images that are 0 outside their masks."""
        return self.images(latents).masked


@dataclass(frozen=True)
class References:
    """Random objects on which attributes are measured: latents, images that are 0 outside the masks, and masks."""

    latents: Float[Tensor, "n d"]
    images: Float[Tensor, "n 3 h w"]
    masks: Float[Tensor, "n 1 h w"]

    @classmethod
    def sample(cls, sampler: ObjectSampler, rng: torch.Generator, count: int = REFERENCES) -> References:
        """Random objects of a GAN."""
        latents = sampler.latents(count, rng)
        objects = sampler.objects(latents)
        return cls(latents, objects.image, objects.mask)

    @torch.no_grad()
    def predict(self, network: Callable[[Tensor], Tensor]) -> Float[Tensor, n * k]:
        """A network's output for each image."""
        return torch.cat([network(images) for images in self.images.split(CHUNK)])


@dataclass(frozen=True)
class LatentEditor:
    """Linear regressions between latents and ATTRIBUTES.

    Attributes:
        mean: of the latents.
        weights: w minus the mean → attributes, in standard deviations.
        steps: mean change of w with a standard deviation of each attribute.
        std: these standard deviations, in network units.
        r2: coefficients of determination of the first regression.
    """

    mean: Float[Tensor, d]
    weights: Float[Tensor, "d 4"]
    steps: Float[Tensor, "4 d"]
    std: Float[Tensor, 4]
    r2: Float[Tensor, 4]

    @classmethod
    def fit(cls, latents: Float[Tensor, "n d"], attributes: Float[Tensor, "n 4"]) -> LatentEditor:
        """Regress attributes on latents (ridge regression), and latents on attributes (least squares)."""
        latents, attributes = latents.double(), attributes.double()  # float32 sums depend on the memory's alignment
        mean, std = latents.mean(dim=0), attributes.std(dim=0)
        centred, scaled = latents - mean, (attributes - attributes.mean(dim=0)) / std
        gram = centred.T @ centred
        ridge = RIDGE * gram.diagonal().mean() * torch.eye(len(gram), device=gram.device)
        weights = torch.linalg.solve(gram + ridge, centred.T @ scaled)
        steps = torch.linalg.lstsq(scaled, centred).solution
        r2 = 1 - (scaled - centred @ weights).square().mean(dim=0)
        return cls(*(result.float() for result in (mean, weights, steps, std, r2)))

    @classmethod
    def of(cls, nets: FactorNets, references: References) -> LatentEditor:
        """The editor of the attributes that the networks predict."""
        views, lights = references.predict(nets.view_code), references.predict(nets.light_code)
        return cls.fit(references.latents, torch.cat((views[:, :2], lights[:, 2:]), dim=1))

    def attributes(self, latents: Float[Tensor, "b d"]) -> Float[Tensor, "b 4"]:
        """Predicted attributes, in standard deviations from their mean."""
        return (latents - self.mean) @ self.weights

    def edit(self, latents: Float[Tensor, "b d"], attributes: Float[Tensor, "b v 4"]) -> Float[Tensor, "b v d"]:
        """Latents of the same objects with other attributes, in standard deviations from their mean."""
        return latents[:, None] + (attributes - self.attributes(latents)[:, None]) @ self.steps

    def random_views(self, latents: Float[Tensor, "b d"], count: int, rng: torch.Generator) -> Float[Tensor, "b v d"]:
        """Latents of the same objects from `count` random views, in their own light.

        Every edit changes the identity a little, and edits of light teach less (docs/experiments/latent-editing.md).
        """
        views = (torch.randn(len(latents), count, 2, generator=rng) * VIEW_STD).clamp(-MAX_VIEW, MAX_VIEW)
        return self._edit_views(latents, views)

    def wide_views(self, latents: Float[Tensor, "b d"], rng: torch.Generator) -> Float[Tensor, "b d"]:
        """Latents of the same objects, each from a random view; these vary more than the GAN's own."""
        views = torch.randn(len(latents), 2, generator=rng) * torch.tensor(WIDE_STD)
        return self._edit_views(latents, views.clamp(-MAX_WIDE, MAX_WIDE)[:, None])[:, 0]

    def template_latents(self) -> Float[Tensor, "n d"]:
        """Latents of the mean object from a grid of views."""
        grid = [(pitch, yaw, 0.0, 0.0) for pitch in TEMPLATE_PITCHES for yaw in TEMPLATE_YAWS]
        return self.mean + self.mean.new_tensor(grid) @ self.steps

    @property
    def directions(self) -> Float[Tensor, "4 d"]:
        """Δw for a change of one in each attribute, in radians and light slants."""
        units = self.std.new_tensor([MAX_TURN_RAD, MAX_TURN_RAD, 1.0, 1.0])
        return self.steps / (self.std * units)[:, None]

    def _edit_views(self, latents: Float[Tensor, "b d"], views: Float[Tensor, "b v 2"]) -> Float[Tensor, "b v d"]:
        light = self.attributes(latents)[:, None, 2:].expand(-1, views.shape[1], -1)
        return self.edit(latents, torch.cat((views.to(latents.device), light), dim=2))
