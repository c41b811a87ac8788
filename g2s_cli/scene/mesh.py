"""The relief as a triangle mesh, in the axes of the world outside: +Y up, the object faces +Z.

The origin is the pivot c and lengths are scene units, so a canonical point X becomes F (X - c) with
F = diag(1, -1, -1).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from numpy import ndarray
from torch import Tensor

from g2s_cli.errors import G2SError
from g2s_cli.scene.camera import Camera, back_project, rotation
from g2s_cli.scene.factors import Factors
from g2s_cli.scene.render import lit_texture
from g2s_cli.scene.visibility import grid_triangles

FLIP = np.array((1.0, -1.0, -1.0))

# Triangles at the rim that slant further than this are not surface but a curtain between the object and
# whatever the depth map does behind it.
STEEPEST_DEG = 80.0

# Rounds of averaging along the rim: enough to turn the staircase of pixels, which a steep cheek draws out to
# saw teeth, into a line; each moves the rim inwards by a fraction of a pixel.
RIM_ROUNDS = 4


@dataclass(frozen=True)
class Mesh:
    """A textured relief, counter-clockwise seen from its front.

    vertices: scene units about the pivot. normals: unit, outward, one a vertex. uv: v points up, (0, 0) is the
    texture's lower left corner (OBJ; trimesh turns it for glTF). texture: 8-bit RGB, its first row on top.
    """

    vertices: Float[ndarray, "n 3"]
    faces: Int[ndarray, "m 3"]
    normals: Float[ndarray, "n 3"]
    uv: Float[ndarray, "n 2"]
    texture: UInt8[ndarray, "h w 3"]


def relief_mesh(factors: Factors, mask: Float[Tensor, "h w"], camera: Camera) -> Mesh:
    """The canonical relief where the canonical mask is at least 0.5, textured with its lit albedo.

    Curtains at the rim and all but the largest connected piece are cut away, then the rim is smoothed.
    Raises G2SError if nothing is left.
    """
    height, width = factors.depth.shape
    points = back_project(factors.depth[None].double(), camera).reshape(-1, 3).cpu().numpy()
    points = (points - (0.0, 0.0, camera.pivot)) * FLIP
    inside = (mask >= 0.5).flatten().cpu().numpy()
    # Two corners of three: the rim then lies about the mask's edge, where all three would lie half a pixel inside.
    # The grid's triangles turn clockwise as seen from the front; outside, fronts turn counter-clockwise.
    faces = grid_triangles(height, width, torch.device("cpu")).numpy()[:, ::-1]
    faces = largest_piece(without_curtain(faces[inside[faces].sum(axis=1) >= 2], points))
    if len(faces) == 0:
        raise G2SError("The photo's mask leaves no surface to make a mesh of.", "Use a photo that fits the category.")
    used, faces = np.unique(faces, return_inverse=True)
    faces = faces.reshape(-1, 3)
    rows, columns = np.divmod(used, width)
    uv = np.stack(((columns + 0.5) / width, 1 - (rows + 0.5) / height), axis=1)
    smooth = smooth_rim(faces, np.concatenate((points[used], uv), axis=1))
    vertices, uv = smooth[:, :3], smooth[:, 3:]
    return Mesh(vertices, faces, vertex_normals(vertices, faces), uv, to_bytes(lit_texture(factors, camera)))


def without_curtain(faces: Int[ndarray, "m 3"], points: Float[ndarray, "n 3"]) -> Int[ndarray, "k 3"]:
    """Peel steep triangles off the rim, ring by ring, then its teeth; steep ones inside (beside the nose) stay.

    A tooth hangs on one edge alone; smoothing the rim would fold it over.
    """
    a, b, c = points[faces].swapaxes(0, 1)
    normal = np.cross(b - a, c - a)
    steep = normal[:, 2] < np.cos(np.radians(STEEPEST_DEG)) * np.linalg.norm(normal, axis=1)
    while (peel := steep & _open_edges(faces).any(axis=1)).any():
        faces, steep = faces[~peel], steep[~peel]
    return faces[_open_edges(faces).sum(axis=1) < 2]


def largest_piece(faces: Int[ndarray, "m 3"]) -> Int[ndarray, "k 3"]:
    """The triangles of the largest set connected by shared edges."""
    if len(faces) == 0:
        return faces
    edge, _ = _edge_ids(faces)
    label = np.arange(len(faces))
    while True:
        least = np.full(edge.max() + 1, len(faces))
        np.minimum.at(least, edge, label[:, None])
        spread = least[edge].min(axis=1)
        if np.array_equal(spread, label):
            return faces[label == np.bincount(label).argmax()]
        label = spread[spread]


def smooth_rim(faces: Int[ndarray, "m 3"], values: Float[ndarray, "n c"]) -> Float[ndarray, "n c"]:
    """Move what every vertex of the rim holds half way to the mean of its neighbours along the rim, in rounds."""
    rim = _edges(faces)[_open_edges(faces)]
    neighbours = np.bincount(rim.ravel(), minlength=len(values))[:, None]
    for _ in range(RIM_ROUNDS):
        total = np.zeros_like(values)
        np.add.at(total, rim, values[rim[:, ::-1]])
        values = np.where(neighbours > 0, (values + total / neighbours.clip(min=1)) / 2, values)
    return values


def vertex_normals(vertices: Float[ndarray, "n 3"], faces: Int[ndarray, "m 3"]) -> Float[ndarray, "n 3"]:
    """The mean of the normals of the triangles about each vertex, weighted by area; (0, 0, 1) where they cancel."""
    a, b, c = vertices[faces].swapaxes(0, 1)
    total = np.zeros_like(vertices)
    np.add.at(total, faces, np.cross(b - a, c - a)[:, None])
    length = np.linalg.norm(total, axis=1, keepdims=True)
    return np.where(length > 0, total / np.where(length > 0, length, 1), (0.0, 0.0, 1.0))


def _edges(faces: Int[ndarray, "m 3"]) -> Int[ndarray, "m 3 2"]:
    return np.stack((faces, np.roll(faces, -1, axis=1)), axis=-1)


def _edge_ids(faces: Int[ndarray, "m 3"]) -> tuple[Int[ndarray, "m 3"], Int[ndarray, " e"]]:
    """A number for each triangle's edges, the same where two share one, and how many triangles share each."""
    _, which, counts = np.unique(
        np.sort(_edges(faces).reshape(-1, 2), axis=1), axis=0, return_inverse=True, return_counts=True
    )
    return which.reshape(-1, 3), counts


def _open_edges(faces: Int[ndarray, "m 3"]) -> Bool[ndarray, "m 3"]:
    """Which of each triangle's edges no other triangle shares."""
    which, counts = _edge_ids(faces)
    return counts[which] == 1


def to_bytes(image: Float[Tensor, "3 h w"]) -> UInt8[ndarray, "h w 3"]:
    """An image in [-1, 1] as 8-bit RGB."""
    return ((image.clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0).cpu().numpy()


def camera_pose(factors: Factors, camera: Camera) -> Float[ndarray, "4 4"]:
    """The matrix that carries mesh points to the photo's camera, both in OpenGL axes (x right, y up, z back).

    A mesh point p = F (X - c) is seen at R (X - c) + c + t in the inner axes: [F R F | F (c + t)].
    """
    pose = np.eye(4)
    pose[:3, :3] = FLIP[:, None] * rotation(factors.view[None].double())[0].cpu().numpy() * FLIP
    pose[:3, 3] = FLIP * (factors.view[3:].double().cpu().numpy() + np.array((0.0, 0.0, camera.pivot)))
    return pose
