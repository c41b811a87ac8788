"""Resampling: what is kept, and what is filled in."""

from __future__ import annotations

import time

import pytest
import torch
from torch.nn.functional import avg_pool2d

from g2s_cli.geometry.resample import (
    box_blur,
    center_slice,
    inpaint,
    resize_area,
    resize_bspline,
    tent_blur,
    window_mean,
)


def wave(size: int) -> torch.Tensor:
    """A smooth function, sampled at the pixel centres of the unit square."""
    x = (torch.arange(size, dtype=torch.float64) + 0.5) / size
    return (torch.sin(3 * x)[:, None] * torch.cos(2 * x))[None]


def test_the_spline_reproduces_a_smooth_function() -> None:
    error = (resize_bspline(wave(24), 96) - wave(96)).abs()[0]
    assert error[24:-24, 24:-24].max() < 2e-5
    assert error.max() < 0.04  # beyond the outermost centres the border is replicated


def test_the_spline_interpolates() -> None:
    maps = wave(20)
    assert resize_bspline(maps, 20) is maps
    # Three times as fine: every third centre falls on an old one.
    assert torch.allclose(resize_bspline(maps, 60)[:, 1::3, 1::3], maps, atol=1e-12)
    assert torch.allclose(resize_bspline(torch.full((1, 9, 9), 0.7), 23), torch.tensor(0.7))


def test_inpainting_keeps_known_values_and_fills_from_them() -> None:
    maps, weight = torch.full((1, 21, 21), 9.0), torch.zeros(21, 21)
    maps[:, :, :10] = 1.0
    weight[:, :10] = 1
    filled = inpaint(maps, weight)
    assert torch.equal(filled[:, :, :10], maps[:, :, :10])
    assert filled[:, :, 10:] == pytest.approx(1.0, abs=1e-5)


def test_inpainting_interpolates_across_a_gap() -> None:
    maps, weight = torch.zeros(1, 32, 32), torch.ones(32, 32)
    maps[:, :, 20:] = 1
    weight[:, 12:20] = 0
    steps = inpaint(maps, weight)[0, 16, 11:21].diff()
    assert (steps >= 0).all()
    assert steps.max() < 0.5


def test_inpainting_without_known_values_is_zero() -> None:
    assert torch.equal(inpaint(torch.rand(2, 8, 8), torch.zeros(8, 8)), torch.zeros(2, 8, 8))


def test_reduction_averages_areas() -> None:
    assert resize_area(torch.arange(16.0).view(1, 4, 4), 2).flatten().tolist() == [2.5, 4.5, 10.5, 12.5]


@pytest.mark.parametrize(
    ("size", "share", "expected"), [(256, 170 / 256, (43, 213)), (64, 1.0, (0, 64)), (9, 0.5, (2, 6))]
)
def test_the_center_slice_is_the_middle(size: int, share: float, expected: tuple[int, int]) -> None:
    assert center_slice(size, share) == slice(*expected)


def test_the_tent_blur_keeps_a_slope_and_replicates_the_border() -> None:
    ramp = torch.arange(12.0).expand(1, 1, 12, 12)
    torch.testing.assert_close(tent_blur(ramp, 2)[..., 4:-4], ramp[..., 4:-4])
    step = torch.zeros(1, 1, 8, 8)
    step[..., 0] = 9.0  # of its column's windows of three, outside two thirds are nines, inside one third
    torch.testing.assert_close(tent_blur(step, 1)[0, 0, :, 0], torch.full((8,), 9 * (1 + 2 / 3 + 1 / 3) / 3))


def test_the_box_blur_counts_zeros_outside() -> None:
    found = box_blur(torch.ones(1, 1, 5, 5), 1)[0, 0]
    torch.testing.assert_close(found[0], torch.tensor([4.0, 6.0, 6.0, 6.0, 4.0]) / 9)
    torch.testing.assert_close(found[2], torch.tensor([6.0, 9.0, 9.0, 9.0, 6.0]) / 9)
    assert torch.equal(box_blur(found[None, None], 0)[0, 0], found)


def test_the_box_blur_is_exact_at_any_radius_at_one_cost() -> None:
    maps = torch.rand(2, 120, 100, generator=torch.Generator().manual_seed(0))
    seconds: dict[int, float] = {}
    for radius in (1, 45, 1, 45):
        start = time.process_time()
        blurred = box_blur(maps, radius)
        seconds[radius] = time.process_time() - start  # the second time: the first pays for the allocation
        expected = avg_pool2d(maps.double(), 2 * radius + 1, 1, radius).float()
        torch.testing.assert_close(blurred, expected, rtol=0, atol=1e-6)
    assert seconds[45] < 20 * seconds[1]  # of 900 times the window's area


def test_window_means_leave_out_the_outside() -> None:
    maps = torch.rand(2, 9, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    means = window_mean(maps, 2)
    for row, column in ((0, 0), (4, 4), (8, 3)):
        window = maps[:, max(0, row - 2) : row + 3, max(0, column - 2) : column + 3]
        torch.testing.assert_close(means[:, row, column], window.mean(dim=(1, 2)))
