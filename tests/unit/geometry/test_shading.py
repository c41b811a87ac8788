"""Shading, and lights by their position in the photo."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from g2s_cli.geometry.camera import Camera, rotation_matrix
from g2s_cli.geometry.normals import depth_to_normals
from g2s_cli.geometry.shading import (
    MIN_LIGHT_Z,
    SHININESS,
    diffuse_shading,
    light_direction,
    light_from_position,
    position_from_light,
    shade,
    specular_shading,
)

SLANTS = st.floats(-2, 2)
ANGLES = st.floats(-0.4, 0.4)
VIEWS = st.tuples(ANGLES, ANGLES, ANGLES).map(lambda v: torch.tensor((*v, 0, 0, 0), dtype=torch.float64))
FRONT = torch.zeros(6)


def dome() -> Tensor:
    ticks = torch.linspace(-1, 1, 33)
    y, x = torch.meshgrid(ticks, ticks, indexing="ij")
    return (1 - 0.05 * (1 - x**2 - y**2).clamp(min=0).sqrt())[None]


def test_a_light_at_the_camera_is_brightest_where_the_surface_faces_it() -> None:
    light = light_from_position(0.0, 0.0, 0.0, 1.0, FRONT)[None]
    shading = diffuse_shading(depth_to_normals(dome(), Camera(33)), light)[0]
    assert shading[16, 16] == shading[8:25, 8:25].max() > 0.99
    torch.testing.assert_close(shading, shading.flip(1))
    torch.testing.assert_close(shading, shading.T)


@given(SLANTS, SLANTS, VIEWS)
def test_position_and_light_are_inverse(x: float, y: float, view: Tensor) -> None:
    light = light_from_position(x, y, 0.1, 0.7, view)
    assert light[:2].tolist() == [0.1, 0.7]
    rotation, direction = rotation_matrix(view[None])[0], view.new_tensor((-x, y, 1))
    if (rotation.T @ direction)[2] > MIN_LIGHT_Z:
        in_photo = rotation @ light_direction(light[None])[0]
        torch.testing.assert_close(in_photo / in_photo[2], direction, rtol=0, atol=1e-9)
        assert position_from_light(light, view) == pytest.approx((x, y), abs=1e-9)
    else:
        assert light_direction(light[None])[0, 2] > 0


def test_a_light_from_behind_is_moved_to_the_horizon() -> None:
    view = torch.tensor((0, -1.5, 0, 0, 0, 0.0))  # the object looks to the photo's right
    light = light_from_position(-50.0, 0.0, 0.0, 1.0, view)  # and the light stands far on the left
    assert torch.isfinite(light).all()
    assert 0 < light_direction(light[None])[0, 2] < 0.02
    assert all(abs(number) < 1e3 for number in position_from_light(light, view))


def test_shading_is_ambient_plus_diffuse_times_reflectance() -> None:
    albedo = torch.tensor([[-1.0, 0.0, 1.0]]).view(1, 3, 1, 1)  # reflectances 0, 0.5 and 1
    light = torch.tensor([[0.2, 0.6, 0.0, 0.0]])
    lit = shade(albedo, torch.full((1, 1, 1), 0.5), light)
    torch.testing.assert_close(lit.flatten() / 2 + 0.5, torch.tensor((0.0, 0.25, 0.5)))


def test_a_surface_facing_away_is_dark() -> None:
    normal = torch.tensor((-0.8, 0.0, 0.6)).view(1, 1, 1, 3)
    assert diffuse_shading(normal, torch.tensor([[0.0, 1.0, 3.0, 0.0]])) == 0


@pytest.mark.parametrize("view", [FRONT, torch.tensor([0.1, -0.4, 0.05, 0.0, 0.0, 0.0])])
def test_the_highlight_is_where_the_normal_is_halfway_between_light_and_viewer(view: Tensor) -> None:
    light = torch.tensor([[0.0, 1.0, 0.5, -0.3]])
    away = rotation_matrix(view[None])[0].T @ torch.tensor([0.0, 0.0, 1.0])
    halfway = light_direction(light)[0] + away
    halfway = halfway / halfway.norm()
    across = torch.linalg.cross(halfway, away + torch.tensor([0.3, 0.1, 0.0]))
    tilts = torch.deg2rad(torch.tensor([-100.0, -15.0, 0.0, 15.0, 100.0]))[:, None]
    normal = tilts.cos() * halfway + tilts.sin() * across / across.norm()
    found = specular_shading(normal.view(1, 1, 5, 3), light, view[None])[0, 0]
    beside = math.cos(math.radians(15)) ** SHININESS
    torch.testing.assert_close(found, torch.tensor([0.0, beside, 1.0, beside, 0.0]), atol=1e-5, rtol=0)


@pytest.mark.parametrize("specular", [False, True])
def test_shading_is_differentiable(specular: bool) -> None:
    rng = torch.Generator().manual_seed(1)
    albedo = torch.rand(2, 3, 5, 5, generator=rng, dtype=torch.float64, requires_grad=True)
    depth = (1 + 0.01 * torch.rand(2, 5, 5, generator=rng, dtype=torch.float64)).requires_grad_()
    light = torch.tensor([[0.3, 0.6, 0.2, -0.1], [0.5, 0.4, -0.3, 0.2]], dtype=torch.float64, requires_grad=True)
    view = (0.1 * torch.randn(2, 6, generator=rng, dtype=torch.float64)).requires_grad_()

    def shaded(albedo: Tensor, depth: Tensor, light: Tensor, view: Tensor) -> Tensor:
        normal = depth_to_normals(depth, Camera(5))
        return (
            specular_shading(normal, light, view) if specular else shade(albedo, diffuse_shading(normal, light), light)
        )

    assert torch.autograd.gradcheck(shaded, (albedo, depth, light, view), eps=1e-7)
