"""The refined canonical depth: smooth inside, cut along the silhouette."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from g2s_cli.geometry.camera import Camera
from g2s_cli.geometry.factors import Factors
from g2s_cli.mesh.extract import extract_mesh
from g2s_cli.mesh.refine import ObjectMask, refine_depth

SIZE, FINE = 32, 160
CAMERA = Camera(SIZE)


def coordinates(camera: Camera) -> tuple[Tensor, Tensor]:
    """Columns and rows in units of half the networks' image."""
    along = (torch.arange(camera.size) - camera.centre) / camera.focal * CAMERA.focal / (SIZE / 2)
    y, x = torch.meshgrid(along, along, indexing="ij")
    return x, y


def bulge(camera: Camera) -> Tensor:
    x, y = coordinates(camera)
    return 1.02 - 0.05 * torch.exp(-(x**2 + y**2) / 0.4)


def factors(depth: Tensor) -> Factors:
    return Factors(depth, torch.zeros(3, SIZE, SIZE), torch.zeros(6), torch.tensor([0.5, 0.5, 0.0, 0.0]))


def disc(size: int, radius: float = 0.6, centre: float = 0.0, *, symmetric: bool = False) -> ObjectMask:
    x, y = coordinates(CAMERA.resize(size))
    return ObjectMask((((x - centre) ** 2 + y**2) < radius**2).float(), symmetric)


def test_the_inside_is_the_spline_through_the_networks_depths() -> None:
    fine = refine_depth(factors(bulge(CAMERA)), disc(256), CAMERA, FINE)
    assert fine.camera == CAMERA.with_margin().resize(FINE)
    inside = fine.mask >= 0.5
    assert (fine.depth - bulge(fine.camera))[inside].abs().max() < 2e-4
    bends = fine.depth.diff(dim=0).diff(dim=0)[1:-1][inside[2:-2] & inside[:-4] & inside[4:]]
    assert bends.abs().max() < 2e-4  # no facets: bilinear depth bends by 2e-3 at the pixels' edges


def test_the_mesh_ends_at_the_fine_silhouette_even_where_the_depth_falls_off_before() -> None:
    # A coarse object before a far wall, and a mask that goes half a coarse pixel further.
    depth = torch.where(disc(SIZE).mask > 0, 0.97, 1.09)
    mesh = extract_mesh(refine_depth(factors(depth), disc(256, 0.63), CAMERA, FINE))
    half_width = (mesh.vertices[:, 0] / (CAMERA.pivot - mesh.vertices[:, 2])).max() * CAMERA.focal / (SIZE / 2)
    assert half_width == pytest.approx(0.63, abs=0.02)


def test_each_half_of_a_symmetric_object_completes_the_other() -> None:
    mask = disc(128, 0.4, centre=0.3, symmetric=True)
    both = refine_depth(factors(bulge(CAMERA)), mask, CAMERA, 80).mask
    assert torch.equal(both, both.flip(-1))
    alone = refine_depth(factors(bulge(CAMERA)), replace(mask, symmetric=False), CAMERA, 80).mask
    assert both.sum() > 1.2 * alone.sum()


def test_an_object_that_fills_the_photo_is_cut_just_outside_it_unless_extended() -> None:
    everywhere, flat = ObjectMask(torch.ones(128, 128), symmetric=False), factors(torch.ones(SIZE, SIZE))
    cut = refine_depth(flat, everywhere, CAMERA, FINE)
    x, y = coordinates(cut.camera)
    assert (cut.mask[(x.abs() < 1) & (y.abs() < 1)] > 0.99).all()
    assert (cut.mask[y.abs() > 1.15] == 0).all()
    extended = refine_depth(flat, replace(everywhere, extend=True), CAMERA, FINE)
    assert (extended.mask[x.abs() < 1] > 0.99).all()
    assert (extended.mask[x.abs() > 1.05] == 0).all()
