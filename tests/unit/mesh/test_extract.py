"""Mesh extraction: axes, winding, texture coordinates, and what is cut away."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from g2s_cli.errors import G2SError
from g2s_cli.geometry.camera import Camera, canonical_to_view, project_points, unproject_points
from g2s_cli.geometry.factors import Factors
from g2s_cli.geometry.rasterizer import grid_faces
from g2s_cli.mesh.extract import (
    boundary_edges,
    camera_pose,
    extract_mesh,
    face_edges,
    largest_component,
    remove_pinches,
    remove_steep_boundary,
    smooth_boundary,
    vertex_normals,
)
from g2s_cli.mesh.refine import CanonicalDepth

SIZE = 24
CAMERA = Camera(SIZE)


def dome() -> CanonicalDepth:
    """Half an ellipsoid bulging towards the camera, on the disc it stands on."""
    ticks = (torch.arange(SIZE) - CAMERA.centre) / CAMERA.centre
    y, x = torch.meshgrid(ticks, ticks, indexing="ij")
    height = (1 - (x / 0.75) ** 2 - (y / 0.75) ** 2).clamp(min=0).sqrt()
    return CanonicalDepth(1.02 - 0.06 * height, ((x**2 + y**2) < 0.6**2).float(), CAMERA)


def square_grid(size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows and columns of a grid's vertices, and its triangles as seen from the front."""
    row, column = np.mgrid[:size, :size].reshape(2, -1)
    return row, column, grid_faces(size, size, torch.device("cpu")).numpy()[:, ::-1]


def test_up_is_up_and_the_object_faces_z() -> None:
    mesh = extract_mesh(dome())
    right, up, towards = mesh.vertices.T
    assert right.min() < -0.03 < 0.03 < right.max()
    assert np.corrcoef(up, mesh.uv[:, 1])[0, 1] > 0.99
    assert np.corrcoef(right, mesh.uv[:, 0])[0, 1] > 0.99
    assert towards[np.hypot(right, up).argmin()] == pytest.approx(1 - 0.96, abs=2e-3)
    a, b, c = mesh.vertices[mesh.faces].swapaxes(0, 1)
    assert (np.cross(b - a, c - a)[:, 2] > 0).all()


def test_the_normals_of_a_sphere_are_its_radii() -> None:
    _, _, faces = square_grid(33)
    ticks = np.linspace(-0.5, 0.5, 33)
    x, y = (side.ravel() for side in np.meshgrid(ticks, -ticks))
    sphere = np.stack((x, y, np.sqrt(1 - x**2 - y**2)), axis=1)
    normals = vertex_normals(sphere, faces)
    inner = (np.abs(x) < 0.49) & (np.abs(y) < 0.49)
    assert np.allclose(normals[inner], sphere[inner], atol=3e-3)
    assert np.allclose(np.linalg.norm(normals, axis=1), 1)


def test_the_normal_of_a_vertex_without_triangles_is_z() -> None:
    corners = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [5, 5, 5]])
    assert np.array_equal(vertex_normals(corners, np.array([[0, 1, 2]])), np.tile((0.0, 0.0, 1.0), (4, 1)))


def test_vertices_are_unprojected_pixels_and_lie_at_them_in_the_texture() -> None:
    canonical = dome()
    mesh = extract_mesh(canonical)
    # Away from the boundary every vertex is a pixel's centre; the first texture row is the top one.
    column, row = mesh.uv[:, 0] * SIZE - 0.5, (1 - mesh.uv[:, 1]) * SIZE - 0.5
    central = np.hypot(column - CAMERA.centre, row - CAMERA.centre) < 4
    i, j = row[central].round().astype(int), column[central].round().astype(int)
    assert np.allclose(row[central], i, atol=1e-9)
    assert np.allclose(column[central], j, atol=1e-9)
    expected = (unproject_points(canonical.depth[None].double(), CAMERA)[0, i, j] - torch.tensor((0, 0, 1.0))).numpy()
    assert np.allclose(mesh.vertices[central], expected * (1, -1, -1), atol=1e-12)


