"""Pictures of a mesh: where it is, which side is in front, and how its edge looks."""

from __future__ import annotations

import math

import torch

from g2s_cli.geometry.camera import Camera, rotate_view
from g2s_cli.mesh.extract import extract_mesh
from g2s_cli.mesh.refine import CanonicalDepth
from g2s_cli.mesh.render import render_mesh

CAMERA = Camera(64)
FRONT = torch.zeros(6)


def ridge() -> CanonicalDepth:
    """A plate with a steep ridge down its middle."""
    column = (torch.arange(64) - 31.5).abs()
    depth = (0.93 + 0.012 * (column - 4).clamp(min=0)).clamp(max=1.0).expand(64, 64)
    mask = torch.zeros(64, 64)
    mask[4:60, 4:60] = 1
    return CanonicalDepth(depth, mask, CAMERA)


def halves() -> torch.Tensor:
    """Red left of the middle, blue right of it."""
    lit = torch.full((3, 64, 64), -1.0)
    lit[0, :, :32] = 1
    lit[2, :, 32:] = 1
    return lit


def test_from_the_front_the_picture_is_the_texture_on_white() -> None:
    shown = render_mesh(extract_mesh(ridge()), halves(), FRONT, CAMERA)
    assert torch.allclose(shown.image[:, 12:52, 12:52], halves()[:, 12:52, 12:52], atol=1e-4)
    assert (shown.alpha[12:52, 12:52] > 1 - 1e-6).all()
    assert (shown.alpha[:2] == 0).all()
    assert (shown.on_white[:, :2] == 1).all()
    edge = shown.alpha[1:8, 32]
    assert (edge.diff() >= 0).all()
    assert ((edge > 0.1) & (edge < 0.9)).any()


def test_the_ridge_hides_what_lies_behind_it() -> None:
    mesh = extract_mesh(ridge())
    # Turned to the photo's right, the ridge leans over the blue plate beside it.
    blue, turned = (
        (render_mesh(mesh, halves(), rotate_view(FRONT, math.radians(yaw), 0.0), CAMERA).on_white[0] < 0).sum().item()
        for yaw in (0, 30)
    )
    assert turned < 0.75 * blue


def test_other_sizes_show_the_same() -> None:
    mesh = extract_mesh(ridge())
    small = render_mesh(mesh, halves(), FRONT, CAMERA).on_white
    large = render_mesh(mesh, halves(), FRONT, CAMERA.resize(192)).on_white
    assert large.shape == (3, 192, 192)
    averaged = large.view(3, 64, 3, 64, 3).mean(dim=(2, 4))
    assert (averaged - small)[:, 12:52, 12:52].abs().mean() < 0.02
    assert ((averaged - small).abs().amax(dim=0) > 0.7).sum() < 8


def test_no_cracks_at_a_thousand_pixels() -> None:
    cover = render_mesh(extract_mesh(ridge()), halves(), rotate_view(FRONT, 0.1, 0.2), CAMERA.resize(1000)).alpha
    assert (cover > 0).float().mean() > 0.5
    assert (cover[200:800, 250:750] > 1 - 1e-6).all()
