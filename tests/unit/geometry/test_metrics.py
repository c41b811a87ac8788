"""Metrics where the answer is known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from g2s_cli.geometry.camera import Camera
from g2s_cli.geometry.metrics import coverage, erode, mad_deg, psnr, side_error

DEPTH = 0.95 + 0.1 * torch.rand(2, 8, 8, generator=torch.Generator().manual_seed(0))
EVERYWHERE = torch.ones(2, 8, 8, dtype=torch.bool)


def interior(size: int) -> Tensor:
    return erode(torch.ones(1, size, size, dtype=torch.bool))


@pytest.mark.parametrize("scale", [1.07, 1000])
def test_side_is_scale_invariant(scale: float) -> None:
    torch.testing.assert_close(side_error(scale * DEPTH, DEPTH, EVERYWHERE), torch.zeros(2), rtol=0, atol=1e-5)


def test_side_is_the_standard_deviation_of_log_depth() -> None:
    factor = torch.ones(8, 8)
    factor[:, :2] = math.exp(0.04)  # a quarter of the pixels: standard deviation 0.04 sqrt(1/4 3/4)
    expected = torch.full((2,), 0.04 * math.sqrt(3) / 4)
    torch.testing.assert_close(side_error(factor * DEPTH, DEPTH, EVERYWHERE), expected, rtol=1e-4, atol=0)


def test_side_ignores_pixels_outside_the_mask() -> None:
    mask = EVERYWHERE.clone()
    mask[:, 3] = False
    invalid = torch.where(mask, DEPTH, torch.nan)
    torch.testing.assert_close(side_error(invalid, DEPTH, mask), torch.zeros(2))


def test_errors_over_an_empty_mask_are_nan() -> None:
    mask = EVERYWHERE.clone()
    mask[1] = False
    assert side_error(DEPTH.flip(1), DEPTH, mask).isnan().tolist() == [False, True]
    assert mad_deg(DEPTH.flip(1), DEPTH, mask, Camera(8)).isnan().tolist() == [False, True]
    assert coverage(mask, EVERYWHERE).tolist() == [1, 0]


@pytest.mark.parametrize("degrees", [5.0, 30.0, 60.0])
def test_mad_is_the_angle_between_two_planes(degrees: float) -> None:
    camera = Camera(8)  # few pixels, long tangents: the floor of the normals' length has no effect
    normal = torch.tensor((math.sin(math.radians(degrees)), 0, math.cos(math.radians(degrees))))
    slanted = normal[2] / (camera.rays(torch.zeros(1)) @ normal)
    angle = mad_deg(slanted[None], torch.ones(1, 8, 8), interior(8), camera)
    assert angle.item() == pytest.approx(degrees, abs=0.3)


def test_mad_of_equal_maps_has_the_benchmarks_bias() -> None:
    flat = torch.ones(1, 64, 64)
    assert mad_deg(flat, flat, interior(64), Camera(64)).item() == pytest.approx(6.5, abs=0.1)  # less where it slants


def test_the_gradient_of_mad_is_finite() -> None:
    depth = DEPTH.clone().requires_grad_()
    mad_deg(depth, DEPTH, EVERYWHERE, Camera(8)).sum().backward()
    assert torch.isfinite(depth.grad).all()


def test_erosion_removes_the_border_and_widens_holes() -> None:
    mask = torch.ones(1, 7, 7, dtype=torch.bool)
    assert erode(mask)[0].nonzero().amin(0).tolist() == [1, 1]
    assert erode(mask).sum() == 25
    mask[0, 3, 3] = False
    assert erode(mask).sum() == 25 - 9


def test_coverage_is_a_share_of_the_true_mask() -> None:
    truth = torch.tensor([[[True, True], [True, False]]])
    found = torch.tensor([[[True, False], [True, True]]])
    assert coverage(found, truth).item() == pytest.approx(2 / 3)
    assert coverage(found, torch.zeros_like(truth)).item() == 0


def test_psnr_is_of_images_clamped_to_minus_one_and_one() -> None:
    small, most, over, equal = (
        psnr(torch.zeros(3, 4, 4), torch.full((3, 4, 4), shift)) for shift in (0.2, 1.0, 2.0, 0.0)
    )
    assert small == pytest.approx(20, abs=1e-4)
    assert over == most == pytest.approx(10 * math.log10(4), abs=1e-4)
    assert equal > 100
