"""What the GAN is trained with, against cases that can be worked out by hand."""

import math

import torch

from recipes.synface.objectives import discriminator_loss, generator_loss, path_lengths, r1_penalty


def test_losses_of_an_undecided_discriminator() -> None:
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
    (ours,) = torch.autograd.grad(lengths.sum(), matrix)
    (by_hand,) = torch.autograd.grad(expected.sum(), matrix)
    torch.testing.assert_close(ours, by_hand)
