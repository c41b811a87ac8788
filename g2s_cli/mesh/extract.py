"""The relief as a triangle mesh, in the axes of the world outside: +Y up, the object faces +Z.

The origin is the pivot c and lengths are scene units, so a canonical point X becomes F (X - c) with
F = diag(1, -1, -1).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from torch import Tensor

from g2s_cli.errors import G2SError
from g2s_cli.geometry.camera import Camera, canonical_to_view, rotation_matrix, unproject_points
from g2s_cli.geometry.factors import Factors
from g2s_cli.geometry.rasterizer import grid_faces
from g2s_cli.mesh.refine import CanonicalDepth

FLIP = np.array((1.0, -1.0, -1.0))

# Triangles at the rim that slant further than this are not surface but a curtain between the object and
# whatever the depth map does behind it.
STEEPEST_DEG = 80.0

# Rounds of averaging along the rim: enough to turn the staircase of pixels, which a steep cheek draws out to
# saw teeth, into a line; each moves the rim inwards by a fraction of a pixel.
RIM_ROUNDS = 4


@dataclass(frozen=True)
class Mesh:
    """A relief's surface, counter-clockwise seen from its front.

    vertices: scene units about the pivot. normals: unit, outward, one a vertex. camera: the canonical camera whose
    picture a texture covers.
    """

    vertices: Float[ndarray, "n 3"]
    faces: Int[ndarray, "m 3"]
    normals: Float[ndarray, "n 3"]
    camera: Camera

    @property
    def uv(self) -> Float[ndarray, "n 2"]:
        """Where each vertex lies in the texture: see `texture_coordinates`."""
        return texture_coordinates(self.vertices, self.camera)


def texture_coordinates(vertices: Float[ndarray, "n 3"], camera: Camera) -> Float[ndarray, "n 2"]:
    """Where mesh points lie in the texture: v points up, (0, 0) is its lower left corner.

    That is OBJ's convention; trimesh turns it for glTF. The texture is the canonical camera's picture, so it is laid
    on by projection, whatever was done to the mesh.
    """
    x, y, z = (vertices * FLIP + (0.0, 0.0, camera.pivot)).T
    column, row = (camera.focal * side / z + camera.centre for side in (x, y))
    return np.stack(((column + 0.5) / camera.size, 1 - (row + 0.5) / camera.size), axis=1)


def extract_mesh(relief: CanonicalDepth) -> Mesh:
    """The relief where its mask is at least 0.5.

    Curtains at the rim and all but the largest connected piece are cut away, then the rim is smoothed.
    Raises G2SError if nothing is left.
    """
    camera, (height, width) = relief.camera, relief.depth.shape
    points = unproject_points(relief.depth[None].double(), camera).reshape(-1, 3).cpu().numpy()
    points = (points - (0.0, 0.0, camera.pivot)) * FLIP
    inside = (relief.mask >= 0.5).flatten().cpu().numpy()
    # One corner of three: the rim then lies up to a cell outside the mask's edge, and the surface covers all of it.
    # The grid's triangles turn clockwise as seen from the front; outside, fronts turn counter-clockwise.
    faces = grid_faces(height, width, torch.device("cpu")).numpy()[:, ::-1]
    vertices, faces = keep_largest_component(points, remove_steep_boundary(faces[inside[faces].any(axis=1)], points))
    if len(faces) == 0:
        raise G2SError("The photo's mask leaves no surface to make a mesh of.", "Use a photo that fits the category.")
    return mesh_of(smooth_boundary(faces, vertices), faces, camera)


def mesh_of(vertices: Float[ndarray, "n 3"], faces: Int[ndarray, "m 3"], camera: Camera) -> Mesh:
    """A mesh with its normals."""
    return Mesh(vertices, faces, vertex_normals(vertices, faces), camera)


def keep_largest_component(
    points: Float[ndarray, "n 3"], faces: Int[ndarray, "m 3"]
) -> tuple[Float[ndarray, "v 3"], Int[ndarray, "f 3"]]:
    """The vertices and triangles of the largest piece, whose rim nowhere touches itself."""
    used, faces = np.unique(largest_component(remove_pinches(faces)), return_inverse=True)
    return points[used], faces.reshape(-1, 3)


def transform_mesh(mesh: Mesh, view: Float[Tensor, 6]) -> tuple[Float[Tensor, "1 n 3"], Int[Tensor, "m 3"]]:
    """A mesh as `scene.visibility` wants it: vertices in the frame of a view, and triangles.

    In double precision: at 1024 pixels, single leaves cracks between triangles.
    """
    points = torch.from_numpy(mesh.vertices * FLIP + (0.0, 0.0, mesh.camera.pivot))
    turned = canonical_to_view(points[None, None], view[None].cpu().double(), mesh.camera)[0]
    return turned, torch.from_numpy(np.ascontiguousarray(mesh.faces))


def remove_steep_boundary(faces: Int[ndarray, "m 3"], points: Float[ndarray, "n 3"]) -> Int[ndarray, "k 3"]:
    """Peel steep triangles off the rim, ring by ring, then its teeth; steep ones inside (beside the nose) stay.

    A tooth hangs on one edge alone; smoothing the rim would fold it over.
    """
    a, b, c = points[faces].swapaxes(0, 1)
    normal = np.cross(b - a, c - a)
    steep = normal[:, 2] < np.cos(np.radians(STEEPEST_DEG)) * np.linalg.norm(normal, axis=1)
    while (peel := steep & boundary_edges(faces).any(axis=1)).any():
        faces, steep = faces[~peel], steep[~peel]
    return faces[boundary_edges(faces).sum(axis=1) < 2]


def remove_pinches(faces: Int[ndarray, "m 3"]) -> Int[ndarray, "k 3"]:
    """Take away what meets at a point alone, or by threes at an edge: walls can then stand on the whole rim."""
    while len(faces):
        which, counts = _edge_ids(faces)
        bad = (counts[which] > 2).any(axis=1)
        if not bad.any():
            ends, rims = np.unique(face_edges(faces)[counts[which] == 1], return_counts=True)
            bad = np.isin(faces, ends[rims > 2]).any(axis=1)
        if not bad.any():
            break
        faces = faces[~bad]
    return faces


def largest_component(faces: Int[ndarray, "m 3"]) -> Int[ndarray, "k 3"]:
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


def smooth_boundary(faces: Int[ndarray, "m 3"], values: Float[ndarray, "n c"]) -> Float[ndarray, "n c"]:
    """Move what every vertex of the rim holds half way to the mean of its neighbours along the rim, in rounds."""
    rim = face_edges(faces)[boundary_edges(faces)]
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


def face_edges(faces: Int[ndarray, "m 3"]) -> Int[ndarray, "m 3 2"]:
    """Each triangle's edges, in its own direction."""
    return np.stack((faces, np.roll(faces, -1, axis=1)), axis=-1)


