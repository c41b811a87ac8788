"""Metrics where the answer is known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from g2s_cli.geometry.camera import Camera
from g2s_cli.geometry.metrics import coverage, erode, mad_deg, psnr, side_error

RNG = torch.Generator().manual_seed(0)
DEPTH = 0.95 + 0.1 * torch.rand(2, 8, 8, generator=RNG)
EVERYWHERE = torch.ones(2, 8, 8, dtype=torch.bool)


@pytest.mark.parametrize("scale", [1.07, 1000])
def test_side_does_not_see_scale(scale: float) -> None:
    torch.testing.assert_close(side_error(scale * DEPTH, DEPTH, EVERYWHERE), torch.zeros(2), rtol=0, atol=1e-5)


def test_side_is_the_spread_of_log_depth() -> None:
    factor = torch.ones(8, 8)
    factor[:, :2] = math.exp(0.04)  # a quarter of the pixels: standard deviation 0.04 sqrt(1/4 3/4)
    expected = 0.04 * math.sqrt(3) / 4
    torch.testing.assert_close(
        side_error(factor * DEPTH, DEPTH, EVERYWHERE), torch.full((2,), expected), rtol=1e-4, atol=0
    )


def test_side_counts_the_mask_alone() -> None:
    mask = EVERYWHERE.clone()
    mask[:, 3] = False
    spoilt = torch.where(mask, DEPTH, torch.full_like(DEPTH, torch.nan))
    torch.testing.assert_close(side_error(spoilt, DEPTH, mask), torch.zeros(2))


def test_where_no_pixel_counts_there_is_no_error_to_speak_of() -> None:
    mask = EVERYWHERE.clone()
    mask[1] = False
    assert side_error(DEPTH.flip(1), DEPTH, mask).isnan().tolist() == [False, True]
    assert mad_deg(DEPTH.flip(1), DEPTH, mask, Camera(8)).isnan().tolist() == [False, True]
    assert coverage(mask, EVERYWHERE).tolist() == [1, 0]


@pytest.mark.parametrize("degrees", [5.0, 30.0, 60.0])
def test_mad_is_the_angle_between_two_planes(degrees: float) -> None:
    camera = Camera(8)  # few pixels, long tangents: the floor in the normals' length is not felt
    rays = camera.rays(torch.zeros(1))
    normal = torch.tensor((math.sin(math.radians(degrees)), 0, math.cos(math.radians(degrees))))
    slanted = normal[2] / (rays @ normal)
    inside = torch.zeros(1, 8, 8, dtype=torch.bool)
    inside[:, 1:-1, 1:-1] = True
    angle = mad_deg(slanted[None], torch.ones(1, 8, 8), inside, camera)
    assert angle.item() == pytest.approx(degrees, abs=0.3)


def test_mad_of_equal_maps_has_the_benchmarks_bias() -> None:
    flat = torch.ones(1, 64, 64)
    inside = torch.zeros(1, 64, 64, dtype=torch.bool)
    inside[:, 1:-1, 1:-1] = True
    assert mad_deg(flat, flat, inside, Camera(64)).item() == pytest.approx(6.5, abs=0.1)  # less where it slants


def test_erosion_takes_the_rim_and_every_hole_grows() -> None:
    mask = torch.ones(1, 7, 7, dtype=torch.bool)
    assert erode(mask)[0].nonzero().amin(0).tolist() == [1, 1]
    assert erode(mask).sum() == 25
    mask[0, 3, 3] = False
    assert erode(mask).sum() == 25 - 9


def test_coverage() -> None:
    truth = torch.tensor([[[True, True], [True, False]]])
    found = torch.tensor([[[True, False], [True, True]]])
    assert coverage(found, truth).item() == pytest.approx(2 / 3)
    assert coverage(found, torch.zeros_like(truth)).item() == 0


def shifted(by: float) -> float:
    return psnr(torch.zeros(3, 4, 4), torch.full((3, 4, 4), by))


def test_psnr_is_of_images_between_minus_one_and_one() -> None:
    assert shifted(0.2) == pytest.approx(20, abs=1e-4)
    assert shifted(2.0) == shifted(1.0) == pytest.approx(10 * math.log10(4), abs=1e-4)
    assert shifted(0.0) > 100


def test_gradients_of_the_metrics_are_finite() -> None:
    depth: Tensor = DEPTH.clone().requires_grad_()
    mad_deg(depth, DEPTH, EVERYWHERE, Camera(8)).sum().backward()
    assert torch.isfinite(depth.grad).all()
