"""The triangle mesh of a canonical depth map, in glTF's axes: +Y up, the object faces +Z.

The origin is the pivot c and lengths are scene units: a canonical point X becomes F (X - c) with F = diag(1, -1, -1).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

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

# Triangles at the boundary that slant more than this connect the object to what the depth map has behind it.
MAX_BOUNDARY_SLOPE_DEG = 80.0

# Rounds of averaging along the boundary: enough to smooth the staircase of pixels, which a steep cheek draws out to saw
# teeth. Each moves the boundary inwards by a fraction of a pixel.
SMOOTHING_ROUNDS = 4


@dataclass(frozen=True)
class Back:
    """How a surface is closed behind (`mesh.back`): the view that shows its outline, and the largest height."""

    view: Float[Tensor, 6]
    height: float  # scene units


@dataclass(frozen=True)
class Mesh:
    """A textured surface; its triangles are counter-clockwise seen from its front."""

    vertices: Float[ndarray, "n 3"]  # scene units about the pivot
    faces: Int[ndarray, "m 3"]
    camera: Camera  # the canonical camera whose image the texture covers
    back: Back | None = None  # None: the surface is open behind

    @cached_property
    def closed(self) -> Mesh:
        """The mesh with its back (`back.close_round`)."""
        from g2s_cli.mesh.back import close_round  # noqa: PLC0415 (it imports this module)

        return close_round(self)

    @cached_property
    def rim(self) -> Float[Tensor, "r r"]:
        """Texels that the back takes its colours from (`back.rim_texels`)."""
        from g2s_cli.mesh.back import rim_texels  # noqa: PLC0415 (likewise)

        return rim_texels(self)

    @cached_property
    def normals(self) -> Float[ndarray, "n 3"]:
        """Unit outward normal of each vertex."""
        return vertex_normals(self.vertices, self.faces)

    @property
    def uv(self) -> Float[ndarray, "n 2"]:
        """Texture coordinates of each vertex."""
        return texture_coordinates(self.vertices, self.camera)


def texture_coordinates(vertices: Float[ndarray, "n 3"], camera: Camera) -> Float[ndarray, "n 2"]:
    """UV coordinates of mesh points by projection to the canonical camera.

    v points up and (0, 0) is the lower left corner, as in OBJ; trimesh converts for glTF.
    """
    x, y, z = (vertices * FLIP + (0.0, 0.0, camera.pivot)).T
    column, row = (camera.focal * side / z + camera.centre for side in (x, y))
    return np.stack(((column + 0.5) / camera.size, 1 - (row + 0.5) / camera.size), axis=1)


def extract_mesh(canonical: CanonicalDepth, *, between_pixels: bool = False) -> Mesh:
    """Extract the surface where the mask is at least 0.5: its largest component, with a smooth boundary.

    Args:
        between_pixels: the boundary lies where the mask is 0.5, not at the next pixels outside.

    Raises:
        G2SError: if no surface is left.
    """
    camera, (height, width) = canonical.camera, canonical.depth.shape
    points = unproject_points(canonical.depth[None].double(), camera).reshape(-1, 3).cpu().numpy()
    points = (points - (0.0, 0.0, camera.pivot)) * FLIP
    mask = canonical.mask.flatten().double().cpu().numpy()
    # Grid triangles turn clockwise seen from the front. One corner inside the mask suffices: the boundary then lies up
    # to a cell outside the mask's edge, and the surface covers all of the mask.
    faces = grid_faces(height, width, torch.device("cpu")).numpy()[:, ::-1]
    faces = remove_steep_boundary(faces[(mask >= 0.5)[faces].any(axis=1)], points)
    faces = largest_component(remove_pinches(faces))
    if len(faces) == 0:
        raise G2SError("The photo's mask leaves no surface to make a mesh of.", "Use a photo that fits the category.")
    used, faces = np.unique(faces, return_inverse=True)
    faces, vertices = faces.reshape(-1, 3), points[used]
    on_pixels = smooth_boundary(faces, vertices)
    if not between_pixels:
        return Mesh(on_pixels, faces, camera)
    vertices = smooth_boundary(faces, _move_to_edge(vertices, mask[used], faces))
    while (folded := _face_away(vertices, faces) & (vertices != on_pixels)[faces].any(axis=(1, 2))).any():
        vertices[faces[folded]] = on_pixels[faces[folded]]
    return Mesh(vertices, faces, camera)


def _face_away(vertices: Float[ndarray, "n 3"], faces: Int[ndarray, "m 3"]) -> Bool[ndarray, " m"]:
    """Which triangles turn their back to the front."""
    a, b, c = vertices[faces].swapaxes(0, 1)
    return np.cross(b - a, c - a)[:, 2] <= 0


def _move_to_edge(
    points: Float[ndarray, "n 3"], mask: Float[ndarray, " n"], faces: Int[ndarray, "m 3"]
) -> Float[ndarray, "n 3"]:
    """Points outside a mask moved to the mean of the places where it is 0.5 on their edges to points inside."""
    edges = face_edges(faces).reshape(-1, 2)
    edges = np.concatenate((edges, edges[:, ::-1]))
    inner, outer = edges[(mask[edges[:, 0]] >= 0.5) & (mask[edges[:, 1]] < 0.5)].T
    share = ((mask[inner] - 0.5) / (mask[inner] - mask[outer]))[:, None]
    places = points[inner] * (1 - share) + points[outer] * share
    counts = np.bincount(outer, minlength=len(points))[:, None]
    total = np.stack([np.bincount(outer, column, len(points)) for column in places.T], axis=1)
    return np.where(counts > 0, total / counts.clip(min=1), points)


def keep_largest_component(
    points: Float[ndarray, "n 3"], faces: Int[ndarray, "m 3"]
) -> tuple[Float[ndarray, "v 3"], Int[ndarray, "f 3"]]:
    """Vertices and triangles of the largest component, whose boundary nowhere touches itself."""
    used, faces = np.unique(largest_component(remove_pinches(faces)), return_inverse=True)
    return points[used], faces.reshape(-1, 3)


def transform_mesh(mesh: Mesh, view: Float[Tensor, 6]) -> tuple[Float[Tensor, "1 n 3"], Int[Tensor, "m 3"]]:
    """Vertices in the frame of a view, and triangles, for `rasterize`.

    In double precision: at 1024 pixels, single precision leaves cracks between triangles.
    """
    points = torch.from_numpy(mesh.vertices * FLIP + (0.0, 0.0, mesh.camera.pivot))
    vertices = canonical_to_view(points[None, None], view[None].cpu().double(), mesh.camera)[0]
    return vertices, torch.from_numpy(np.ascontiguousarray(mesh.faces))


def remove_steep_boundary(faces: Int[ndarray, "m 3"], points: Float[ndarray, "n 3"]) -> Int[ndarray, "k 3"]:
    """Remove steep triangles from the boundary, ring by ring, then those that hang on one edge alone.

    Steep triangles inside, as beside the nose, stay. Smoothing the boundary would fold the hanging ones over.
    """
    a, b, c = points[faces].swapaxes(0, 1)
    normal = np.cross(b - a, c - a)
    steep = normal[:, 2] < np.cos(np.radians(MAX_BOUNDARY_SLOPE_DEG)) * np.linalg.norm(normal, axis=1)
    edges, uses = _edge_ids(faces)
    kept = np.ones(len(faces), bool)
    while (outer := kept & steep & (uses[edges] == 1).any(axis=1)).any():
        kept &= ~outer
        uses -= np.bincount(edges[outer].ravel(), minlength=len(uses))
    return faces[kept & ((uses[edges] == 1).sum(axis=1) < 2)]


def remove_pinches(faces: Int[ndarray, "m 3"]) -> Int[ndarray, "k 3"]:
    """Remove non-manifold triangles: those that meet in a point alone, or by threes at an edge."""
    while len(faces):
        which, counts = _edge_ids(faces)
        bad = (counts[which] > 2).any(axis=1)
        if not bad.any():
            ends, uses = np.unique(face_edges(faces)[counts[which] == 1], return_counts=True)
            bad = np.isin(faces, ends[uses > 2]).any(axis=1)
        if not bad.any():
            break
        faces = faces[~bad]
    return faces


def largest_component(faces: Int[ndarray, "m 3"]) -> Int[ndarray, "k 3"]:
    """The triangles of the largest set connected by shared edges."""
    if len(faces) == 0:
        return faces
    edges = _edge_ids(faces)[0].ravel()
    order = np.argsort(edges)
    shared = edges[order[1:]] == edges[order[:-1]]
    one, other = order[1:][shared] // 3, order[:-1][shared] // 3
    label = np.arange(len(faces))
    while (apart := label[one] != label[other]).any():  # hook the roots of neighbours together, then flatten the trees
        ends = np.sort(np.stack((label[one[apart]], label[other[apart]])), axis=0)
        np.minimum.at(label, ends[1], ends[0])
        while (label != label[label]).any():
            label = label[label]
    return faces[label == np.bincount(label).argmax()]


def smooth_boundary(faces: Int[ndarray, "m 3"], values: Float[ndarray, "n c"]) -> Float[ndarray, "n c"]:
    """Average the values of each boundary vertex with the mean of its neighbours along the boundary, in rounds."""
    boundary = face_edges(faces)[boundary_edges(faces)]
    neighbours = np.bincount(boundary.ravel(), minlength=len(values))[:, None]
    for _ in range(SMOOTHING_ROUNDS):
        total = np.zeros_like(values)
        np.add.at(total, boundary, values[boundary[:, ::-1]])
        values = np.where(neighbours > 0, (values + total / neighbours.clip(min=1)) / 2, values)
    return values


def vertex_normals(vertices: Float[ndarray, "n 3"], faces: Int[ndarray, "m 3"]) -> Float[ndarray, "n 3"]:
    """The area-weighted mean normal of the triangles at each vertex; (0, 0, 1) where it is zero."""
    a, b, c = vertices[faces].swapaxes(0, 1)
    total = np.zeros_like(vertices)
    np.add.at(total, faces, np.cross(b - a, c - a)[:, None])
    length = np.linalg.norm(total, axis=1, keepdims=True)
    return np.where(length > 0, total / np.where(length > 0, length, 1), (0.0, 0.0, 1.0))


def face_edges(faces: Int[ndarray, "m 3"]) -> Int[ndarray, "m 3 2"]:
    """The directed edges of each triangle."""
    return np.stack((faces, np.roll(faces, -1, axis=1)), axis=-1)


def boundary_edges(faces: Int[ndarray, "m 3"]) -> Bool[ndarray, "m 3"]:
    """Which edges of each triangle no other triangle shares."""
    which, counts = _edge_ids(faces)
    return counts[which] == 1


def _edge_ids(faces: Int[ndarray, "m 3"]) -> tuple[Int[ndarray, "m 3"], Int[ndarray, " e"]]:
    """An index for each undirected edge of each triangle, and how many triangles share each edge."""
    low, high = np.sort(face_edges(faces).reshape(-1, 2), axis=1).T.astype(np.int64)
    _, which, counts = np.unique(low * (high.max(initial=0) + 1) + high, return_inverse=True, return_counts=True)
    return which.reshape(-1, 3), counts


def camera_pose(factors: Factors, camera: Camera) -> Float[ndarray, "4 4"]:
    """The matrix from mesh points to the photo's camera, both in OpenGL axes (x right, y up, z back).

    A mesh point p = F (X - c) is seen at R (X - c) + c + t in the inner axes: [F R F | F (c + t)].
    """
    pose = np.eye(4)
    pose[:3, :3] = FLIP[:, None] * rotation_matrix(factors.view[None].double())[0].cpu().numpy() * FLIP
    pose[:3, 3] = FLIP * (factors.view[3:].double().cpu().numpy() + np.array((0.0, 0.0, camera.pivot)))
    return pose
