"""Comparison of meshes, with a made-up head as the truth."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import trimesh

from g2s_cli.errors import UsageError
from g2s_cli.evaluation.mesh_comparison import align, compare, error_colours, eye_distance, read_mesh
from g2s_cli.mesh.options import MeshOptions
from g2s_cli.result.schema import Result
from g2s_cli.result.surface import textured_mesh

SCALE, SHIFT = 700.0, np.array((40.0, -25.0, 300.0))  # of the true mesh, which is in millimetres
EYES = 0.02  # scene units


@pytest.fixture
def head(make: Callable[..., Result]) -> trimesh.Trimesh:
    """The made-up result's mesh."""
    mesh, _ = textured_mesh(make(64), MeshOptions())
    return trimesh.Trimesh(mesh.vertices, mesh.faces)


def moved(mesh: trimesh.Trimesh, turn_deg: float = 8.0) -> trimesh.Trimesh:
    """A mesh at another scale and place, turned."""
    rotation = trimesh.transformations.rotation_matrix(math.radians(turn_deg), (0.3, 1.0, 0.1))[:3, :3]
    return trimesh.Trimesh(SCALE * mesh.vertices @ rotation.T + SHIFT, mesh.faces)


def aligned(mesh: trimesh.Trimesh, truth: trimesh.Trimesh) -> trimesh.Trimesh:
    return trimesh.Trimesh(align(mesh, truth)(np.asarray(mesh.vertices)), mesh.faces)


def test_alignment_finds_scale_turn_and_place(head: trimesh.Trimesh) -> None:
    pytest.importorskip("open3d")
    truth = moved(head)
    found = align(head, truth)
    assert found.scale == pytest.approx(SCALE, rel=2e-3)
    error = np.linalg.norm(found(np.asarray(head.vertices)) - truth.vertices, axis=1)
    assert error.mean() < 0.01 * SCALE * EYES


def test_a_mesh_is_compared_with_itself_and_with_one_that_is_thicker(head: trimesh.Trimesh) -> None:
    pytest.importorskip("open3d")
    same, signed = compare(head, head, EYES)
    assert same.chamfer < 0.01
    assert same.f_score == 1.0
    assert abs(signed).max() < 0.01
    outside = trimesh.Trimesh(head.vertices + 0.1 * EYES * head.vertex_normals, head.faces)
    other, signed = compare(outside, head, EYES)
    assert other.accuracy == pytest.approx(10, abs=0.5)
    assert other.completeness == pytest.approx(10, abs=1.5)
    assert other.f_score < 0.05
    assert np.median(signed) == pytest.approx(10, abs=0.5)


def test_eyes_are_measured_on_the_surface(result: Result) -> None:
    assert eye_distance(result) is None
    faces = [{"points_px": [[24.0, 30.0], [40.0, 30.0]]}]
    seen = replace(result, report=result.report | {"alignment": {"face": None, "faces": faces}})
    level = 16 * result.camera.pivot / result.camera.focal  # of two points at the pivot's depth
    assert level * 0.9 < eye_distance(seen) < level * 1.3  # the surface slopes, and lies in front of the pivot
    outside = [{"points_px": [[1.0, 1.0], [40.0, 30.0]]}]
    assert eye_distance(replace(seen, report={"alignment": {"face": 1, "faces": outside}})) is None


def test_colours_are_white_on_the_surface_red_outside_and_blue_inside() -> None:
    colours = error_colours(np.array((0.0, 20.0, -20.0, 99.0)))
    assert colours.tolist() == [[1, 1, 1], [1, 0, 0], [0, 0, 1], [1, 0, 0]]


def test_files_without_triangles_are_refused(tmp_path) -> None:
    (tmp_path / "broken.ply").write_text("ply?")
    trimesh.PointCloud(np.zeros((3, 3))).export(tmp_path / "points.ply")
    for name, message in (("broken.ply", "cannot be read as a mesh"), ("points.ply", "has no triangles")):
        with pytest.raises(UsageError, match=f"{name} {message}"):
            read_mesh(tmp_path / name)
    with pytest.raises(UsageError, match=r"There is no file .*missing\.ply\."):
        read_mesh(tmp_path / "missing.ply")
