"""Latent offsets: the paper's encoder (Eq. 7), and linear directions."""

from __future__ import annotations

import pytest
import torch
from recording import pseudo_samples

from g2s_cli.estimators.gan2shape.offset_encoder import OffsetEncoder
from g2s_cli.estimators.gan2shape.offsets import EncoderPredictor, LatentDirections
from g2s_cli.gan.stylegan2 import Generator


def test_latent_directions_are_linear_in_the_change_of_rotation_and_light() -> None:
    directions = torch.randn(4, 8, generator=torch.Generator().manual_seed(0))
    predictor, photo, other = LatentDirections(directions), pseudo_samples(1), pseudo_samples(1)
    assert not predictor.offset(photo, photo).any()
    other.view[0, 1] += 0.5  # yaw
    other.view[0, 2:] += 1  # roll and translations have no direction
    other.light[0, 3] -= 2  # l_y
    other.light[0, :2] += 1  # ambient and diffuse have none either
    torch.testing.assert_close(predictor.offset(other, photo)[0], 0.5 * directions[1] - 2 * directions[3])


@torch.no_grad()
@pytest.mark.parametrize("depth", [8, 3])
def test_relative_offsets_vanish_for_the_photo_itself(generator: Generator, encoder: OffsetEncoder, depth: int) -> None:
    predictor = EncoderPredictor(generator.mapping, encoder, depth=depth, relative=True)
    photo, others = pseudo_samples(1), pseudo_samples(3, seed=1)
    torch.testing.assert_close(predictor.offset(photo, photo), torch.zeros(1, 512), rtol=0, atol=1e-4)
    assert predictor.offset(others, photo).norm(dim=1).min() > 0.01


@torch.no_grad()
@pytest.mark.parametrize("depth", [8, 3])
def test_absolute_offsets_are_equation_7(generator: Generator, encoder: OffsetEncoder, depth: int) -> None:
    """Δw = F₁(E(I) + F₂(0)) - F(0), F₁ being the last `depth` of the eight layers."""
    samples, mapping = pseudo_samples(2), generator.mapping
    origin = torch.zeros(1, 512)
    for number in range(8 - depth):
        origin = mapping(origin, first=number + 1, last=number + 2)
    code = encoder(samples.image) + origin
    for number in range(8 - depth, 8):
        code = mapping(code, first=number + 1, last=number + 2)
    offset = EncoderPredictor(mapping, encoder, depth=depth, relative=False).offset(samples, pseudo_samples(1))
    torch.testing.assert_close(offset, code - mapping(torch.zeros(1, 512)), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_without_mapping_layers_the_offset_is_the_encoders_output(generator: Generator, encoder: OffsetEncoder) -> None:
    """The paper's "w/o regularize" (table 1, row 5)."""
    samples = pseudo_samples(2)
    offset = EncoderPredictor(generator.mapping, encoder, depth=0, relative=False).offset(samples, pseudo_samples(1))
    torch.testing.assert_close(offset, encoder(samples.image), rtol=1e-4, atol=1e-5)
