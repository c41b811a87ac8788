"""The central crop of the GAN's image."""

from __future__ import annotations

import pytest
import torch

from g2s_cli.geometry.center_crop import CenterCrop


def test_the_whole_image_at_its_own_size_is_itself() -> None:
    image = torch.randn(2, 3, 8, 8)
    assert torch.equal(CenterCrop(1.0, 8)(image), image)


def test_reduction_averages_areas() -> None:
    image = torch.arange(16.0).view(1, 1, 4, 4)
    assert CenterCrop(1.0, 2)(image)[0, 0].tolist() == [[2.5, 4.5], [10.5, 12.5]]


def test_the_crop_is_the_middle() -> None:
    image = torch.zeros(1, 1, 256, 256)
    image[..., 43:213, 43:213] = 1  # the authors' cats: 170 of 256
    image[..., 42, :] = image[..., :, 213] = 9
    assert (CenterCrop(170 / 256, 128)(image) == 1).all()


def test_a_share_means_the_same_at_every_size_of_gan() -> None:
    ramp = torch.linspace(-1, 1, 256).expand(1, 1, 256, 256)
    small = torch.nn.functional.avg_pool2d(ramp, 2)
    torch.testing.assert_close(CenterCrop(170 / 256, 64)(ramp), CenterCrop(170 / 256, 64)(small), rtol=0, atol=0.02)


@pytest.mark.parametrize("size", [5, 32])
def test_enlargement_interpolates(size: int) -> None:
    assert CenterCrop(0.5, size)(torch.ones(1, 3, 8, 8)).shape == (1, 3, size, size)
