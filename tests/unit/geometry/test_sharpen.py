"""Ramps of a relief made steps."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from g2s_cli.geometry.camera import Camera
from g2s_cli.geometry.sharpen import sharpen_edges

CAMERA = Camera(64)
PIXEL = 1 / CAMERA.focal


def blurred_step(row: float, height: float = 0.045, wide_px: float = 0.7) -> torch.Tensor:
    """A chin's edge as a mean has it: so high a step at a row, blurred over some pixels."""
    rows = torch.arange(64.0)[:, None].expand(64, 64)
    return (0.955 + height * torch.sigmoid((rows - row) / wide_px))[None]


def test_a_blurred_step_becomes_steeper_and_stays_where_it_is() -> None:
    blurred = blurred_step(50.5)
    found = sharpen_edges(blurred, CAMERA, 0.5)
    column = found[0, :, 32]
    assert column.diff().max() > 1.25 * blurred[0, :, 32].diff().max()
    assert column.diff().argmax() == 50
    assert (column.diff() >= -1e-6).all()  # no ripples beside it
    torch.testing.assert_close(column[50:52].mean(), blurred[0, 50:52, 32].mean(), atol=1e-4, rtol=0)
    torch.testing.assert_close(found[0, :44], blurred[0, :44])
    torch.testing.assert_close(found[0, 57:], blurred[0, 57:], atol=1e-4, rtol=0)


def test_it_does_so_in_every_direction() -> None:
    blurred = blurred_step(50.5)
    aside = sharpen_edges(blurred.mT, CAMERA, 0.0)
    torch.testing.assert_close(aside.mT, sharpen_edges(blurred, CAMERA, 0.0), atol=1e-6, rtol=0)
    mirrored = sharpen_edges(blurred.mT.flip(2), CAMERA, 0.0)
    torch.testing.assert_close(mirrored.flip(2), aside, atol=1e-6, rtol=0)


def test_above_the_share_of_the_height_everything_stays() -> None:
    blurred = blurred_step(20.5)
    assert torch.equal(sharpen_edges(blurred, CAMERA, 0.5), blurred)
    assert not torch.equal(sharpen_edges(blurred, CAMERA, 0.2), blurred)


@given(st.floats(0.0, 2.0), st.floats(0, 6.28))
def test_a_slope_that_is_not_steep_is_a_surface(slope: float, angle: float) -> None:
    rows, columns = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    along = rows * torch.sin(torch.tensor(angle)) + columns * torch.cos(torch.tensor(angle))
    plane = (1 + slope * PIXEL * (along - along.mean()))[None]
    torch.testing.assert_close(sharpen_edges(plane, CAMERA, 0.0), plane, atol=1e-6, rtol=0)


@given(st.floats(-0.02, 0.02), st.floats(0.5, 3.0))
def test_where_all_of_it_is_does_not_matter_and_nothing_goes_beyond_its_neighbours(shift: float, wide: float) -> None:
    blurred = blurred_step(45.2, wide_px=wide)
    found = sharpen_edges(blurred, CAMERA, 0.5)
    torch.testing.assert_close(sharpen_edges(blurred + shift, CAMERA, 0.5), found + shift, atol=1e-5, rtol=0)
    assert found.min() >= blurred.min() - 1e-6
    assert found.max() <= blurred.max() + 1e-6


@pytest.mark.parametrize("size", [64, 128, 256])
def test_a_picture_of_another_size_is_another_picture_of_the_same(size: int) -> None:
    """A ramp as wide in shares of the side is made as steep."""
    camera = Camera(size)
    rows = (torch.arange(float(size)) + 0.5) / size
    ramp = (0.955 + 0.045 * torch.sigmoid((rows - 0.75) * 64))[:, None].expand(size, size)
    steeper = sharpen_edges(ramp[None], camera, 0.5)[0, :, size // 2].diff().max() / ramp[:, 0].diff().max()
    assert steeper > 1.1
