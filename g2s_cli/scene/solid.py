"""A relief closed into a body: its surface, a flat back, and walls between them."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from g2s_cli.scene.mesh import Mesh, edges, open_edges


def closed(mesh: Mesh, thickness: float) -> tuple[Float[ndarray, "v 3"], Int[ndarray, "f 3"]]:
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
    a, b = edges(mesh.faces)[open_edges(mesh.faces)].T
    walls = np.concatenate((np.stack((b, a, a + count), axis=1), np.stack((b, a + count, b + count), axis=1)))
    return np.concatenate((mesh.vertices, behind)), np.concatenate((mesh.faces, mesh.faces[:, ::-1] + count, walls))
