"""Geometry and metrics compute what the authors' public code does for the same depth maps and views."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from g2s_cli.geometry.camera import Camera, canonical_to_view, unproject_points
from g2s_cli.geometry.metrics import mad_deg, side_error
from g2s_cli.geometry.normals import depth_to_normals, smoothness_loss
from g2s_cli.geometry.rasterizer import VIEW_FAR, VIEW_NEAR, grid_faces, rasterize, render_depth
from g2s_cli.geometry.warp import forward_grid, inverse_grid

DATA = Path(__file__).parents[1] / "data" / "geometry.npz"
SIZES = pytest.mark.parametrize("size", [32, 64])


@pytest.fixture(scope="module")
def golden() -> dict[str, Tensor]:
    """Three reliefs at two sizes, seen from two slanted views and from the front."""
    with np.load(DATA) as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays}


@SIZES
def test_normals(golden: dict[str, Tensor], size: int) -> None:
    found = depth_to_normals(golden[f"depth{size}"], Camera(size))
    torch.testing.assert_close(found, golden[f"normal{size}"], rtol=0, atol=1e-5)


@SIZES
def test_points_in_the_view(golden: dict[str, Tensor], size: int) -> None:
    camera = Camera(size)
    found = canonical_to_view(unproject_points(golden[f"depth{size}"], camera), golden[f"view{size}"], camera)
    torch.testing.assert_close(found, golden[f"points_forward{size}"], rtol=0, atol=1e-6)


@SIZES
@pytest.mark.parametrize("way", ["forward", "inverse"])
def test_grids(golden: dict[str, Tensor], size: int, way: str) -> None:
    grid = {"forward": forward_grid, "inverse": inverse_grid}[way]
    found = grid(golden[f"depth{size}"], golden[f"view{size}"], Camera(size))
    torch.testing.assert_close(found, golden[f"grid_{way}{size}"], rtol=0, atol=1e-5)


@SIZES
def test_nearest_surface_of_the_same_points(golden: dict[str, Tensor], size: int) -> None:
    camera = Camera(size)
    points = golden[f"points_forward{size}"].double().flatten(1, 2)
    winner, depth = rasterize(points, grid_faces(size, size, points.device), camera)
    depth = torch.where(winner >= 0, depth, VIEW_FAR).clamp(VIEW_NEAR, VIEW_FAR).float()
    torch.testing.assert_close(depth, golden[f"visible_depth{size}"], rtol=0, atol=1e-6)


@SIZES
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_nearest_surface_from_depth_and_view(golden: dict[str, Tensor], size: int, dtype: torch.dtype) -> None:
    seen = render_depth(golden[f"depth{size}"].to(dtype), golden[f"view{size}"].to(dtype), Camera(size)).float()
    wanted = golden[f"visible_depth{size}"]
    torch.testing.assert_close(seen[:2], wanted[:2], rtol=0, atol=1e-6)
    # From the front the relief's rim projects onto the rim of the picture: the golden's points, rounded to
    # float32, miss most of its pixel centres by 1e-6 pixels. We count what touches a centre as seen.
    torch.testing.assert_close(seen[2, 1:-1, 1:-1], wanted[2, 1:-1, 1:-1], rtol=0, atol=1e-6)
    assert (seen[2] < VIEW_FAR).all()


def test_metrics(golden: dict[str, Tensor]) -> None:
    predicted, truth, mask = golden["metric_a"], golden["metric_b"], golden["metric_mask"] > 0
    torch.testing.assert_close(side_error(predicted, truth, mask), golden["SIDE"], rtol=1e-4, atol=0)
    torch.testing.assert_close(mad_deg(predicted, truth, mask, Camera(64)), golden["MAD"], rtol=1e-4, atol=0)


def test_roughness(golden: dict[str, Tensor]) -> None:
    torch.testing.assert_close(smoothness_loss(golden["metric_b"]), golden["smooth_loss"], rtol=1e-4, atol=0)
