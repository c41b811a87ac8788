"""Results on CPUs do not depend on batch composition."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import conv2d

from g2s_cli.gan.batch_invariant import MIN_ROWS, SMALL_PX, batch_invariant_conv, batch_invariant_linear
from g2s_cli.gan.latents import random_latents
from g2s_cli.loading import Weights, load_gan
from g2s_cli.machine import Machine
from g2s_cli.weights.categories import load_category
from g2s_cli.weights.registry import Sources


def all_equal(some: list[Tensor], others: list[Tensor]) -> bool:
    return all(torch.equal(one, other) for one, other in zip(some, others, strict=True))


def test_linear_layers_do_not_depend_on_the_batch() -> None:
    rng = torch.Generator().manual_seed(2)
    rows, weight, bias = (torch.randn(*shape, generator=rng) for shape in ((MIN_ROWS, 256), (256, 256), (256,)))
    whole = batch_invariant_linear(rows, weight, bias)
    torch.testing.assert_close(whole, rows @ weight.T + bias, rtol=1e-5, atol=1e-4)
    for count in (1, 2, 3, 7, MIN_ROWS):
        assert torch.equal(batch_invariant_linear(rows[:count], weight, bias), whole[:count])
    more = torch.cat((rows, rows))
    assert batch_invariant_linear(more, weight).shape == more.shape


@pytest.mark.parametrize("size", [4, 8, SMALL_PX])
def test_convolutions_and_their_gradients_do_not_depend_on_the_batch(size: int) -> None:
    rng = torch.Generator().manual_seed(2)
    kernel = torch.randn(256, 256, 3, 3, generator=rng).contiguous(memory_format=torch.channels_last)
    maps = torch.randn(4, 256, size, size, generator=rng).contiguous(memory_format=torch.channels_last)

    def first_of(count: int) -> list[Tensor]:
        batch = maps[:count].clone().requires_grad_()
        output = batch_invariant_conv(lambda x: conv2d(x, kernel, padding=1), batch)
        assert len(output) == count
        (gradient,) = torch.autograd.grad((output * torch.linspace(-1, 1, size)).sum(), batch)
        return [output[0], gradient[0]]

    whole = first_of(4)
    torch.testing.assert_close(whole[0], conv2d(maps, kernel, padding=1)[0])
    assert all(all_equal(first_of(count), whole) for count in (1, 2, 3))


def test_images_features_and_gradients_of_the_embedded_gan_do_not_depend_on_the_batch() -> None:
    weights = Weights.of(load_category("synface"), Sources.from_environment(), networks=False)
    gan = load_gan(weights, Machine(torch.device("cpu"), torch.float32))
    latents = random_latents(gan.generator, 3, torch.Generator().manual_seed(1))

    def first_of(count: int) -> list[Tensor]:
        w = latents[:count].clone().requires_grad_()
        image = gan.generator(w)
        features = gan.discriminator.features(image)
        (gradient,) = torch.autograd.grad(sum(maps[0].square().sum() for maps in features), w)
        return [image[0], *(maps[0] for maps in features), gradient[0]]

    whole = first_of(3)
    assert all(all_equal(first_of(count), whole) for count in (1, 2))
