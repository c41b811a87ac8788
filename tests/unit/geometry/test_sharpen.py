"""Sharpening of depth edges."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from g2s_cli.geometry.camera import Camera
from g2s_cli.geometry.sharpen import sharpen_edges

CAMERA = Camera(64)
ROWS = torch.arange(64.0)[:, None].expand(64, 64)


def blurred_step(row: float, width_px: float = 0.7) -> Tensor:
    """The edge of a chin in an averaged depth map."""
    return (0.955 + 0.045 * torch.sigmoid((ROWS - row) / width_px))[None]


def test_a_blurred_step_becomes_steeper_and_stays_in_place() -> None:
    blurred = blurred_step(50.5)
    found = sharpen_edges(blurred, CAMERA, 0.5)
    column = found[0, :, 32]
    assert column.diff().max() > 1.25 * blurred[0, :, 32].diff().max()
    assert column.diff().argmax() == 50
    assert (column.diff() >= -1e-6).all()  # no ripples beside it
    torch.testing.assert_close(column[50:52].mean(), blurred[0, 50:52, 32].mean(), atol=1e-4, rtol=0)
    torch.testing.assert_close(found[0, :44], blurred[0, :44])
    torch.testing.assert_close(found[0, 57:], blurred[0, 57:], atol=1e-4, rtol=0)


def test_all_directions_are_alike() -> None:
    blurred = blurred_step(50.5)
    sideways = sharpen_edges(blurred.mT, CAMERA, 0.0)
    torch.testing.assert_close(sideways.mT, sharpen_edges(blurred, CAMERA, 0.0), atol=1e-6, rtol=0)
    torch.testing.assert_close(sharpen_edges(blurred.mT.flip(2), CAMERA, 0.0).flip(2), sideways, atol=1e-6, rtol=0)


def test_rows_above_the_start_stay() -> None:
    blurred = blurred_step(20.5)
    assert torch.equal(sharpen_edges(blurred, CAMERA, 0.5), blurred)
    assert not torch.equal(sharpen_edges(blurred, CAMERA, 0.2), blurred)


@given(st.floats(0.0, 2.0), st.floats(0, 6.28))
def test_gentle_slopes_stay(slope: float, angle: float) -> None:
    along = ROWS * math.sin(angle) + ROWS.T * math.cos(angle)
    plane = (1 + slope / CAMERA.focal * (along - along.mean()))[None]
    torch.testing.assert_close(sharpen_edges(plane, CAMERA, 0.0), plane, atol=1e-6, rtol=0)


@given(st.floats(-0.02, 0.02), st.floats(0.5, 3.0))
def test_the_result_moves_with_the_depth_and_stays_in_its_range(shift: float, width_px: float) -> None:
    blurred = blurred_step(45.2, width_px)
    found = sharpen_edges(blurred, CAMERA, 0.5)
    torch.testing.assert_close(sharpen_edges(blurred + shift, CAMERA, 0.5), found + shift, atol=1e-5, rtol=0)
    assert found.min() >= blurred.min() - 1e-6
    assert found.max() <= blurred.max() + 1e-6


@pytest.mark.parametrize("size", [64, 128, 256])
def test_a_ramp_is_sharpened_at_every_resolution(size: int) -> None:
    rows = (torch.arange(float(size)) + 0.5) / size
    ramp = (0.955 + 0.045 * torch.sigmoid((rows - 0.75) * 64))[:, None].expand(size, size)
    found = sharpen_edges(ramp[None], Camera(size), 0.5)[0, :, size // 2]
    assert found.diff().max() / ramp[:, 0].diff().max() > 1.1
