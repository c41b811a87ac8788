"""The look of a portrait on the face model: a colour for every vertex, without the photo's light."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int, UInt8
from scipy.ndimage import map_coordinates
from scipy.sparse import coo_matrix, csr_matrix, diags
from scipy.spatial import cKDTree

from g2s_cli.geometry.camera import Camera, project_points
from g2s_cli.geometry.rasterizer import rasterize
from recipes.synface.face_model import FaceModel
from recipes.synface.heads import GUM, INNER_MOUTH, SCLERA, TOOTH, Albedo, PerVertex, vertex_normals
from recipes.synface.markings import EYEBALLS, FACE, GUMS, HEAD, MOUTH, TEETH

DEPTH_PX = 192  # side of the depth map that decides what a photo shows
HIDDEN = 0.0015  # scene units behind the nearest surface
FACING = 0.25  # least cosine between normal and viewing ray of a vertex whose colour counts
OPAQUE = 0.6  # least opacity of the person
SHADES = (0.55, 1.7)  # range of the light that is divided out, about its mean
FILL_ROUNDS = 12
MIRRORED = np.array([-1, 1, 1], np.float32)
SATURATED = 0.1  # range of the mean skin's channels in a colour photo


@dataclass(frozen=True)
class Surface:
    """What is the same for all heads: each vertex's mirror image and the smoothing of values over the skin."""

    points: Float32[np.ndarray, "v 3"]
    mirror: Int[np.ndarray, " v"]
    neighbours: csr_matrix

    @classmethod
    def of(cls, model: FaceModel) -> Surface:
        """The surface of the face model."""
        mirror = np.arange(len(model.vertices))
        for part in (FACE, HEAD, MOUTH, GUMS, TEETH):
            side = model.vertices[part]
            mirror[part] = part.start + cKDTree(side).query(side * MIRRORED)[1]
        for one, other in (EYEBALLS, EYEBALLS[::-1]):
            mirror[one] = other.start + cKDTree(model.vertices[other]).query(model.vertices[one] * MIRRORED)[1]
        count = len(model.vertices)
        skin = cKDTree(model.vertices[: HEAD.stop])
        near = skin.query(model.vertices[: HEAD.stop], k=7)[1][:, 1:]
        rows = np.repeat(np.arange(HEAD.stop), near.shape[1])
        links = coo_matrix((np.ones(rows.size, np.float32), (rows, near.ravel())), shape=(count, count)).tocsr()
        links = links + links.T
        total = np.maximum(np.asarray(links.sum(axis=1)).ravel(), 1)
        return cls(model.vertices, mirror, diags((1 / total).astype(np.float32)) @ links)


def texture(
    model: FaceModel,
    surface: Surface,
    vertices: Float32[np.ndarray, "v 3"],
    image: UInt8[np.ndarray, "s s 3"],
    matte: UInt8[np.ndarray, "s s"],
) -> Albedo:
    """Colours of a posed head's vertices by a crop; hidden ones have their mirror image's, or their neighbours'."""
    pixels = project_points(torch.from_numpy(vertices), Camera(DEPTH_PX)).numpy()
    normals = vertex_normals(vertices, model.triangles)
    visible = _visible(model, vertices, normals, pixels)
    at = (pixels / (DEPTH_PX - 1) * (len(image) - 1))[:, ::-1].T
    colours = np.stack(
        [map_coordinates(image[..., k].astype(np.float32) / 255, at, order=1, mode="nearest") for k in range(3)]
    )
    opaque = map_coordinates(matte.astype(np.float32) / 255, at, order=1, mode="nearest") > OPAQUE
    known = visible & opaque
    albedo = np.where(known, colours / _light(model, colours, normals, known), 0).astype(np.float32)
    return np.clip(_filled(surface, albedo, known), 0.01, 1)


def _visible(
    model: FaceModel,
    vertices: Float32[np.ndarray, "v 3"],
    normals: Float32[np.ndarray, "v 3"],
    pixels: Float32[np.ndarray, "v 2"],
) -> Bool[np.ndarray, " v"]:
    triangles = torch.from_numpy(model.triangles).long()
    depth = rasterize(torch.from_numpy(vertices)[None], triangles, Camera(DEPTH_PX))[1][0].numpy()
    inside = ((pixels >= 0) & (pixels <= DEPTH_PX - 1)).all(axis=1)
    columns, rows = np.clip(pixels.round().astype(int), 0, DEPTH_PX - 1).T
    facing = np.abs(normals[:, 2]) > FACING
    return inside & facing & (vertices[:, 2] < depth[rows, columns] + HIDDEN)


def _light(
    model: FaceModel, colours: Albedo, normals: Float32[np.ndarray, "v 3"], known: Bool[np.ndarray, " v"]
) -> PerVertex:
    """The light on each vertex relative to its mean: linear in the normal, fitted to the grey of the skin."""
    marks = model.markings
    skin = known & marks.face & (marks.lips < 0.2) & (marks.brow_distance > 0.03) & (marks.eye_rims < 0.2)
    skin &= (model.uv[:, 1] < 0.85) & ~marks.ears
    if skin.sum() < 100:
        return np.ones(len(normals), np.float32)
    outwards = normals * np.where(normals[:, 2:] > 0, -1, 1)
    columns = np.column_stack([np.ones(len(normals)), outwards])
    grey = colours.mean(axis=0)
    weights = np.ones(skin.sum())
    for _ in range(4):  # robust: shadows, beards and glasses are no light
        fitted = np.linalg.lstsq(columns[skin] * weights[:, None], grey[skin] * weights, rcond=None)[0]
        error = grey[skin] - columns[skin] @ fitted
        weights = 1 / (1 + (error / 0.08) ** 2)
    light = columns @ fitted
    return np.clip(light / max(light[skin].mean(), 0.05), *SHADES).astype(np.float32)


def _filled(surface: Surface, albedo: Albedo, known: Bool[np.ndarray, " v"]) -> Albedo:
    """Colours of all vertices: of the mirror image, else smooth; default colours inside the mouth and of eyes."""
    mirrored = known[surface.mirror] & ~known
    values = np.where(mirrored, albedo[:, surface.mirror], albedo)
    fixed = known | mirrored
    skin = values[:, FACE][:, fixed[FACE]].mean(axis=1)
    saturation = min(1.0, float(np.ptp(skin)) / SATURATED)  # grey photos have grey teeth
    for part, colour in ((MOUTH, INNER_MOUTH), (GUMS, GUM), (TEETH, TOOTH), *((ball, SCLERA) for ball in EYEBALLS)):
        blank = np.zeros_like(fixed)
        blank[part] = ~fixed[part]
        values[:, blank] = (saturation * np.array(colour) + (1 - saturation) * np.mean(colour)).astype(np.float32)[
            :, None
        ]
        fixed = fixed | blank
    skin, near = fixed[: HEAD.stop], surface.points[: HEAD.stop]
    index = skin.nonzero()[0][cKDTree(near[skin]).query(near[~skin])[1]]
    values[:, : HEAD.stop][:, ~skin] = values[:, index]
    for _ in range(FILL_ROUNDS):
        values = np.where(fixed, values, (surface.neighbours @ values.T).T)
    return values.astype(np.float32)
