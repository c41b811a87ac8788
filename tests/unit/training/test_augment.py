"""Adaptive discriminator augmentation."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from g2s_cli.training.augment import Augmentation, adapted_probability, random_augmentation


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(batch: int = 8, size: int = 16) -> Tensor:
    return torch.rand(batch, 3, size, size, generator=generator(9)) * 2 - 1


def test_with_probability_zero_images_stay_the_same() -> None:
    augmentation = random_augmentation(8, 0.0, generator())
    torch.testing.assert_close(augmentation(images()), images(), atol=1e-5, rtol=0)


@pytest.mark.parametrize("p", [0.2, 0.7])
def test_each_transformation_has_its_probability(p: float) -> None:
    augmentation = random_augmentation(20_000, p, generator())
    shifts = (augmentation.affine[:, :, 2] != 0).float().mean(dim=0)
    brighter = (augmentation.colour[:, 0, 3] != 0).float().mean()
    # Rotated before or after the stretch, which leaves the matrix asymmetric.
    rotated = (augmentation.affine[:, 0, 1] != 0).float().mean()
    torch.testing.assert_close(torch.stack((*shifts, brighter, rotated)), torch.full((4,), p), atol=0.015, rtol=0)


def test_the_determinant_is_the_squared_scale() -> None:
    affine = random_augmentation(20_000, 0.9, generator()).affine[:, :, :2]
    log_scale = torch.linalg.det(affine).log2() / 2
    assert abs(log_scale.mean()) < 0.01
    assert log_scale.std() == pytest.approx(0.2 * math.sqrt(0.9), rel=0.02)


def test_grey_stays_grey() -> None:
    grey = images()[:, :1].expand(-1, 3, -1, -1)
    result = random_augmentation(8, 0.9, generator())(grey)
    assert (result - result[:, :1]).abs().max() < 1e-5


def test_a_shift_of_half_the_range_moves_pixels() -> None:
    affine = torch.tensor([[[1.0, 0.0, 0.25], [0.0, 1.0, 0.0]]])
    shifted = Augmentation(affine, torch.eye(3, 4)[None])(images(1))
    torch.testing.assert_close(shifted[..., :14], images(1)[..., 2:], atol=1e-5, rtol=0)


def test_gradients_reach_the_images() -> None:
    augmentation = random_augmentation(2, 0.9, generator())
    double = Augmentation(augmentation.affine.double(), augmentation.colour.double())
    assert torch.autograd.gradcheck(double, images(2, 5).double().requires_grad_())


def test_a_part_of_a_batch_gets_its_part_of_the_transformations() -> None:
    augmentation, whole = random_augmentation(8, 0.8, generator()), images()
    torch.testing.assert_close(augmentation[2:4](whole[2:4]), augmentation(whole)[2:4])


def test_the_probability_follows_the_overfitting() -> None:
    assert adapted_probability(0.3, overfitting=0.8, target=0.6, step=0.01) == pytest.approx(0.31)
    assert adapted_probability(0.3, overfitting=0.5, target=0.6, step=0.01) == pytest.approx(0.29)
    assert adapted_probability(0.0, overfitting=0.5, target=0.6, step=0.01) == 0
    assert adapted_probability(0.99, overfitting=1.0, target=0.6, step=0.01) == 0.99
