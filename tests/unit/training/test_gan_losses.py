"""The losses of a GAN, against cases with known results."""

import math

import torch

from g2s_cli.training.gan_losses import (
    discriminator_loss,
    generator_loss,
    latent_loss,
    path_lengths,
    r1_penalty,
    reconstruction_loss,
)


def images(seed: int) -> torch.Tensor:
    return torch.rand(2, 3, 6, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 2 - 1


def test_an_undecided_discriminator_costs_log_2_an_image() -> None:
    undecided = torch.zeros(4, 1)
    torch.testing.assert_close(generator_loss(undecided), torch.tensor(math.log(2)))
    torch.testing.assert_close(discriminator_loss(undecided, undecided), torch.tensor(2 * math.log(2)))


def test_each_network_s_loss_falls_where_it_wins() -> None:
    low, high = torch.full((4, 1), -5.0), torch.full((4, 1), 5.0)
    assert generator_loss(high) < 0.01 < generator_loss(low)
    assert discriminator_loss(low, high) < 0.02 < discriminator_loss(high, low)


def test_r1_of_a_linear_discriminator_is_its_squared_slope() -> None:
    slope = torch.randn(3, 4, 4, requires_grad=True)
    penalty = r1_penalty(lambda images: (images * slope).sum(dim=(1, 2, 3))[:, None], torch.randn(5, 3, 4, 4))
    torch.testing.assert_close(penalty, slope.square().sum())
    (gradient,) = torch.autograd.grad(penalty, slope)
    torch.testing.assert_close(gradient, 2 * slope)


def test_path_lengths_of_a_linear_generator() -> None:
    matrix = torch.randn(3 * 16, 6, dtype=torch.float64, requires_grad=True)
    noise = torch.randn(2, 3, 4, 4, dtype=torch.float64)
    w = torch.randn(2, 6, dtype=torch.float64, requires_grad=True)
    lengths = path_lengths(lambda latents: (latents @ matrix.T).view(-1, 3, 4, 4), w, noise)
    expected = (noise.flatten(1) @ matrix / 4).norm(dim=1)
    torch.testing.assert_close(lengths, expected)
    gradients = (torch.autograd.grad(one.sum(), matrix)[0] for one in (lengths, expected))
    torch.testing.assert_close(*gradients)


def test_reconstruction_loss_counts_colours_and_edges() -> None:
    one = images(0)
    assert reconstruction_loss(one, one) == 0
    quarter = torch.tensor(0.25, dtype=torch.float64)
    torch.testing.assert_close(reconstruction_loss(one + 0.25, one), quarter)  # no edge is lost
    stripes = torch.zeros(1, 3, 6, 6).index_fill(3, torch.tensor([1, 3, 5]), 1.0)
    # Half of the pixels are wrong by 1, and all differences to the right.
    torch.testing.assert_close(reconstruction_loss(torch.zeros_like(stripes), stripes), torch.tensor(1.5))


def test_latent_loss_is_relative_to_the_variance() -> None:
    latents = torch.randn(400, 8, generator=torch.Generator().manual_seed(1))
    assert latent_loss(latents, latents) == 0
    torch.testing.assert_close(latent_loss(torch.zeros_like(latents), latents), torch.tensor(1.0), atol=0.02, rtol=0)
    torch.testing.assert_close(latent_loss(3 * latents, 3 * latents + 3), latent_loss(latents, latents + 1))


def test_gradients_of_both_are_right() -> None:
    assert torch.autograd.gradcheck(reconstruction_loss, (images(2).requires_grad_(), images(3)))
    predicted, true = torch.randn(2, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    assert torch.autograd.gradcheck(latent_loss, (predicted.requires_grad_(), true))
