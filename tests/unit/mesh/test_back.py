"""The rounded back of a surface: its shape, its outline, and the body it closes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh

from g2s_cli.geometry.camera import Camera
from g2s_cli.geometry.rasterizer import rasterize
from g2s_cli.mesh.back import close_round
from g2s_cli.mesh.extract import Back, Mesh, boundary_edges, extract_mesh, face_edges, transform_mesh
from g2s_cli.mesh.refine import CanonicalDepth
from g2s_cli.mesh.render import rasterize_mesh
from g2s_cli.mesh.solid import foot_of, is_stable, stand

CAMERA = Camera(96)
RADIUS = 30.0
VIEW = torch.tensor([0.0, 0.3, 0.0, 0.0, 0.0, 0.0])


def disc(view: torch.Tensor, *, cut: bool = False) -> Mesh:
    """A flat disc, or one with a body below it that the image cuts off."""
    row, column = torch.meshgrid(torch.arange(96.0), torch.arange(96.0), indexing="ij")
    mask = RADIUS - torch.hypot(row - 47.5, column - 47.5)
    if cut:
        mask = torch.maximum(mask, torch.minimum(row - 60, 40 - (column - 47.5).abs()))
    depth = torch.ones(96, 96)
    mesh = extract_mesh(CanonicalDepth(depth, (mask + 0.5).clamp(0, 1), CAMERA), between_pixels=True)
    return replace(mesh, back=Back(view, 1.0))


def body(mesh: Mesh) -> trimesh.Trimesh:
    return trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)


def test_the_back_of_a_disc_is_half_a_ball() -> None:
    closed = close_round(disc(torch.zeros(6)))
    radius = RADIUS / CAMERA.focal
    assert closed.back is None
    assert body(closed).is_watertight
    assert body(closed).is_winding_consistent
    assert body(closed).volume == pytest.approx(2 / 3 * np.pi * radius**3, rel=0.15)
    assert -closed.vertices[:, 2].min() == pytest.approx(radius, rel=0.1)


def test_triangles_that_hang_on_one_edge_leave_the_body_watertight() -> None:
    mesh = disc(torch.zeros(6))
    ends = face_edges(mesh.faces)[boundary_edges(mesh.faces)][::7]
    tips = mesh.vertices[ends].mean(axis=1) * (1.01, 1.01, 1.0)
    ears = np.column_stack((ends[:, ::-1], len(mesh.vertices) + np.arange(len(tips))))
    eared = replace(mesh, vertices=np.concatenate((mesh.vertices, tips)), faces=np.concatenate((mesh.faces, ears)))
    closed = close_round(eared)
    _, uses = np.unique(np.sort(face_edges(closed.faces).reshape(-1, 2), axis=1), axis=0, return_counts=True)
    assert (uses == 2).all()
    assert body(closed).is_watertight
    assert body(closed).is_winding_consistent


def test_the_height_is_limited() -> None:
    mesh = disc(torch.zeros(6))
    closed = close_round(replace(mesh, back=Back(torch.zeros(6), 0.02)))
    assert 0.015 < -closed.vertices[:, 2].min() <= 0.02


def test_the_view_that_it_was_made_for_shows_none_of_it() -> None:
    mesh = disc(VIEW)
    front, closed = (
        rasterize(*transform_mesh(one, VIEW), CAMERA)[1][0].isfinite() for one in (mesh, close_round(mesh))
    )
    assert (closed & ~front).sum() <= 2
    assert not rasterize_mesh(mesh, 96, VIEW, CAMERA).behind.any()
    turned = rasterize_mesh(mesh, 96, torch.tensor([0.0, -0.9, 0.0, 0.0, 0.0, 0.0]), CAMERA)
    assert turned.behind.float().mean() > 0.02


def test_the_back_has_the_colours_of_the_rim() -> None:
    row, column = torch.meshgrid(torch.arange(96.0), torch.arange(96.0), indexing="ij")
    inner = torch.hypot(row - 47.5, column - 47.5) < RADIUS - 8
    texture = torch.where(inner, 1.0, torch.tensor([0.5, -0.2, -0.7])[:, None, None])
    turned = rasterize_mesh(disc(torch.zeros(6)), 96, torch.tensor([0.0, -1.2, 0.0, 0.0, 0.0, 0.0]), CAMERA)
    colours = turned.sample_texture(texture).image[:, turned.behind]
    assert torch.allclose(colours, torch.tensor([0.5, -0.2, -0.7])[:, None].expand_as(colours), atol=0.02)


def test_a_bust_stands_on_a_flat_foot() -> None:
    closed = close_round(disc(torch.zeros(6), cut=True))
    standing = stand(closed.vertices, closed.faces)
    bust = trimesh.Trimesh(standing, closed.faces, process=False)
    assert bust.is_watertight
    assert 0.8 * body(closed).volume < bust.volume < body(closed).volume
    assert is_stable(standing, closed.faces)
    foot = foot_of(standing)
    assert np.ptp(foot[:, 1]) < 1e-3 * np.ptp(standing[:, 1])
    assert np.ptp(foot[:, 0]) > 2 * RADIUS / CAMERA.focal
    assert np.ptp(foot[:, 2]) > 0.01
    # On its head it would not stand: a ball's foot is small, and the body leans over it.
    leaning = standing + (0, 0, 1) * (standing[:, 1:2] - standing[:, 1].min()) * 3
    assert not is_stable(leaning, closed.faces)


def test_a_bust_is_watertight_when_its_file_is_read_again(tmp_path: Path) -> None:
    """STL states no vertices, only the corners of each triangle: those of a wall must not meet in the foot."""
    box = trimesh.creation.box(extents=(1.0, 2.0, 1.0)).subdivide().subdivide().subdivide()
    vertices, faces = np.array(box.vertices), np.asarray(box.faces)
    vertices[:, 1] = 2 * ((vertices[:, 1] + 1) / 2) ** 3  # rows close to each other at the lower end
    standing = 50 * stand(vertices, faces)
    trimesh.Trimesh(standing, faces, process=False).export(tmp_path / "mesh.stl")
    again = trimesh.load(tmp_path / "mesh.stl")
    assert len(again.faces) == len(faces)
    assert again.is_watertight
    assert 200_000 < again.volume < 250_000
