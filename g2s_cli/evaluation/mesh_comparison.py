"""Compare a result's mesh with a true one: aligned by ICP, distances of the surfaces both ways.

The true mesh may have any scale and place. Like the result's it is upright (+Y) and looks along +Z, within about 30°.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import trimesh
from jaxtyping import Bool, Float
from numpy import ndarray

from g2s_cli.errors import UsageError, import_extra
from g2s_cli.geometry.camera import unproject_points
from g2s_cli.geometry.render import photo_depth, render
from g2s_cli.result.schema import Result

SAMPLES, ICP_SAMPLES = 20_000, 2_000  # points of a surface, for distances and for the alignment
START_SCALES = (0.6, 0.8, 1.0, 1.3)  # times the ratio of the heights: the true mesh may show more or less
ICP_ITERATIONS, MAX_ITERATIONS = 30, 100  # of each start, and of the best one
OUTLIER = 3.0  # a point farther than this many median distances has no weight
F_SCORE_SHARE = 0.05  # of the interocular distance
WORST_SHARE = 0.2  # of the interocular distance: the reddest colour


@dataclass(frozen=True)
class Similarity:
    """x → scale · rotation x + translation."""

    scale: float
    rotation: Float[ndarray, "3 3"]
    translation: Float[ndarray, 3]

    def __call__(self, points: Float[ndarray, "n 3"]) -> Float[ndarray, "n 3"]:
        """The points, moved."""
        return self.scale * points @ self.rotation.T + self.translation


@dataclass(frozen=True)
class MeshComparison:
    """Distances of two aligned surfaces, in percent of the interocular distance.

    accuracy: mean distance of the result's points to the true surface.
    completeness: mean distance of true points to the result, for those that it covers.
    f_score: harmonic mean of the shares of both kinds of points that lie within `F_SCORE_SHARE`.
    """

    accuracy: float
    completeness: float
    f_score: float

    @property
    def chamfer(self) -> float:
        """The mean of accuracy and completeness."""
        return (self.accuracy + self.completeness) / 2


class Surface:
    """Finds the closest points of a mesh. Raises G2SError if open3d is not installed."""

    def __init__(self, mesh: trimesh.Trimesh) -> None:
        self.mesh, self._open3d = mesh, import_extra("open3d", "g2s compare-mesh")
        self._scene = self._open3d.t.geometry.RaycastingScene()
        self._scene.add_triangles(self._tensor(mesh.vertices), self._tensor(mesh.faces, np.uint32))
        _, inverse, counts = np.unique(mesh.edges_sorted, axis=0, return_inverse=True, return_counts=True)
        self._at_boundary = (counts[inverse.ravel()] == 1).reshape(-1, 3).any(axis=1)

    def closest(
        self, points: Float[ndarray, "n 3"]
    ) -> tuple[Float[ndarray, "n 3"], Float[ndarray, "n 3"], Bool[ndarray, " n"]]:
        """The closest surface points, their normals, and whether they lie in triangles at the mesh's boundary."""
        answer = self._scene.compute_closest_points(self._tensor(points))
        triangles = answer["primitive_ids"].numpy()
        normals = self.mesh.face_normals[triangles]
        return answer["points"].numpy().astype(float), normals, self._at_boundary[triangles]

    def _tensor(self, values: Any, dtype: Any = np.float32) -> Any:
        return self._open3d.core.Tensor(np.ascontiguousarray(values, dtype=dtype))


def read_mesh(path: Path) -> trimesh.Trimesh:
    """A triangle mesh of a PLY, OBJ, GLB or STL file. Raises UsageError."""
    if not path.is_file():
        raise UsageError(f"There is no file {path}.", "Check the path.")
    try:
        mesh = trimesh.load(path, force="mesh")
    except Exception as error:  # trimesh's readers raise anything on damaged files
        raise UsageError(f"{path} cannot be read as a mesh: {error}.", "Give a PLY, OBJ, GLB or STL file.") from error
    if not isinstance(mesh, trimesh.Trimesh) or not len(mesh.faces):
        raise UsageError(f"{path} has no triangles.", "Give a mesh, no point cloud.")
    mesh.merge_vertices(merge_tex=True, merge_norm=True)
    return mesh


def eye_distance(result: Result) -> float | None:
    """The distance of the eyes on a result's surface, in scene units; None if the run detected no face there."""
    alignment, camera = result.report.get("alignment", {}), result.camera
    faces, index = alignment.get("faces", []), (alignment.get("face") or 1) - 1
    if index >= len(faces):
        return None
    crop = result.placement.to_crop(np.array(faces[index]["points_px"][:2]))
    pixels = ((crop - 0.5) / result.frame_share + 0.5) * camera.size - 0.5
    columns, rows = pixels.round().astype(int).clip(0, camera.size - 1).T
    depth = photo_depth(render(result.factors, camera), result.factors, result.mask, camera)
    left, right = unproject_points(depth[None], camera)[0, rows, columns]
    distance = (left - right).norm().item()
    return None if math.isnan(distance) else distance


