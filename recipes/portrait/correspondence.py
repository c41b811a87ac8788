"""Which vertices of the face model the 468 points of MediaPipe's face mesh lie on.

Renders of the face model go through the same landmark network as the photos, so that its habits (where it puts a lid's
rim or a jaw) are the same on both sides.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float32, Int
from PIL import Image
from scipy.spatial import cKDTree

from g2s_cli.geometry.camera import Camera, project_points
from g2s_cli.geometry.rasterizer import rasterize
from recipes.portrait.expressions import draw_expressive
from recipes.synface.face_model import FaceModel
from recipes.synface.heads import bare_heads
from recipes.synface.markings import FACE
from recipes.synface.render import Posed, Scene, draw_scene, picture, posed

FIRST_SEED = 30_000_000
SIZE = 384
HIDDEN = 0.002  # scene units behind the nearest surface
NEAR_PX = 4.0  # between a landmark and the vertices that vote for it
SPREAD_CM = 0.6  # between renders; landmarks that wander more are left out
LEAST_RENDERS = 8


def scenes(model: FaceModel, count: int) -> Iterator[tuple[int, Scene, Posed]]:
    """Random heads of small yaw with expressions, the same in every call."""
    for seed in range(FIRST_SEED, FIRST_SEED + count):
        scene = draw_scene(model, seed)
        rng = np.random.default_rng(seed)
        scene = replace(scene, shape=replace(scene.shape, expressions=draw_expressive(rng)))
        yield seed, scene, posed(model, scene, bare_heads(model, [scene.shape])[0])


def write_renders(model: FaceModel, count: int, folder: Path) -> None:
    """PNG files named by their seeds, for the landmark network."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed, scene, head in scenes(model, count):
        Image.fromarray(picture(model, head, scene, SIZE)).save(folder / f"{seed}.png")


def match_landmarks(
    model: FaceModel, landmarks: Path, count: int
) -> tuple[Int[np.ndarray, " k"], Int[np.ndarray, " k"]]:
    """Landmarks that keep their place on the mesh, and the vertex of each."""
    with np.load(landmarks) as file:
        points = dict(zip((int(Path(name).stem) for name in file["files"]), file["points"], strict=True))
    places = [
        neutral_places(model, head, points[seed][:, :2]) for seed, _, head in scenes(model, count) if seed in points
    ]
    stacked = np.stack(places)
    with np.errstate(all="ignore"):
        middle = np.nanmedian(stacked, axis=0)
        spread = np.nanmedian(np.linalg.norm(stacked - middle, axis=2), axis=0)
    usable = (np.isfinite(stacked[..., 0]).sum(axis=0) >= LEAST_RENDERS) & (spread < SPREAD_CM)
    vertices = cKDTree(model.vertices[FACE]).query(middle[usable])[1]
    return usable.nonzero()[0], vertices


def neutral_places(model: FaceModel, head: Posed, landmarks: Float[np.ndarray, "k 2"]) -> Float32[np.ndarray, "k 3"]:
    """Where the landmarks of a render lie on the neutral head, in cm; NaN where no visible skin is near.

    The mean of the nearest visible vertices of the face, so that a landmark that misses the silhouette still counts.
    """
    camera = Camera(SIZE)
    vertices, triangles = head.mesh(model)
    depth = rasterize(vertices[None], triangles, camera)[1][0].numpy()
    skin = vertices[FACE]
    pixels = project_points(skin, camera).numpy()
    columns, rows = np.clip(pixels.round().astype(int), 0, SIZE - 1).T
    visible = skin[:, 2].numpy() < depth[rows, columns] + HIDDEN
    distance, index = cKDTree(pixels[visible]).query(landmarks, k=4)
    nearest = model.vertices[FACE][visible][index]
    weights = 1 / (distance + 0.3)
    place = (nearest * weights[..., None]).sum(axis=1) / weights.sum(axis=1, keepdims=True)
    return np.where(distance[:, :1] < NEAR_PX, place, np.nan).astype(np.float32)
