"""Masked distances of images and of depth differences."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import Tensor

from g2s_cli.gan.losses import DiscriminatorDistance, l1, masked_mean, perceptual_distance
from g2s_cli.gan.stylegan2 import Generator
from g2s_cli.geometry.center_crop import CenterCrop


@pytest.fixture(scope="module")
def faces(generator: Generator, latents: Tensor) -> Tensor:
    return CenterCrop(1.0, 64)(generator(latents))


LEFT = torch.cat((torch.ones(1, 1, 64, 32), torch.zeros(1, 1, 64, 32)), dim=-1)
EVERYWHERE = torch.ones(1, 1, 64, 64)


def test_the_mean_over_a_soft_mask() -> None:
    values = torch.tensor([[[[1.0, 5.0, 9.0]], [[3.0, 7.0, 9.0]]]])
    assert masked_mean(values, torch.tensor([[[[1.0, 0.5, 0.0]]]])) == (1 + 3 + 0.5 * (5 + 7)) / (1.5 * 2)
    assert masked_mean(values, torch.zeros(1, 1, 1, 3)) == 0


def test_l1_ignores_pixels_outside_the_mask(faces: Tensor) -> None:
    one, other = faces[:1], faces[1:]
    half = torch.where(LEFT > 0, one, other)
    assert l1(one, half, LEFT) == 0
    torch.testing.assert_close(l1(one, half, EVERYWHERE), (one - other).abs()[..., 32:].mean() / 2)


def test_the_distance_grows_with_the_difference(distance: DiscriminatorDistance, faces: Tensor) -> None:
    one, other = faces[:1], faces[1:]
    assert distance(one, one, EVERYWHERE) == 0
    near, far = distance(one, 0.9 * one + 0.1 * other, EVERYWHERE), distance(one, other, EVERYWHERE)
    assert 0 < near < far
    torch.testing.assert_close(distance(one, other, EVERYWHERE), distance(other, one, EVERYWHERE))


def test_the_distance_ignores_pixels_outside_the_mask(distance: DiscriminatorDistance, faces: Tensor) -> None:
    one, other = faces[:1], faces[1:]
    assert distance(one, torch.where(LEFT > 0, one, other), LEFT) == 0


def test_feature_distances_are_masked_means(distance: DiscriminatorDistance) -> None:
    a, b = torch.zeros(1, 2, 4, 4), torch.ones(1, 2, 4, 4)
    b[..., 2:] = 3
    mask = torch.cat((torch.ones(1, 1, 8, 4), torch.zeros(1, 1, 8, 4)), dim=-1)
    assert distance.between([a, a], [b, b], torch.ones(1, 1, 8, 8)) == 2 + 2
    assert distance.between([a, a], [b, b], mask) == 1 + 1


def test_images_of_another_size_are_not_resized(distance: DiscriminatorDistance, faces: Tensor) -> None:
    corner = faces[..., :32, :32]
    for ours, whole in zip(distance.features(corner), distance.features(faces), strict=True):
        half = whole.shape[-1] // 2
        assert ours.shape[-1] == half
        inner = max(half // 2 - 1, 1)  # far from where the rest of the picture begins
        torch.testing.assert_close(ours[..., :inner, :inner], whole[..., :inner, :inner], rtol=0, atol=0.3)


def test_both_images_receive_gradients(distance: DiscriminatorDistance, faces: Tensor) -> None:
    one, other = (face[None].clone().requires_grad_() for face in faces)
    distance(one, other, LEFT).backward()
    for image in (one, other):
        assert image.grad[..., :32].any()
        assert not image.grad[..., 32:].any()


def test_the_discriminator_replaces_missing_lpips(
    distance: DiscriminatorDistance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "lpips", None)  # import lpips raises ImportError
    found = perceptual_distance(distance.discriminator, torch.device("cpu"))
    assert isinstance(found, DiscriminatorDistance)
    assert found.discriminator is distance.discriminator
