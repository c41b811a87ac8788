from __future__ import annotations

from types import ModuleType

import pytest
import torch

from g2s_cli.gan.filters import blur, image_up, phases

RNG = torch.Generator().manual_seed(0)
LOPSIDED = torch.randn(4, 4, generator=RNG, dtype=torch.float64)  # no symmetry that could hide a flip


@pytest.mark.parametrize(("padding", "size"), [(1, 6), (2, 6), (1, 9)])
def test_blur_is_the_textbooks(textbook: ModuleType, padding: int, size: int) -> None:
    maps = torch.randn(2, 5, size, size, generator=RNG, dtype=torch.float64)
    wanted = textbook.resample(maps, LOPSIDED, margin=(padding, padding))
    torch.testing.assert_close(blur(maps, LOPSIDED.flip(0, 1), padding), wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("height", "width"), [(4, 4), (5, 3), (1, 1)])
def test_image_up_is_zero_stuffing_and_filtering(textbook: ModuleType, height: int, width: int) -> None:
    image = torch.randn(2, 3, height, width, generator=RNG, dtype=torch.float64)
    wanted = textbook.resample(image, LOPSIDED, up=2, margin=(2, 1))
    torch.testing.assert_close(image_up(image, phases(LOPSIDED.flip(0, 1))), wanted, rtol=0, atol=1e-12)
