"""Watertight bodies for printing: reliefs with a flat back, and busts that stand on a foot."""

from __future__ import annotations

import numpy as np
import trimesh
from jaxtyping import Float, Int
from numpy import ndarray

from g2s_cli.mesh.extract import Mesh, boundary_edges, face_edges

FOOT_SHARES = np.arange(1, 16) / 50  # of a bust's height, below which it may be pressed flat
# What stays of the height of pressed points: in a plane, points above each other would meet, and a file that states
# positions alone would join their triangles.
FOOT_RELIEF = 3e-3
STABILITY = 0.1  # least distance of the centre of mass from the foot's edge, in the foot's widths


def closed_face_count(mesh: Mesh) -> int:
    """The number of triangles of `close_mesh`."""
    return 2 * (len(mesh.faces) + int(boundary_edges(mesh.faces).sum()))


def scale_to_height(mesh: Mesh, height: float, thickness: float) -> float:
    """The scale at which the closed mesh has a height and a thickness.

    The back is the front projected along the camera's rays, so it reaches farther up and down. Its top and bottom are
    linear in the scale, and so is the height.

    Returns:
        Units of height and thickness per scene unit; not above 0 if a body of that thickness is taller at any scale.
    """
    depth = mesh.camera.pivot - mesh.vertices[:, 2]
    y = mesh.vertices[:, 1]
    slope, farthest = y / depth, depth.max()
    # Each end lies at growth * scale + constant.
    top = (slope.max() * farthest, slope.max() * thickness) if y.max() > 0 else (y.max(), 0.0)
    bottom = (slope.min() * farthest, slope.min() * thickness) if y.min() < 0 else (y.min(), 0.0)
    return float((height - (top[1] - bottom[1])) / (top[0] - bottom[0]))


def close_mesh(mesh: Mesh, thickness: float) -> tuple[Float[ndarray, "v 3"], Int[ndarray, "f 3"]]:
    """Close a mesh by a flat back, `thickness` scene units behind its farthest point.

    The walls run along the camera's rays. Each ray meets the surface once, so the walls intersect nothing.

    Returns:
        Vertices in the mesh's frame and outward triangles.
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


def stand(vertices: Float[ndarray, "v 3"], faces: Int[ndarray, "f 3"]) -> Float[ndarray, "v 3"]:
    """Press the lower end of a watertight body to a flat foot, as high as it needs to stand on it."""
    low, height = vertices[:, 1].min(), np.ptp(vertices[:, 1])
    above = vertices[:, 1] - low
    standing = vertices
    for share in FOOT_SHARES:
        standing = vertices.copy()
        standing[:, 1] = low + np.maximum(above, share * height - FOOT_RELIEF * (share * height - above))
        if is_stable(standing, faces):
            break
    return standing


def foot_of(vertices: Float[ndarray, "v 3"]) -> Float[ndarray, "f 3"]:
    """The points of a body that touch the ground, within the relief of a foot."""
    above = vertices[:, 1] - vertices[:, 1].min()
    return vertices[above <= FOOT_RELIEF * FOOT_SHARES[-1] * above.max()]


def is_stable(vertices: Float[ndarray, "v 3"], faces: Int[ndarray, "f 3"]) -> bool:
    """Whether a body's centre of mass lies above the convex hull of its foot, well inside."""
    centre = trimesh.Trimesh(vertices, faces, process=False).center_mass
    foot = foot_of(vertices)[:, ::2]
    angles = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    reach = (foot - centre[::2]) @ np.stack((np.cos(angles), np.sin(angles)))
    most, least = reach.max(axis=0), reach.min(axis=0)
    return bool((most > STABILITY * (most - least)).all())
