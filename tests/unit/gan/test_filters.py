"""Blur and image up-sampling against the textbook implementation."""

from __future__ import annotations

from types import ModuleType

import pytest
import torch

from g2s_cli.gan.filters import blur, polyphase_kernel, upsample_image

RNG = torch.Generator().manual_seed(0)
ASYMMETRIC = torch.randn(4, 4, generator=RNG, dtype=torch.float64)  # so that a flip shows


@pytest.mark.parametrize(("padding", "size"), [(1, 6), (2, 6), (1, 9)])
def test_blur_equals_the_textbook(textbook: ModuleType, padding: int, size: int) -> None:
    maps = torch.randn(2, 5, size, size, generator=RNG, dtype=torch.float64)
    expected = textbook.resample(maps, ASYMMETRIC, margin=(padding, padding))
    torch.testing.assert_close(blur(maps, ASYMMETRIC.flip(0, 1), padding), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("height", "width"), [(4, 4), (5, 3), (1, 1)])
def test_upsampling_equals_zero_insertion_and_filtering(textbook: ModuleType, height: int, width: int) -> None:
    image = torch.randn(2, 3, height, width, generator=RNG, dtype=torch.float64)
    expected = textbook.resample(image, ASYMMETRIC, up=2, margin=(2, 1))
    torch.testing.assert_close(
        upsample_image(image, polyphase_kernel(ASYMMETRIC.flip(0, 1))), expected, rtol=0, atol=1e-12
    )
