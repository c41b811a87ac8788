"""The texture: the photo's own pixels where it shows the surface, something fitting where it does not."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate, max_pool2d

from g2s_cli.geometry.camera import Camera, rotate_view, unproject_points
from g2s_cli.geometry.factors import Factors
from g2s_cli.geometry.image import from_uint8, to_uint8
from g2s_cli.geometry.shading import light_from_position
from g2s_cli.mesh.export import MeshOptions
from g2s_cli.mesh.extract import Mesh, extract_mesh
from g2s_cli.mesh.refine import CanonicalDepth
from g2s_cli.mesh.render import render_mesh
from g2s_cli.mesh.texture import MIN_SHADING, Texture, relight_texture, smooth_normals
from g2s_cli.result.schema import Result
from g2s_cli.result.surface import textured_mesh

SIZE = 320


@pytest.fixture(scope="module")
def result(sharp: Result) -> Result:
    return sharp


@pytest.fixture(scope="module")
def textured(result: Result) -> tuple[Mesh, Texture]:
    return textured_mesh(result, MeshOptions())


def psnr(a: torch.Tensor, b: torch.Tensor) -> float:
    return (10 * torch.log10(4 / (a - b).square().mean())).item()


def gradient_energy(lit: torch.Tensor) -> float:
    """Mean squared difference of neighbouring texels in the middle of the face, at 400 texels a side."""
    return energy(interpolate(lit[None], size=(400, 400), mode="bicubic", align_corners=False)[0, :, 140:260, 140:260])


def energy(image: torch.Tensor) -> float:
    return (image.diff(dim=-1).square().mean() + image.diff(dim=-2).square().mean()).item()


def test_seen_from_the_camera_the_mesh_is_the_photo(
    result: Result, textured: tuple[Mesh, Texture], sharp_mask: torch.Tensor
) -> None:
    mesh, texture = textured
    shown = render_mesh(mesh, texture.lit, result.factors.view, result.camera.resize(SIZE))
    assert (shown.alpha[sharp_mask] > 0.5).float().mean() > 0.995
    # The outermost pixels hold some of the white behind them.
    inside = -max_pool2d(-sharp_mask.float()[None], 3, 1, 1)[0] > 0
    assert psnr(shown.on_white[:, inside], from_uint8(result.aligned)[:, inside]) > 33


def test_the_texture_holds_detail_that_the_working_size_cannot(result: Result, textured: tuple[Mesh, Texture]) -> None:
    coarse = replace(result, aligned=to_uint8(result.photo))
    _, before = textured_mesh(coarse, MeshOptions())
    assert before.lit.shape[-1] == 80
    _, after = textured
    assert after.lit.shape[-1] == 400
    assert gradient_energy(after.lit) > 3 * gradient_energy(before.lit)


def test_lit_is_albedo_under_the_estimated_light(result: Result, textured: tuple[Mesh, Texture]) -> None:
    _, texture = textured
    again = relight_texture(texture, result.factors, result.camera)
    assert (again - texture.lit).abs().max() < 1e-5
    other = light_from_position(-2.0, 0.0, 0.3, 0.7, result.factors.view)
    left = relight_texture(texture, replace(result.factors, light=other), result.camera)
    change = (left - texture.lit)[:, 150:250].mean(dim=(0, 1))
    assert change[120:160].mean() > change[240:280].mean() + 0.1


def test_a_plane_is_as_bright_at_its_rim_as_anywhere() -> None:
    """The outermost normals of the networks face the camera; what is shown goes on as it is beside them."""
    camera, slant = Camera(32), torch.tensor((0.2, -0.3, 1.0))
    rays = unproject_points(torch.ones(1, 32, 32), camera)[0]
    factors = Factors(
        depth=slant[2] / (rays @ slant),
        albedo=torch.zeros(3, 32, 32),
        view=torch.zeros(6),
        light=torch.tensor((0.3, 0.6, 0.4, 0.2)),
    )
    even = torch.zeros(3, 80, 80)
    shown = relight_texture(Texture(even, even), factors, camera)
    torch.testing.assert_close(shown, shown[:, 40:41, 40:41].expand_as(shown), atol=1e-3, rtol=0)
    mesh = extract_mesh(CanonicalDepth(factors.depth, torch.ones(32, 32), camera))
    facing = smooth_normals(mesh, factors, camera)
    expected = slant / slant.norm() * torch.tensor((-1.0, 1.0, 1.0))
    assert np.abs(facing - expected.numpy()).max() < 1e-3


def test_shadows_do_not_blow_up(result: Result) -> None:
    # As good as no ambient light, from the far left: half of the face lies in shadow.
    dark = replace(result.factors, light=light_from_position(-3.0, 0.0, 0.02, 0.9, result.factors.view))
    _, texture = textured_mesh(replace(result, factors=dark), MeshOptions())
    brightest = (from_uint8(result.aligned).max() / 2 + 0.5).item()
    assert (texture.albedo / 2 + 0.5).max() <= brightest / MIN_SHADING + 1e-3
    assert texture.lit.isfinite().all()


def test_what_the_photo_hides_is_painted_in_the_same_tint(result: Result) -> None:
    # The networks' albedo is too red by far; beyond the seam no red may show, on any side of the face.
    tinted = result.factors.albedo + torch.tensor((0.5, -0.3, -0.3))[:, None, None]
    mesh, texture = textured_mesh(replace(result, factors=replace(result.factors, albedo=tinted)), MeshOptions())
    plain_mesh, plain = textured_mesh(result, MeshOptions())
    assert len(mesh.faces) == len(plain_mesh.faces)
    column = ((mesh.uv[:, 0] * 400).astype(int), ((1 - mesh.uv[:, 1]) * 400).astype(int))
    tint = (texture.lit - plain.lit)[:, column[1], column[0]].abs()
    assert tint.mean() < 0.02
    assert tint.max() < 0.4


def test_of_equal_halves_the_hidden_one_has_the_other_s_detail(result: Result) -> None:
    # Turned so far to the side that half of the face is hidden.
    aside = replace(result.factors, view=rotate_view(result.factors.view, math.radians(35), 0.0))
    hidden, shown = (
        textured_mesh(replace(result, factors=aside, report={"symmetry": symmetry}), MeshOptions())[1].albedo[
            :, 150:250, 290:310
        ]
        for symmetry in ("off", "on")
    )
    assert energy(shown) > 2 * energy(hidden)
