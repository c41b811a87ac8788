"""Rounding that does not hang on how many are in a batch. (On CPUs; of others nothing is promised.)"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import conv2d

from g2s_cli.gan.batch_invariant import FEW_PX, LEAST_ROWS, steady_convolution, steady_linear
from g2s_cli.gan.latents import random_latents
from g2s_cli.loading import Machine, Weights, load_gan
from g2s_cli.weights.catalog import load_category
from g2s_cli.weights.registry import Sources


def test_styles_round_alike_in_batches_of_any_size() -> None:
    rng = torch.Generator().manual_seed(2)
    rows, weight, bias = (torch.randn(*shape, generator=rng) for shape in ((LEAST_ROWS, 256), (256, 256), (256,)))
    whole = steady_linear(rows, weight, bias)
    torch.testing.assert_close(whole, rows @ weight.T + bias, rtol=1e-5, atol=1e-4)
    for count in (1, 2, 3, 7, LEAST_ROWS):
        assert torch.equal(steady_linear(rows[:count], weight, bias), whole[:count])
    more = torch.cat((rows, rows))
    assert steady_linear(more, weight).shape == more.shape


@pytest.mark.parametrize("size", [4, 8, FEW_PX])
def test_convolutions_round_alike_in_batches_of_any_size(size: int) -> None:
    """And so do their gradients."""
    rng = torch.Generator().manual_seed(2)
    kernel = torch.randn(256, 256, 3, 3, generator=rng).contiguous(memory_format=torch.channels_last)
    maps = torch.randn(4, 256, size, size, generator=rng).contiguous(memory_format=torch.channels_last)

    def first(count: int) -> tuple[Tensor, Tensor]:
        some = maps[:count].clone().requires_grad_()
        found = steady_convolution(lambda given: conv2d(given, kernel, padding=1), some)
        assert len(found) == count
        (slope,) = torch.autograd.grad((found * torch.linspace(-1, 1, size)).sum(), some)
        return found[0], slope[0]

    whole = first(4)
    torch.testing.assert_close(whole[0], conv2d(maps, kernel, padding=1)[0])
    for count in (1, 2, 3):
        assert all(torch.equal(one, other) for one, other in zip(first(count), whole, strict=True))


def test_a_picture_and_its_features_are_the_same_in_any_company() -> None:
    """The embedded GAN, in single precision."""
    weights = Weights.of(category := load_category("synface"), category.preset("fast"), Sources.from_environment())
    gan = load_gan(weights, Machine(torch.device("cpu"), torch.float32))
    generator, discriminator = gan.generator, gan.discriminator
    latents = random_latents(generator, 3, torch.Generator().manual_seed(1))

    def first(count: int) -> list[Tensor]:
        w = latents[:count].clone().requires_grad_()
        picture = generator(w)
        features = discriminator.features(picture)
        (slope,) = torch.autograd.grad(sum(maps[0].square().sum() for maps in features), w)
        return [picture[0], *(maps[0] for maps in features), slope[0]]

    whole = first(3)
    for count in (1, 2):
        assert all(torch.equal(one, other) for one, other in zip(first(count), whole, strict=True))
