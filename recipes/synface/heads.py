"""A random head: its shape, its hair and its colours.

What is random is drawn first, into values; the rest follows from them. The order of the draws makes a seed's
picture what it is, so a new one goes to the end of its function, and changes every picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Float64, Int32

from recipes.synface.face_model import FaceModel
from recipes.synface.markings import EYEBALLS, GUMS, MOUTH, TEETH, Markings
from recipes.synface.waves import Waves, draw_waves

Colour = Float[np.ndarray, "3"]  # red, green, blue in [0, 1]
PerVertex = Float32[np.ndarray, " v"]
Albedo = Float32[np.ndarray, "3 v"]

# fmt: off
SKINS = np.array([  # from light to dark; a head's is between two neighbours
    [0.96, 0.80, 0.73], [0.93, 0.73, 0.64], [0.86, 0.64, 0.53],
    [0.72, 0.51, 0.40], [0.54, 0.37, 0.29], [0.40, 0.27, 0.21],
])
HAIRS = np.array([
    [0.06, 0.05, 0.05], [0.14, 0.09, 0.06], [0.28, 0.18, 0.10], [0.50, 0.36, 0.20],
    [0.70, 0.58, 0.38], [0.45, 0.22, 0.10], [0.55, 0.55, 0.56],
])
IRISES = np.array([[0.22, 0.13, 0.07], [0.30, 0.20, 0.10], [0.25, 0.38, 0.50], [0.28, 0.40, 0.25], [0.10, 0.07, 0.05]])
# fmt: on
BLOOD = np.array([1.0, 0.72, 0.70])  # what reddening leaves of a colour
NATURAL_LIPS, LIPSTICK = np.array([0.95, 0.62, 0.60]), np.array([0.62, 0.16, 0.18])
INNER_MOUTH, GUM, TOOTH = (0.25, 0.06, 0.06), (0.5, 0.2, 0.2), (0.85, 0.82, 0.76)
PUPIL, SCLERA = (0.02, 0.02, 0.02), (0.92, 0.90, 0.88)
PUPIL_CM, IRIS_CM = 0.27, 0.62  # radii
NOSTRIL_SHADE = 0.55


@dataclass(frozen=True)
class Shape:
    """Coefficients of the identities, and of some expressions by their numbers."""

    identity: Float[np.ndarray, " i"]
    expressions: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Hair:
    """Where hair grows, in texture coordinates, and how thick it is.

    hairline: v of the hairline's middle; it falls by `droop` towards the sides and wavers by `wavering`.
    sides: |u - 1/2| beyond which, and v above which, the sides of the face have hair. volume_cm: varies by `locks`.
    """

    bald: bool
    long: bool
    hairline: float
    droop: float
    wavering: Waves
    sides: tuple[float, float]
    volume_cm: float
    locks: Waves


@dataclass(frozen=True)
class Stubble:
    """How dense a beard or a moustache or both are."""

    density: float
    beard: bool
    moustache: bool


@dataclass(frozen=True)
class Colours:
    """Colours, and how strongly each part of the face has its own."""

    skin: Colour
    hair: Colour
    iris: Colour
    blotches: tuple[float, Waves]
    pores: tuple[float, Waves]
    red_cheeks: float
    red_nose: float
    eye_shadow: float
    lips: Colour
    lips_strength: float
    brow_width: float
    brow_strength: float
    eye_rims: float
    stubble: Stubble | None
    strands: Waves


def draw_shape(rng: np.random.Generator, model: FaceModel) -> Shape:
    """A random face; three heads of five make a face, mixed of three expressions."""
    identity = rng.normal(size=len(model.identities)) * 0.85
    if rng.random() >= 0.6:
        return Shape(identity, ())
    which = rng.choice(len(model.expressions), 3, replace=False)
    return Shape(identity, tuple(zip(which.tolist(), rng.uniform(0, 0.6, 3).tolist(), strict=True)))


def draw_hair(rng: np.random.Generator) -> Hair:
    """Random hair."""
    return Hair(
        bald=rng.random() < 0.12,
        hairline=rng.uniform(0.86, 0.97),
        droop=1.4 * rng.uniform(0, 1) * rng.uniform(0, 0.35),
        wavering=draw_waves(rng, 4, 2, 14.0),
        sides=(rng.uniform(0.40, 0.47), rng.uniform(0.45, 0.62)),
        long=rng.random() < 0.35,
        volume_cm=rng.uniform(0.1, 1.6),
        locks=draw_waves(rng, 5, 3, 3.0),
    )


def draw_colours(rng: np.random.Generator) -> Colours:
    """Random colours."""
    tone = np.clip(rng.beta(1.2, 1.6) * 5, 0, 4.999)
    lighter = int(tone)
    between = SKINS[lighter] * (1 - tone + lighter) + SKINS[lighter + 1] * (tone - lighter)
    skin = between * rng.uniform(0.95, 1.05) * rng.uniform(0.98, 1.02, 3)
    hair = HAIRS[rng.integers(len(HAIRS))] * rng.uniform(0.8, 1.2)
    iris = IRISES[rng.integers(len(IRISES))] * rng.uniform(0.8, 1.2)
    blotches = (rng.uniform(0.02, 0.08), draw_waves(rng, 8, 2, 10.0))
    pores = (rng.uniform(0, 0.05), draw_waves(rng, 10, 2, 45.0))
    red_cheeks, red_nose, eye_shadow = rng.uniform(0, 0.45), rng.uniform(0, 0.35), rng.uniform(0.0, 0.35)
    lips = skin * NATURAL_LIPS * rng.uniform(0.85, 1.05)
    if rng.random() < 0.35:
        lips = LIPSTICK * rng.uniform(0.7, 1.2)
    return Colours(
        skin=skin,
        hair=hair,
        iris=iris,
        blotches=blotches,
        pores=pores,
        red_cheeks=red_cheeks,
        red_nose=red_nose,
        eye_shadow=eye_shadow,
        lips=lips,
        lips_strength=rng.uniform(0.7, 1),
        brow_width=rng.uniform(0.010, 0.020),
        brow_strength=rng.uniform(0.6, 0.95),
        eye_rims=rng.uniform(0.2, 0.7),
        stubble=_draw_stubble(rng),
        strands=draw_waves(rng, 8, 2, 30.0),
    )


def _draw_stubble(rng: np.random.Generator) -> Stubble | None:
    if rng.random() >= 0.3:
        return None
    return Stubble(rng.uniform(0.2, 0.9), beard=rng.random() < 0.8, moustache=rng.random() < 0.8)


def bare_heads(model: FaceModel, shapes: Sequence[Shape]) -> Float64[np.ndarray, "n v 3"]:
    """Heads without hair, in cm. A product of matrices: thirty heads take as long as six one by one."""
    identities = np.stack([shape.identity for shape in shapes])
    offsets = identities @ model.identities.reshape(len(model.identities), -1)
    heads = model.vertices + offsets.reshape(len(shapes), -1, 3)
    for place, shape in enumerate(shapes):
        for number, strength in shape.expressions:
            heads[place] += strength * model.expressions[number]
    return heads


def hair_cover(model: FaceModel, hair: Hair) -> PerVertex:
    """How much of the skin is under hair, in [0, 1]."""
    marks = model.markings
    if hair.bald:
        return np.zeros(len(model.uv), np.float32)
    u, v = model.uv[:, 0] - np.float32(0.5), model.uv[:, 1]
    hairline = hair.hairline - hair.droop * u**2 + np.float32(0.012) * hair.wavering.at(model.uv)
    top = np.clip((v - hairline) / np.float32(0.015), 0, 1)
    beside, above = hair.sides
    sides = np.clip((np.abs(u) - beside) / 0.02, 0, 1) * (v > above) * (u > -0.5)
    cover = np.where(marks.scalp, 1, np.maximum(top, sides) * (marks.face & ~marks.ears))
    if hair.long:
        cover = np.where(marks.back, 1, cover)
    return cover.astype(np.float32)


def with_hair(
    model: FaceModel, bare: Float64[np.ndarray, "v 3"], hair: Hair, cover: PerVertex
) -> Float64[np.ndarray, "v 3"]:
    """The head with its hair as part of its surface: moved outwards where there is some, in cm."""
    thickness = hair.volume_cm * (1 + np.float32(0.5) * hair.locks.at(model.vertices / 10))
    return bare + vertex_normals(bare.astype(np.float32), model.triangles) * (np.clip(thickness, 0, 3) * cover)[:, None]


def vertex_normals(
    vertices: Float32[np.ndarray, "v 3"], triangles: Int32[np.ndarray, "t 3"]
) -> Float32[np.ndarray, "v 3"]:
    """The area-weighted mean unit normal of the triangles at each vertex; zero where there is none."""
    a, b, c = (vertices[corner] for corner in triangles.T)
    normals = np.repeat(np.cross(b - a, c - a), 3, axis=0)
    sums = np.stack([np.bincount(triangles.ravel(), along, len(vertices)) for along in normals.T], axis=1)
    return (sums / (np.linalg.norm(sums, axis=1, keepdims=True) + 1e-9)).astype(np.float32)


def albedo(model: FaceModel, vertices: Float64[np.ndarray, "v 3"], colours: Colours, cover: PerVertex) -> Albedo:
    """The colour of every vertex, without light, in [0, 1]."""
    marks, uv = model.markings, model.uv
    painted = _skin(marks, uv, colours)
    painted = _mixed(painted, np.clip(marks.lips * colours.lips_strength, 0, 1), colours.lips)
    brows = np.exp(-(((marks.brow_distance / colours.brow_width) ** 2) ** 2)) * colours.brow_strength * marks.face
    painted = _mixed(painted, brows, colours.hair * 0.8)
    painted = _mixed(painted, marks.eye_rims * colours.eye_rims, colours.skin * 0.25)
    if colours.stubble:
        grown = marks.beard * colours.stubble.beard + marks.moustache * colours.stubble.moustache
        painted = _mixed(painted, np.clip(grown, 0, 1) * colours.stubble.density, colours.hair * 0.9)
    strands = 1 + 0.25 * colours.strands.at(uv * np.array([3, 1], np.float32))
    painted = _mixed(painted, cover, colours.hair, strands)
    for part, colour in ((MOUTH, INNER_MOUTH), (GUMS, GUM), (TEETH, TOOTH)):
        painted[:, part] = np.array(colour)[:, None]
    for ball in EYEBALLS:
        painted[:, ball] = _eyeball(vertices[ball], colours.iris)
    return np.clip(painted, 0, 1)


def _skin(marks: Markings, uv: Float32[np.ndarray, "v 2"], colours: Colours) -> Albedo:
    """Uneven skin, redder in places, darker around the eyes and in the nostrils."""
    shade = np.ones(len(uv), np.float32)
    for strength, waves in (colours.blotches, colours.pores):
        shade *= 1 + strength * waves.at(uv)
    shade *= (1 - marks.eye_shadows * colours.eye_shadow) * (1 - marks.nostrils * NOSTRIL_SHADE)
    reddening = marks.cheeks * colours.red_cheeks + marks.nose_tip * colours.red_nose
    tints = [channel * (1 - reddening * (1 - kept)) for channel, kept in zip(colours.skin, BLOOD, strict=True)]
    return (np.stack(tints) * shade).astype(np.float32)


def _mixed(under: Albedo, share: PerVertex, colour: Colour, shade: PerVertex | float = 1.0) -> Albedo:
    """A colour, shaded, laid over what is there."""
    over = colour.astype(np.float32)[:, None] * shade
    return under + share * (over - under)


def _eyeball(vertices: Float64[np.ndarray, "n 3"], iris: Colour) -> Float32[np.ndarray, "3 n"]:
    """Pupil, iris and white by the distance from the foremost point."""
    centre = vertices[vertices[:, 2].argmax()]
    away = np.linalg.norm(vertices[:, :2] - centre[:2], axis=1)
    white = (away >= IRIS_CM) | (vertices[:, 2] <= vertices[:, 2].mean())
    colours = np.where(white, np.array(SCLERA)[:, None], iris[:, None])
    return np.where((away < PUPIL_CM) & ~white, np.array(PUPIL)[:, None], colours).astype(np.float32)