def align(result: trimesh.Trimesh, truth: trimesh.Trimesh) -> Similarity:
    """The similarity that carries a result's mesh to the true one: point-to-plane ICP with scale, of several starts.

    Raises G2SError if open3d is not installed, or if no start converges.
    """
    points, surface = _sample(result, ICP_SAMPLES), Surface(truth)
    height = np.ptp(truth.vertices[:, 1]) / np.ptp(result.vertices[:, 1])
    starts = [_start(result, truth, scale * height) for scale in START_SCALES]
    ends = [_icp(points, surface, start, ICP_ITERATIONS) for start in starts]
    best = min(ends, key=lambda end: _residual(points, surface, end))
    return _icp(points, surface, best, MAX_ITERATIONS)


def compare(
    result: trimesh.Trimesh, truth: trimesh.Trimesh, interocular: float
) -> tuple[MeshComparison, Float[ndarray, " v"]]:
    """Compare aligned meshes.

    Args:
        result: the result's mesh, aligned.
        truth: the true mesh.
        interocular: the distance of the eyes, in the units of the true mesh.

    Returns:
        The comparison, and the signed distance of each vertex of the result, in percent: positive is outside.
    """
    there, back = _sample(result), _sample(truth)
    accuracy = _distance(there, Surface(truth).closest(there)[0]) / interocular
    nearest, _, at_boundary = Surface(result).closest(back)
    completeness = _distance(back, nearest)[~at_boundary] / interocular
    shares = [float((one <= F_SCORE_SHARE).mean()) if len(one) else 0.0 for one in (accuracy, completeness)]
    f_score = 2 * shares[0] * shares[1] / max(sum(shares), 1e-9)
    nearest, normals, _ = Surface(truth).closest(result.vertices)
    offset = np.asarray(result.vertices) - nearest
    signed = 100 * np.copysign(np.linalg.norm(offset, axis=1), (offset * normals).sum(axis=1)) / interocular
    return MeshComparison(100 * accuracy.mean(), 100 * completeness.mean(), f_score), signed


def error_colours(signed: Float[ndarray, " v"]) -> Float[ndarray, "v 3"]:
    """Colours in [0, 1] of signed distances in percent: red is outside the true surface, blue inside, white on it."""
    share = np.clip(signed / (100 * WORST_SHARE), -1, 1)
    return np.stack((1 - np.clip(-share, 0, 1), 1 - abs(share), 1 - np.clip(share, 0, 1)), axis=1)


def _sample(mesh: trimesh.Trimesh, count: int = SAMPLES) -> Float[ndarray, "n 3"]:
    return np.asarray(trimesh.sample.sample_surface(mesh, count, seed=0)[0])


def _distance(points: Float[ndarray, "n 3"], others: Float[ndarray, "n 3"]) -> Float[ndarray, " n"]:
    return np.linalg.norm(points - others, axis=1)


def _start(result: trimesh.Trimesh, truth: trimesh.Trimesh, scale: float) -> Similarity:
    """The foremost points of both meshes, such as the tips of noses, on each other."""
    ours, theirs = (np.asarray(mesh.vertices)[np.argmax(mesh.vertices[:, 2])] for mesh in (result, truth))
    return Similarity(scale, np.eye(3), theirs - scale * ours)


def _icp(points: Float[ndarray, "n 3"], surface: Surface, start: Similarity, iterations: int) -> Similarity:
    """Point-to-plane ICP (Chen and Medioni 1992), linear in rotation, translation and the logarithm of the scale."""
    similarity = start
    for _ in range(iterations):
        moved = similarity(points)
        nearest, normals, at_boundary = surface.closest(moved)
        distance = _distance(moved, nearest)
        kept = ~at_boundary & (distance <= OUTLIER * np.median(distance))
        centre = moved.mean(axis=0)
        arm, normal = (moved - centre)[kept], normals[kept]
        matrix = np.column_stack((np.cross(arm, normal), normal, (arm * normal).sum(axis=1)))
        offset = ((nearest - moved)[kept] * normal).sum(axis=1)
        turn, shift, growth = np.split(np.linalg.lstsq(matrix, offset, rcond=None)[0], (3, 6))
        step = Similarity(float(np.exp(growth[0])), _rotation(turn), np.zeros(3))
        similarity = Similarity(
            similarity.scale * step.scale,
            step.rotation @ similarity.rotation,
            step((similarity.translation - centre)[None])[0] + centre + shift,
        )
    return similarity


def _rotation(vector: Float[ndarray, 3]) -> Float[ndarray, "3 3"]:
    """The rotation about a vector by its length."""
    angle = float(np.linalg.norm(vector))
    return trimesh.transformations.rotation_matrix(angle, vector)[:3, :3] if angle > 0 else np.eye(3)


def _residual(points: Float[ndarray, "n 3"], surface: Surface, similarity: Similarity) -> float:
    """The mean distance of aligned points, over the scale: a shrunk mesh lies near any surface."""
    moved = similarity(points)
    return float(_distance(moved, surface.closest(moved)[0]).mean() / similarity.scale)