def test_the_camera_pose_projects_vertices_as_the_view_does() -> None:
    view = torch.tensor([0.1, -0.3, 0.05, 0.004, -0.002, 0.0])
    depth = dome().depth
    pose = camera_pose(Factors(depth, torch.zeros(3, SIZE, SIZE), view, torch.tensor([1.0, 0.0, 0.0, 0.0])), CAMERA)
    points = unproject_points(depth[None].double(), CAMERA)
    expected = project_points(canonical_to_view(points, view[None].double(), CAMERA), CAMERA).reshape(-1, 2)
    vertices = (points.reshape(-1, 3).numpy() - (0, 0, 1)) * (1, -1, -1)
    x, y, z = (vertices @ pose[:3, :3].T + pose[:3, 3]).T
    assert (z < 0).all()
    pixels = np.stack((CAMERA.centre - CAMERA.focal * x / z, CAMERA.centre + CAMERA.focal * y / z), axis=1)
    assert np.allclose(pixels, expected, atol=1e-9)


def test_the_boundary_lies_between_pixels() -> None:
    row, column = torch.meshgrid(torch.arange(96.0), torch.arange(96.0), indexing="ij")
    disc = (30.3 - torch.hypot(row - 47.5, column - 47.5) + 0.5).clamp(0, 1)
    mesh = extract_mesh(CanonicalDepth(torch.ones(96, 96), disc, Camera(96)), between_pixels=True)
    edge = mesh.vertices[np.unique(face_edges(mesh.faces)[boundary_edges(mesh.faces)])]
    assert np.allclose(np.hypot(edge[:, 0], edge[:, 1]) * Camera(96).focal, 30.2, atol=0.3)


def test_the_background_and_small_components_are_cut_away() -> None:
    canonical = dome()
    crumb = canonical.mask.clone()
    crumb[:3, :3] = 1
    assert len(extract_mesh(replace(canonical, mask=crumb)).faces) == len(extract_mesh(canonical).faces)
    # So are triangles that connect the object over the mask's edge to a wall behind.
    wall = torch.where(canonical.mask > 0, canonical.depth, 1.09)
    assert extract_mesh(replace(canonical, depth=wall)).vertices[:, 2].min() > 1 - 1.03


def test_a_cliff_inside_the_surface_stays() -> None:
    depth = torch.full((SIZE, SIZE), 1.0)
    depth[8:16, 8:16] = 0.95
    mesh = extract_mesh(CanonicalDepth(depth, torch.ones(SIZE, SIZE), CAMERA))
    assert len(mesh.faces) == 2 * (SIZE - 1) ** 2 - 2  # two corners hang on one edge


def test_an_empty_mask_is_an_error() -> None:
    with pytest.raises(G2SError, match="leaves no surface"):
        extract_mesh(replace(dome(), mask=torch.zeros(SIZE, SIZE)))


def test_squares_that_touch_at_a_corner_are_separated() -> None:
    row, column, faces = square_grid(7)
    upper, lower = ((row <= 3) & (column <= 3))[faces].all(axis=1), ((row >= 3) & (column >= 3))[faces].all(axis=1)
    separated = remove_pinches(faces[upper | lower])
    assert 0 < len(separated) < (upper | lower).sum()
    assert 3 * 7 + 3 not in separated
    assert np.array_equal(remove_pinches(faces[upper]), faces[upper])


def test_an_edge_of_three_triangles_is_removed() -> None:
    fan = np.array([[0, 1, 2], [1, 0, 3], [0, 1, 4], [2, 1, 5]])
    assert remove_pinches(fan).tolist() == [[2, 1, 5]]


def test_components_are_connected_by_edges_not_corners() -> None:
    strip = np.array([[0, 1, 2], [1, 3, 2], [2, 3, 4]])
    assert largest_component(np.concatenate((strip, [[4, 5, 6]]))).tolist() == strip.tolist()


def test_a_steep_strip_at_the_boundary_is_removed() -> None:
    row, column, faces = square_grid(5)
    points = np.stack((column, -row, np.where(column == 4, -50, 0)), axis=1).astype(float)
    left = remove_steep_boundary(faces, points)
    assert column[left].max() == 3
    assert len(left) == 2 * 4 * 3 - 2


def test_smoothing_moves_the_boundary_only() -> None:
    # A square of four triangles about its middle: the corners close in, the middle stays.
    points = np.array([[-1.0, -1], [1, -1], [1, 1], [-1, 1], [0.2, 0.1]])
    smooth = smooth_boundary(np.array([[0, 1, 4], [1, 2, 4], [2, 3, 4], [3, 0, 4]]), points)
    assert smooth[4].tolist() == [0.2, 0.1]
    assert np.allclose(smooth[:4], points[:4] / 2**4)
