"""Latent offsets that make the GAN follow a change of view and light: the paper's encoder, or directions in W."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from g2s_cli.config import OFFSET_WEIGHT
from g2s_cli.estimators.gan2shape.offset_encoder import OffsetEncoder
from g2s_cli.gan.stylegan2 import Mapping


@dataclass(frozen=True)
class PseudoSamples:
    """Renderings of the object under other views and lights, with the views and lights they were made with."""

    image: Float[Tensor, "b 3 h w"]
    mask: Float[Tensor, "b 1 h w"]
    view: Float[Tensor, "b 6"]
    light: Float[Tensor, "b 4"]

    def split(self, count: int) -> Iterator[PseudoSamples]:
        """The same in parts of at most `count`."""
        tensors = (getattr(self, field.name) for field in fields(self))
        for part in zip(*(tensor.split(count) for tensor in tensors), strict=True):
            yield PseudoSamples(*part)


@runtime_checkable
class OffsetPredictor(Protocol):
    """Predicts the latents of pseudo samples, relative to the photo's."""

    def offset(self, samples: PseudoSamples, photo: PseudoSamples) -> Float[Tensor, "b d"]:
        """Latent offsets Δw of samples; `photo` is the object in the photo's own view and light (a batch of one)."""
        ...


@dataclass(frozen=True)
class EncoderPredictor:
    """The paper's: an encoder E that is trained on each photo (Eq. 2, 6, 7).

    Attributes:
        mapping: the generator's mapping network.
        encoder: E.
        depth: mapping layers of F₁; with none Δw is E's output.
        relative: E(sample) - E(photo) instead of E(sample), as in the published models of faces and cats.
        dtype: arithmetic of E.
        weight: of the offsets' squares in the loss (λ₁).
    """

    mapping: Mapping
    encoder: OffsetEncoder
    depth: int
    relative: bool
    dtype: torch.dtype = torch.float32
    weight: float = OFFSET_WEIGHT

    def offset(self, samples: PseudoSamples, photo: PseudoSamples) -> Float[Tensor, "b d"]:
        """Δw = F₁(E(I) + F₂(0)) - F(0)."""
        images = torch.cat((samples.image, photo.image)) if self.relative else samples.image
        with torch.autocast(images.device.type, self.dtype, enabled=self.dtype != torch.float32):
            code = self.encoder(images).float()
        code = code[:-1] - code[-1:] if self.relative else code
        split = self.mapping.depth + 1 - self.depth
        origin = self.mapping(code.new_zeros(1, self.mapping.latent_size), last=split)
        return self.mapping(code + origin, first=split) - self.mapping(origin, first=split)


@dataclass(frozen=True)
class LatentDirections:
    """Ours: one direction in W for each number of view and light, without any training on the photo.

    Attributes:
        directions: Δw for a change of one in (rotation x, rotation y, l_x, l_y), in radians and slants: a regression
            of latents on the views and lights that the jointly trained networks see in their images.
    """

    directions: Float[Tensor, "4 d"]

    def offset(self, samples: PseudoSamples, photo: PseudoSamples) -> Float[Tensor, "b d"]:
        """Δw, linear in the change of view and light."""
        change = torch.cat((samples.view[:, :2] - photo.view[:, :2], samples.light[:, 2:] - photo.light[:, 2:]), dim=1)
        return change @ self.directions
