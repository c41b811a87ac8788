"""Closed bodies: watertight, outward, as thick as specified."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import trimesh

from g2s_cli.geometry.camera import Camera
from g2s_cli.mesh.extract import extract_mesh
from g2s_cli.mesh.refine import CanonicalDepth
from g2s_cli.mesh.solid import close_mesh


def test_a_ring_is_closed_to_a_body_of_the_volume_behind_it() -> None:
    row, column = torch.meshgrid(torch.arange(40.0), torch.arange(40.0), indexing="ij")
    radius = torch.hypot(row - 19.5, column - 19.5)
    mask = ((radius < 15) & (radius > 5)).float()
    mesh = extract_mesh(CanonicalDepth(0.95 + 0.0002 * radius.square(), mask, Camera(40)))
    body = trimesh.Trimesh(*close_mesh(mesh, 0.01), process=False)
    assert not trimesh.Trimesh(mesh.vertices, mesh.faces, process=False).is_watertight
    assert body.is_watertight
    assert body.is_winding_consistent
    assert body.euler_number == 0  # one hole through it
    back = mesh.vertices[:, 2].min() - 0.01
    assert body.bounds[0, 2] == pytest.approx(back)
    a, b, c = mesh.vertices[mesh.faces].swapaxes(0, 1)
    columns = np.cross(b - a, c - a)[:, 2] / 2 * ((a + b + c)[:, 2] / 3 - back)
    # The walls run along the camera's rays, not straight back.
    assert body.volume == pytest.approx(columns.sum(), rel=0.05)
