"""The conventions of space: pixels, rotations, yaw and pitch."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from g2s_cli.geometry.camera import (
    Camera,
    canonical_to_view,
    project_points,
    rotate_view,
    rotation_matrix,
    unproject_points,
    view_to_canonical,
)

ANGLES = st.floats(-1.5, 1.5)
SHIFTS = st.floats(-0.1, 0.1)
VIEWS = st.tuples(ANGLES, ANGLES, ANGLES, SHIFTS, SHIFTS, SHIFTS).map(lambda v: torch.tensor(v, dtype=torch.float64))
CAMERAS = st.builds(Camera, size=st.integers(2, 9), fov_deg=st.floats(1.0, 120.0))
LIKE = torch.zeros(1, dtype=torch.float64)


def random_depth(camera: Camera, seed: int) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return 0.9 + 0.2 * torch.rand(1, camera.size, camera.size, generator=rng, dtype=torch.float64)


def assert_close(found: Tensor, expected: Tensor, atol: float = 1e-12) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=atol)


def test_the_field_of_view_spans_the_outermost_pixel_centres() -> None:
    rays = Camera(7, fov_deg=60.0).rays(LIKE)
    side = math.tan(math.radians(30))
    assert_close(rays[0, 0], LIKE.new_tensor((-side, -side, 1)))
    assert_close(rays[3, 3], LIKE.new_tensor((0, 0, 1)))
    assert_close(rays[6, 3], LIKE.new_tensor((0, side, 1)))  # rows go down, and so does y


def test_a_margin_continues_the_rays_with_the_same_steps() -> None:
    camera = Camera(5)
    wide = camera.rays(LIKE, margin=2)
    assert_close(wide[2:-2, 2:-2], camera.rays(LIKE))
    assert_close(wide[:, 1:] - wide[:, :-1], LIKE.new_tensor((1 / camera.focal, 0, 0)).expand(9, 8, 3))


@given(CAMERAS, st.integers(2, 40))
def test_a_resized_camera_sees_the_same_image(camera: Camera, size: int) -> None:
    other = camera.resize(size)
    points = LIKE.new_tensor([[0.02, -0.01, 0.9], [-0.07, 0.03, 1.1]])
    here = (project_points(points, camera) + 0.5) / camera.size
    assert_close((project_points(points, other) + 0.5) / size, here, atol=1e-9)
    assert (other.near, other.far, other.pivot) == (camera.near, camera.far, camera.pivot)


@pytest.mark.parametrize(("size", "margin"), [(7, 0), (8, 1), (64, 8), (70, 8)])
def test_a_camera_with_margin_has_the_rays_of_the_margin(size: int, margin: int) -> None:
    camera = Camera(size)
    assert_close(camera.with_margin().rays(LIKE), camera.rays(LIKE, margin), atol=1e-9)


@given(CAMERAS, st.integers(0, 99))
def test_projection_inverts_unprojection(camera: Camera, seed: int) -> None:
    depth = random_depth(camera, seed)
    points = unproject_points(depth, camera)
    assert_close(points[..., 2], depth)
    row, column = torch.meshgrid(*[torch.arange(camera.size, dtype=torch.float64)] * 2, indexing="ij")
    assert_close(project_points(points, camera)[0], torch.stack((column, row), dim=-1))


@given(VIEWS)
def test_the_rotation_is_rz_ry_rx(view: Tensor) -> None:
    def about(axis: int) -> Tensor:
        eye = torch.eye(3, dtype=torch.float64)
        spin = torch.linalg.cross(eye[axis].expand(3, 3), eye).T
        return eye + view[axis].sin() * spin + (1 - view[axis].cos()) * spin @ spin  # Rodrigues

    assert_close(rotation_matrix(view[None])[0], about(2) @ about(1) @ about(0))


@given(VIEWS, st.integers(0, 99))
def test_view_to_canonical_inverts_canonical_to_view(view: Tensor, seed: int) -> None:
    camera = Camera(4)
    points = unproject_points(random_depth(camera, seed), camera)
    assert_close(view_to_canonical(canonical_to_view(points, view[None], camera), view[None], camera), points)


@given(VIEWS)
def test_the_object_turns_about_the_pivot(view: Tensor) -> None:
    camera = Camera(4, pivot=1.3)
    pivot = LIKE.new_tensor((0, 0, 1.3))
    assert_close(canonical_to_view(pivot.view(1, 1, 1, 3), view[None], camera)[0, 0, 0], pivot + view[3:])


@pytest.mark.parametrize(
    ("yaw_deg", "pitch_deg", "direction"),
    [(20, 0, (1, 0)), (-20, 0, (-1, 0)), (0, 20, (0, -1)), (0, -20, (0, 1))],
    ids=["right", "left", "up", "down"],
)
def test_positive_yaw_turns_right_and_positive_pitch_up(
    yaw_deg: float, pitch_deg: float, direction: tuple[int, int]
) -> None:
    camera = Camera(64)
    view = rotate_view(torch.zeros(6), math.radians(yaw_deg), math.radians(pitch_deg))
    nose = canonical_to_view(torch.tensor((0, 0, 0.95)).view(1, 1, 1, 3), view[None], camera)
    moved = project_points(nose, camera)[0, 0, 0] - camera.centre
    distance = 0.05 * math.sin(math.radians(20)) / (1 - 0.05 * math.cos(math.radians(20))) * camera.focal
    torch.testing.assert_close(moved, distance * torch.tensor(direction), rtol=1e-4, atol=1e-4)


@given(VIEWS, ANGLES, ANGLES)
def test_rotate_view_rotates_in_the_photos_frame(view: Tensor, yaw: float, pitch: float) -> None:
    rotated = rotate_view(view, yaw, pitch)
    extra = rotation_matrix(view.new_tensor([[-pitch, -yaw, 0, 0, 0, 0]]))
    # Near a quarter turn about y the angles come from an arc sine, whose slope is infinite there.
    assert_close(rotation_matrix(rotated[None]), extra @ rotation_matrix(view[None]), atol=1e-7)
    assert_close(rotated[3:], view[3:])
    assert_close(rotate_view(view, 0.0, 0.0), view, atol=1e-9)
