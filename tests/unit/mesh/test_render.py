"""Images of meshes: position, visibility and silhouette."""

from __future__ import annotations

import math

import pytest
import torch

from g2s_cli.geometry.camera import Camera, rotate_view
from g2s_cli.mesh.extract import Mesh, extract_mesh
from g2s_cli.mesh.refine import CanonicalDepth
from g2s_cli.mesh.render import render_mesh

CAMERA = Camera(64)
FRONT = torch.zeros(6)
TEXTURE = torch.full((3, 64, 64), -1.0)  # red left of the middle, blue right of it
TEXTURE[0, :, :32] = TEXTURE[2, :, 32:] = 1


@pytest.fixture(scope="module")
def ridge() -> Mesh:
    """A plate with a steep ridge down its middle."""
    column = (torch.arange(64) - 31.5).abs()
    depth = (0.93 + 0.012 * (column - 4).clamp(min=0)).clamp(max=1.0).expand(64, 64)
    mask = torch.zeros(64, 64)
    mask[4:60, 4:60] = 1
    return extract_mesh(CanonicalDepth(depth, mask, CAMERA))


def test_the_front_view_is_the_texture_on_white(ridge: Mesh) -> None:
    rendered = render_mesh(ridge, TEXTURE, FRONT, CAMERA)
    assert torch.allclose(rendered.image[:, 12:52, 12:52], TEXTURE[:, 12:52, 12:52], atol=1e-4)
    assert (rendered.alpha[12:52, 12:52] > 1 - 1e-6).all()
    assert (rendered.alpha[:2] == 0).all()
    assert (rendered.on_white[:, :2] == 1).all()
    edge = rendered.alpha[1:8, 32]
    assert (edge.diff() >= 0).all()
    assert ((edge > 0.1) & (edge < 0.9)).any()


def test_the_ridge_hides_what_lies_behind_it(ridge: Mesh) -> None:
    # Turned to the photo's right, the ridge leans over the blue plate beside it.
    blue, turned = (
        (render_mesh(ridge, TEXTURE, rotate_view(FRONT, math.radians(yaw), 0.0), CAMERA).on_white[0] < 0).sum()
        for yaw in (0, 30)
    )
    assert turned < 0.75 * blue


def test_other_resolutions_show_the_same(ridge: Mesh) -> None:
    small = render_mesh(ridge, TEXTURE, FRONT, CAMERA).on_white
    large = render_mesh(ridge, TEXTURE, FRONT, CAMERA.resize(192)).on_white
    assert large.shape == (3, 192, 192)
    difference = (large.view(3, 64, 3, 64, 3).mean(dim=(2, 4)) - small).abs()
    assert difference[:, 12:52, 12:52].mean() < 0.02
    assert (difference.amax(dim=0) > 0.7).sum() < 8


def test_there_are_no_cracks_at_a_thousand_pixels(ridge: Mesh) -> None:
    alpha = render_mesh(ridge, TEXTURE, rotate_view(FRONT, 0.1, 0.2), CAMERA.resize(1000)).alpha
    assert (alpha > 0).float().mean() > 0.5
    assert (alpha[200:800, 250:750] > 1 - 1e-6).all()
