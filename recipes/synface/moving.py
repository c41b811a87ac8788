"""The GAN's own random faces, and the four directions in W that turn them and move their light.

The networks say of each face where it looks and whence it is lit. What latents have to do with those numbers is close
to linear (docs/experiments/latent-editing.md), so the mean change of w with each of them is a direction: along it the
face turns, or its light moves, and the person stays.
"""

from __future__ import annotations

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

FACTORS = ("pitch", "yaw", "light_x", "light_y")  # rotations about x and y, and l_x, l_y
RIDGE = 0.0125  # of the latents' mean variance: 3 000 faces say little of most of 512 numbers
SPREAD, WIDEST = 1.1, 2.2  # of what moved faces are asked to be, in standard deviations of random ones
GALLERY = 3000  # faces that directions are found on
MEAN_PITCHES, MEAN_YAWS = (-2, -1, 0, 1, 2), (-2, -1.5, -1, -0.5, 0, 0.5, 1, 1.5, 2)  # standard deviations


@dataclass(frozen=True)
class Source:
    """Where training images come from: a GAN, and what of its pictures the relief covers, at which size."""

    gan: Gan
    center_crop: CenterCrop

    def show(self, latents: Float[Tensor, "b *n d"]) -> MaskedImages:
        """The faces of some latents (of one, or of one a layer), with their background, and where they are."""
        return generate(self.gan.generator, latents, self.center_crop, self.gan.segmenter)

    def random(self, count: int, rng: torch.Generator) -> Float[Tensor, "b d"]:
        """Latents of random faces."""
        return random_latents(self.gan.generator, count, rng)


@dataclass(frozen=True)
class Gallery:
    """Faces that the networks are asked about again and again: latents, images that are 0 outside the face, masks."""

    latents: Float[Tensor, "n d"]
    images: Float[Tensor, "n 3 h w"]
    masks: Float[Tensor, "n 1 h w"]

    @classmethod
    def of(cls, source: Source, rng: torch.Generator, count: int = GALLERY) -> Gallery:
        """Random faces."""
        latents = source.random(count, rng)
        faces = source.show(latents).masked
        return cls(latents, faces.image, faces.mask)

    @torch.no_grad()
    def views(self, nets: FactorNets) -> Float[Tensor, "n 6"]:
        """The view of each face in network units, as the networks see it."""
        return torch.cat([nets.view_code(some) for some in self.images.split(100)])

    @torch.no_grad()
    def lights(self, nets: FactorNets) -> Float[Tensor, "n 4"]:
        """The light of each face in network units, as the networks see it."""
        return torch.cat([nets.light_code(some) for some in self.images.split(100)])


@dataclass(frozen=True)
class Moves:
    """How latents go with the four numbers of FACTORS.

    mean: of latents. reading: what a latent's distance from it says of the numbers, in their standard deviations.
    writing: the mean change of w with one standard deviation of each number. spread: those deviations, in network
    units. explained: R² of the reading.
    """

    mean: Float[Tensor, d]
    reading: Float[Tensor, "d 4"]
    atomic_write: Float[Tensor, "4 d"]
    spread: Float[Tensor, 4]
    explained: Float[Tensor, 4]

    @classmethod
    def found(cls, latents: Float[Tensor, "n d"], numbers: Float[Tensor, "n 4"]) -> Moves:
        """Regress numbers on latents (with a ridge), and latents on numbers (least squares)."""
        latents, numbers = latents.double(), numbers.double()  # sums of float32 are rounded by where they lie in memory
        mean, spread = latents.mean(dim=0), numbers.std(dim=0)
        centred, scaled = latents - mean, (numbers - numbers.mean(dim=0)) / spread
        gram = centred.T @ centred
        ridge = RIDGE * gram.diagonal().mean() * torch.eye(len(gram), device=gram.device)
        reading = torch.linalg.solve(gram + ridge, centred.T @ scaled)
        atomic_write = torch.linalg.lstsq(scaled, centred).solution
        explained = 1 - (scaled - centred @ reading).square().mean(dim=0)
        return cls(*(result.float() for result in (mean, reading, atomic_write, spread, explained)))

    @classmethod
    def of(cls, nets: FactorNets, gallery: Gallery) -> Moves:
        """Those of what the networks now say of the gallery."""
        views, lights = gallery.views(nets), gallery.lights(nets)
        return cls.found(gallery.latents, torch.cat((views[:, :2], lights[:, 2:]), dim=1))

    def read(self, latents: Float[Tensor, "b d"]) -> Float[Tensor, "b 4"]:
        """The numbers of faces, in standard deviations from the mean face's."""
        return (latents - self.mean) @ self.reading

    def moved(self, latents: Float[Tensor, "b d"], wanted: Float[Tensor, "b v 4"]) -> Float[Tensor, "b v d"]:
        """Latents of the same faces with the wanted numbers, in standard deviations from the mean face's."""
        return latents[:, None] + (wanted - self.read(latents)[:, None]) @ self.atomic_write

    def some_views(self, latents: Float[Tensor, "b d"], count: int, rng: torch.Generator) -> Float[Tensor, "b v d"]:
        """Latents of the same faces, each from `count` random views.

        Their light stays as it is: every move changes the person a little, and this one teaches less
        (docs/experiments/latent-editing.md).
        """
        view = (torch.randn(len(latents), count, 2, generator=rng) * SPREAD).clamp(-WIDEST, WIDEST)
        light = self.read(latents)[:, None, 2:].expand(-1, count, -1)
        return self.moved(latents, torch.cat((view.to(latents.device), light), dim=2))

    def mean_face(self) -> Float[Tensor, "n d"]:
        """Latents of the mean face from views all around it: what faces of a view have in common, view by view."""
        asked = [(pitch, yaw, 0.0, 0.0) for pitch in MEAN_PITCHES for yaw in MEAN_YAWS]
        return self.mean + self.mean.new_tensor(asked) @ self.atomic_write

    @property
    def directions(self) -> Float[Tensor, "4 d"]:
        """Δw for a change of one in each number, in radians and slants (`method.stages.LinearProjector`)."""
        units = self.spread.new_tensor([MAX_TURN_RAD, MAX_TURN_RAD, 1.0, 1.0])
        return self.atomic_write / (self.spread * units)[:, None]