def _edge_ids(faces: Int[ndarray, "m 3"]) -> tuple[Int[ndarray, "m 3"], Int[ndarray, " e"]]:
    """A number for each triangle's edges, the same where two share one, and how many triangles share each."""
    low, high = np.sort(face_edges(faces).reshape(-1, 2), axis=1).T.astype(np.int64)
    _, which, counts = np.unique(low * (high.max(initial=0) + 1) + high, return_inverse=True, return_counts=True)
    return which.reshape(-1, 3), counts


def boundary_edges(faces: Int[ndarray, "m 3"]) -> Bool[ndarray, "m 3"]:
    """Which of each triangle's edges no other triangle shares."""
    which, counts = _edge_ids(faces)
    return counts[which] == 1


def camera_pose(factors: Factors, camera: Camera) -> Float[ndarray, "4 4"]:
    """The matrix that carries mesh points to the photo's camera, both in OpenGL axes (x right, y up, z back).

    A mesh point p = F (X - c) is seen at R (X - c) + c + t in the inner axes: [F R F | F (c + t)].
    """
    pose = np.eye(4)
    pose[:3, :3] = FLIP[:, None] * rotation_matrix(factors.view[None].double())[0].cpu().numpy() * FLIP
    pose[:3, 3] = FLIP * (factors.view[3:].double().cpu().numpy() + np.array((0.0, 0.0, camera.pivot)))
    return pose
