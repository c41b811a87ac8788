"""Textures: the photo's own pixels where it shows the surface, inpainted elsewhere."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import interpolate, max_pool2d

from g2s_cli.geometry.camera import Camera, rotate_view, unproject_points
from g2s_cli.geometry.factors import Factors
from g2s_cli.geometry.image import from_uint8, to_uint8
from g2s_cli.geometry.shading import MIN_SHADING, light_from_position
from g2s_cli.mesh.extract import Mesh, extract_mesh
from g2s_cli.mesh.options import MeshOptions
from g2s_cli.mesh.refine import CanonicalDepth
from g2s_cli.mesh.render import render_mesh
from g2s_cli.mesh.texture import Texture, relight_texture, smooth_normals
from g2s_cli.result.schema import Result
from g2s_cli.result.surface import textured_mesh

SIZE = 320


@pytest.fixture(scope="module")
def textured(sharp: Result) -> tuple[Mesh, Texture]:
    return textured_mesh(sharp, MeshOptions())


def gradient_energy(image: Tensor) -> float:
    return (image.diff(dim=-1).square().mean() + image.diff(dim=-2).square().mean()).item()


def face_energy(texture: Tensor) -> float:
    """Gradient energy in the middle of the face, at 400 texels a side."""
    large = interpolate(texture[None], size=(400, 400), mode="bicubic", align_corners=False)
    return gradient_energy(large[0, :, 140:260, 140:260])


def test_the_textured_mesh_in_the_photos_view_is_the_photo(
    sharp: Result, textured: tuple[Mesh, Texture], sharp_mask: Tensor
) -> None:
    mesh, texture = textured
    rendered = render_mesh(mesh, texture.lit, sharp.factors.view, sharp.camera.resize(SIZE))
    assert (rendered.alpha[sharp_mask] > 0.5).float().mean() > 0.995
    # The outermost pixels contain some of the white background.
    inside = -max_pool2d(-sharp_mask.float()[None], 3, 1, 1)[0] > 0
    error = (rendered.on_white - from_uint8(sharp.aligned))[:, inside].square().mean()
    assert 10 * torch.log10(4 / error) > 33  # PSNR in dB


def test_the_texture_has_detail_beyond_the_working_resolution(sharp: Result, textured: tuple[Mesh, Texture]) -> None:
    _, coarse = textured_mesh(replace(sharp, aligned=to_uint8(sharp.photo)), MeshOptions())
    _, fine = textured
    assert (coarse.lit.shape[-1], fine.lit.shape[-1]) == (80, 400)
    assert face_energy(fine.lit) > 3 * face_energy(coarse.lit)


def test_the_lit_texture_is_the_albedo_under_the_light(sharp: Result, textured: tuple[Mesh, Texture]) -> None:
    _, texture = textured
    assert (relight_texture(texture, sharp.factors, sharp.camera) - texture.lit).abs().max() < 1e-5
    other = light_from_position(-2.0, 0.0, 0.3, 0.7, sharp.factors.view)
    left = relight_texture(texture, replace(sharp.factors, light=other), sharp.camera)
    change = (left - texture.lit)[:, 150:250].mean(dim=(0, 1))
    assert change[120:160].mean() > change[240:280].mean() + 0.1


def test_a_plane_is_evenly_lit_up_to_its_border() -> None:
    camera, slant = Camera(32), torch.tensor((0.2, -0.3, 1.0))
    depth = slant[2] / (unproject_points(torch.ones(1, 32, 32), camera)[0] @ slant)
    factors = Factors(depth, torch.zeros(3, 32, 32), torch.zeros(6), torch.tensor((0.3, 0.6, 0.4, 0.2)))
    grey = torch.zeros(3, 80, 80)
    lit = relight_texture(Texture(grey, grey), factors, camera)
    torch.testing.assert_close(lit, lit[:, 40:41, 40:41].expand_as(lit), atol=1e-3, rtol=0)
    mesh = extract_mesh(CanonicalDepth(depth, torch.ones(32, 32), camera))
    expected = slant / slant.norm() * torch.tensor((-1.0, 1.0, 1.0))
    assert np.abs(smooth_normals(mesh, factors, camera) - expected.numpy()).max() < 1e-3


def test_albedo_is_bounded_in_deep_shadow(sharp: Result) -> None:
    # Almost no ambient light, from the far left: half of the face lies in shadow.
    dark = replace(sharp.factors, light=light_from_position(-3.0, 0.0, 0.02, 0.9, sharp.factors.view))
    _, texture = textured_mesh(replace(sharp, factors=dark), MeshOptions())
    brightest = (from_uint8(sharp.aligned).max() / 2 + 0.5).item()
    assert (texture.albedo / 2 + 0.5).max() <= brightest / MIN_SHADING + 1e-3
    assert texture.lit.isfinite().all()


def test_inpainted_parts_have_the_photos_tint(sharp: Result, textured: tuple[Mesh, Texture]) -> None:
    # The networks' albedo is far too red; beyond the seam no red may show, on any side of the face.
    tinted = sharp.factors.albedo + torch.tensor((0.5, -0.3, -0.3))[:, None, None]
    mesh, texture = textured_mesh(replace(sharp, factors=replace(sharp.factors, albedo=tinted)), MeshOptions())
    plain_mesh, plain = textured
    assert len(mesh.faces) == len(plain_mesh.faces)
    column, row = (mesh.uv * (1, -1) + (0, 1)).T * 400
    tint = (texture.lit - plain.lit)[:, row.astype(int), column.astype(int)].abs()
    assert tint.mean() < 0.02
    assert tint.max() < 0.4


def test_the_hidden_half_of_a_symmetric_object_has_the_detail_of_the_other(sharp: Result) -> None:
    # Turned so far to the side that half of the face is hidden.
    aside = replace(sharp.factors, view=rotate_view(sharp.factors.view, math.radians(35), 0.0))
    results = (replace(sharp, factors=aside, report={"symmetry": symmetry}) for symmetry in ("off", "on"))
    alone, symmetric = (textured_mesh(one, MeshOptions())[1].albedo[:, 150:250, 290:310] for one in results)
    assert gradient_energy(symmetric) > 2 * gradient_energy(alone)
