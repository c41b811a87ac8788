"""The refined relief: smooth inside, cut along the outline, whole at the photo's edges."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from g2s_cli.geometry.camera import Camera
from g2s_cli.geometry.factors import Factors
from g2s_cli.mesh.extract import extract_mesh
from g2s_cli.mesh.refine import ObjectMask, refine_depth

SIZE, FINE = 32, 160
CAMERA = Camera(SIZE)
FRONT = torch.zeros(6)


def ticks(camera: Camera) -> tuple[torch.Tensor, torch.Tensor]:
    """Columns and rows in units of half the networks' picture."""
    along = (torch.arange(camera.size) - camera.centre) / camera.focal * CAMERA.focal / (SIZE / 2)
    y, x = torch.meshgrid(along, along, indexing="ij")
    return x, y


def bulge(camera: Camera) -> torch.Tensor:
    x, y = ticks(camera)
    return 1.02 - 0.05 * torch.exp(-(x**2 + y**2) / 0.4)


def factors(depth: torch.Tensor, view: torch.Tensor = FRONT) -> Factors:
    return Factors(depth, torch.zeros(3, SIZE, SIZE), view, torch.tensor([0.5, 0.5, 0.0, 0.0]))


def disc(camera: Camera, radius: float = 0.6, across: float = 0.0) -> torch.Tensor:
    x, y = ticks(camera)
    return (((x - across) ** 2 + y**2) < radius**2).float()


def test_inside_the_relief_is_the_smooth_one_through_the_networks_depths() -> None:
    fine = refine_depth(factors(bulge(CAMERA)), ObjectMask(disc(CAMERA.resize(256)), False), CAMERA, FINE)
    assert fine.camera == CAMERA.with_margin().resize(FINE)
    inside = fine.mask >= 0.5
    assert (fine.depth - bulge(fine.camera))[inside].abs().max() < 2e-4
    bends = fine.depth.diff(dim=0).diff(dim=0)[1:-1][inside[2:-2] & inside[:-4] & inside[4:]]
    assert bends.abs().max() < 2e-4  # no facets: a bilinear relief bends by 2e-3 at the pixels' edges


def test_the_mesh_ends_where_the_fine_outline_does_though_the_depth_falls_off_before() -> None:
    # A coarse object on a wall far behind, and an outline that goes half a coarse pixel further.
    coarse = disc(CAMERA, 0.6)
    depth = torch.where(coarse > 0, torch.tensor(0.97), torch.tensor(1.09))
    outline = ObjectMask(disc(CAMERA.resize(256), 0.63), False)
    relief = refine_depth(factors(depth), outline, CAMERA, FINE)
    mesh = extract_mesh(relief)
    half_width = (mesh.vertices[:, 0] / (CAMERA.pivot - mesh.vertices[:, 2])).max() * CAMERA.focal / (SIZE / 2)
    assert half_width == pytest.approx(0.63, abs=0.02)


def test_of_equal_halves_what_one_side_shows_the_other_has() -> None:
    outline = ObjectMask(disc(CAMERA.resize(128), 0.4, across=0.3), symmetric=True)
    both = refine_depth(factors(bulge(CAMERA)), outline, CAMERA, 80).mask
    assert torch.equal(both, both.flip(-1))
    alone = refine_depth(factors(bulge(CAMERA)), replace(outline, symmetric=False), CAMERA, 80).mask
    assert both.sum() > 1.2 * alone.sum()


def test_an_object_that_fills_the_photo_is_cut_just_outside_it_and_for_pictures_goes_on() -> None:
    everywhere = ObjectMask(torch.ones(128, 128), symmetric=False)
    flat = factors(torch.full((SIZE, SIZE), 1.0))
    cut = refine_depth(flat, everywhere, CAMERA, FINE)
    x, y = ticks(cut.camera)
    center_crop = (x.abs() < 1) & (y.abs() < 1)
    assert (cut.mask[center_crop] > 0.99).all()
    assert (cut.mask[y.abs() > 1.15] == 0).all()
    on = refine_depth(flat, everywhere, CAMERA, FINE, extend=True)
    assert (on.mask[(x.abs() < 1)] > 0.99).all()
    assert (on.mask[x.abs() > 1.05] == 0).all()
