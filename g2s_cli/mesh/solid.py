"""A relief closed into a body: its surface, a flat back, and walls between them."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from g2s_cli.mesh.extract import Mesh, boundary_edges, face_edges


def closed_face_count(mesh: Mesh) -> int:
    """How many triangles `close_mesh` makes of a mesh."""
    return 2 * (len(mesh.faces) + int(boundary_edges(mesh.faces).sum()))


def scale_to_height(mesh: Mesh, height: float, thickness: float) -> float:
    """The factor that makes the closed mesh so tall, its back lying so far behind; both in the unit it scales to.

    The back is drawn out along the camera's rays: what lies above the camera's axis ends above the front there, what
    lies below it below. So top and bottom are linear in the factor, and so is the height. Not above 0 if a body of that
    thickness is taller at any factor.
    """
    depth = mesh.camera.pivot - mesh.vertices[:, 2]
    height_y = mesh.vertices[:, 1]
    slope, farthest = height_y / depth, depth.max()
    # Each edge is growing * factor + fixed.
    top = (slope.max() * farthest, slope.max() * thickness) if height_y.max() > 0 else (height_y.max(), 0.0)
    bottom = (slope.min() * farthest, slope.min() * thickness) if height_y.min() < 0 else (height_y.min(), 0.0)
    return float((height - (top[1] - bottom[1])) / (top[0] - bottom[0]))


def close_mesh(mesh: Mesh, thickness: float) -> tuple[Float[ndarray, "v 3"], Int[ndarray, "f 3"]]:
    """Vertices and outward triangles of a watertight body with the mesh as its front, in the mesh's own frame.

    thickness: how far the back lies behind the surface's farthest point, scene units. The walls run along the
    camera's rays, which meet the relief once each: they cut through nothing.
    """
    count = len(mesh.vertices)
    back = mesh.vertices[:, 2].min() - thickness
    eye = np.array((0.0, 0.0, mesh.camera.pivot))
    rays = mesh.vertices - eye
    behind = eye + rays * ((back - eye[2]) / rays[:, 2:])
    behind[:, 2] = back
    a, b = face_edges(mesh.faces)[boundary_edges(mesh.faces)].T
    walls = np.concatenate((np.stack((b, a, a + count), axis=1), np.stack((b, a + count, b + count), axis=1)))
    return np.concatenate((mesh.vertices, behind)), np.concatenate((mesh.faces, mesh.faces[:, ::-1] + count, walls))
