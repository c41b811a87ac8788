"""Synthetic pairs of image and depth: looks of portraits on shapes of the face model, in new views and lights."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float32, Float64, UInt8
from PIL import Image
from scipy.ndimage import binary_dilation, binary_erosion

from g2s_cli.geometry.camera import Camera
from g2s_cli.geometry.rasterizer import VIEW_FAR, rasterize
from g2s_cli.training.pair_file import PairArray, encode_pair_depth, pair_type
from recipes.portrait.expressions import NAMES, draw_expressive
from recipes.portrait.fitting import Fits
from recipes.synface.face_model import FaceModel
from recipes.synface.heads import Albedo, Shape, bare_heads, hair_cover, vertex_normals, with_hair
from recipes.synface.render import (
    CENTRE_CM,
    TO_CAMERA,
    Light,
    Pose,
    Posed,
    Scene,
    draw_scene,
    picture,
    posed,
)

# Shares of pairs: painted heads instead of portraits' looks; a look near its own pose; on its own photo; in flat light.
PAINTED, OWN_POSE, ON_PHOTO, FLAT = 0.3, 0.4, 0.5, 0.3
OTHER_FACE, IDENTITY_OFFSET = 0.3, 0.7
EXPRESSION_SHARE, EXPRESSION_OFFSET, OTHER_EXPRESSIONS = (0.75, 1.2), 0.12, 3
YAW_DEG, PITCH_DEG, ROLL_DEG = (20.0, 45.0), (12.0, 25.0), 3.0  # standard deviation and greatest angle
JAW_OPEN, OPENED = NAMES["jawOpen"][0], 0.2  # share of looks whose mouth is opened
HAIR_CM, BALD = (0.1, 2.6), 0.3
FLAT_LIGHT = Light((0.0, 0.0), ambient=0.9, diffuse=0.1, shine=0.0)
GREY, BLURRED, COMPRESSED, MASK_CHANGED = 0.3, 0.5, 0.5, 0.4


@dataclass(frozen=True)
class Looks:
    """Portraits as crops, and their colours on the face model: arrays of the same order as the fits."""

    images: UInt8[np.ndarray, "n s s 3"]
    mattes: UInt8[np.ndarray, "n s s"]
    albedo: UInt8[np.ndarray, "n 3 v"]


@dataclass(frozen=True)
class Draft:
    """All that is random about a pair, and where its remaining draws come from.

    look: whose colours the head has; None: painted ones. on_photo: the head stands before that portrait.
    """

    scene: Scene
    look: int | None
    on_photo: bool
    rng: np.random.Generator


def draft(model: FaceModel, fits: Fits, seed: int) -> Draft:
    """The draft of a seed."""
    rng = np.random.default_rng(seed)
    scene = draw_scene(model, seed)
    base = fits.pose(int(rng.integers(len(fits.files))))
    if rng.random() < PAINTED:
        shape = replace(scene.shape, expressions=draw_expressive(rng))
        return Draft(replace(scene, shape=shape, pose=draw_pose(rng, base)), None, False, rng)
    look, own = int(rng.integers(len(fits.files))), rng.random() < OWN_POSE
    scene = replace(
        scene,
        shape=draw_shape(rng, model, fits, look),
        pose=near_pose(rng, fits.pose(look)) if own else draw_pose(rng, base),
        hair=replace(scene.hair, volume_cm=rng.uniform(*HAIR_CM), bald=rng.random() < BALD),
        light=FLAT_LIGHT if rng.random() < FLAT else scene.light,
    )
    return Draft(scene, look, own and rng.random() < ON_PHOTO, rng)


def draw_pairs(model: FaceModel, fits: Fits, looks: Looks, seeds: Sequence[int], size: int) -> PairArray:
    """The pairs of seeds."""
    drafts = [draft(model, fits, seed) for seed in seeds]
    heads = bare_heads(model, [each.scene.shape for each in drafts])
    pairs = np.zeros(len(seeds), pair_type(size))
    for place, (each, bare) in enumerate(zip(drafts, heads, strict=True)):
        pairs[place] = _pair(model, each, bare, looks, size)
    return pairs


def _pair(
    model: FaceModel, drawn: Draft, bare: Float64[np.ndarray, "v 3"], looks: Looks, size: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Image, 0 outside its mask; mask; encoded depth."""
    scene, look = drawn.scene, drawn.look
    if look is None:
        head = posed(model, scene, bare)
    else:
        head = _portrait(model, bare, scene, looks.albedo[look] / np.float32(255))
    image, depth = picture(model, head, scene, size), head_depth(model, head, size)
    mask = depth < VIEW_FAR
    if drawn.on_photo and look is not None:
        image, mask = _on_photo(image, mask, looks.images[look], looks.mattes[look])
    image, mask = _as_photo(drawn.rng, image), _changed(drawn.rng, mask)
    return image * mask[..., None], mask, encode_pair_depth(depth)


def head_depth(model: FaceModel, head: Posed, size: int) -> Float32[np.ndarray, "s s"]:
    """Depth at the centres of pixels."""
    vertices, triangles = head.mesh(model)
    depth = rasterize(vertices[None], triangles, Camera(size))[1][0].numpy()
    return np.where(np.isfinite(depth), depth, np.float32(VIEW_FAR))


def draw_shape(rng: np.random.Generator, model: FaceModel, fits: Fits, look: int) -> Shape:
    """A shape for a look: its own, changed, or another face's; with about the look's expression."""
    fitted = fits.shape(look, model)
    if rng.random() < OTHER_FACE:
        identity = rng.normal(size=len(fitted.identity)) * 0.85
    else:
        identity = fitted.identity + rng.normal(size=len(fitted.identity)) * IDENTITY_OFFSET * rng.random()
    share = rng.uniform(*EXPRESSION_SHARE)
    strengths = {number: share * strength for number, strength in fitted.expressions}
    if rng.random() < OPENED:
        strengths[JAW_OPEN] = rng.uniform(0.2, 1.0)
    for number in rng.choice(len(model.expressions), OTHER_EXPRESSIONS, replace=False):
        strengths[int(number)] = strengths.get(int(number), 0.0) + EXPRESSION_OFFSET * rng.normal()
    return Shape(identity, tuple((number, float(np.clip(each, -0.1, 1.2))) for number, each in strengths.items()))


def draw_pose(rng: np.random.Generator, base: Pose) -> Pose:
    """A random view, with scale and shift of a portrait's crop."""
    yaw, pitch = (math.radians(np.clip(rng.normal() * spread, -most, most)) for spread, most in (YAW_DEG, PITCH_DEG))
    return replace(base, yaw_rad=yaw, pitch_rad=pitch, roll_rad=math.radians(ROLL_DEG * rng.normal()))


def near_pose(rng: np.random.Generator, own: Pose) -> Pose:
    """A view near a portrait's own."""
    yaw, pitch, roll = (math.radians(spread * rng.normal()) for spread in (8.0, 4.0, 2.0))
    return replace(own, yaw_rad=own.yaw_rad + yaw, pitch_rad=own.pitch_rad + pitch, roll_rad=own.roll_rad + roll)


def stand(head: Float64[np.ndarray, "v 3"], pose: Pose) -> Float64[np.ndarray, "v 3"]:
    """A head in cm before the camera."""
    turn = TO_CAMERA @ pose.rotation.T * pose.scale
    return head @ turn + ([*pose.shift, 1.0] - CENTRE_CM @ turn)


def _portrait(model: FaceModel, bare: Float64[np.ndarray, "v 3"], scene: Scene, albedo: Albedo) -> Posed:
    vertices = stand(with_hair(model, bare, scene.hair, hair_cover(model, scene.hair)), scene.pose)
    return Posed(vertices, vertex_normals(vertices.astype(np.float32), model.triangles), albedo)


def _on_photo(
    image: UInt8[np.ndarray, "s s 3"],
    mask: Bool[np.ndarray, "s s"],
    photo: UInt8[np.ndarray, "t t 3"],
    matte: UInt8[np.ndarray, "t t"],
) -> tuple[UInt8[np.ndarray, "s s 3"], Bool[np.ndarray, "s s"]]:
    """The head before its portrait: hair and clothes around it are of the mask, without depth."""
    size = (len(image), len(image))
    around = np.array(Image.fromarray(photo).resize(size, Image.Resampling.BOX))
    person = np.array(Image.fromarray(matte).resize(size, Image.Resampling.BOX)) > 127
    return np.where(mask[..., None], image, around), mask | person


def _as_photo(rng: np.random.Generator, image: UInt8[np.ndarray, "s s 3"]) -> UInt8[np.ndarray, "s s 3"]:
    """Blur, contrast, loss of colour and compression, as old and new photos have them."""
    picture, size = Image.fromarray(image), len(image)
    if rng.random() < BLURRED:
        small = int(size * rng.uniform(0.55, 0.95))
        picture = picture.resize((small, small), Image.Resampling.BICUBIC).resize(
            (size, size), Image.Resampling.BICUBIC
        )
    values = np.asarray(picture, np.float32) / 255
    if rng.random() < GREY:
        values = np.repeat(values @ np.array([[0.3], [0.59], [0.11]], np.float32), 3, axis=2)
        values = values * np.float32(1 + 0.05 * rng.normal(size=3) * (rng.random() < 0.3))
    gain, gamma = math.exp(0.15 * rng.normal()), math.exp(0.15 * rng.normal())
    values = np.clip(values * gain, 0, 1) ** gamma
    picture = Image.fromarray((values * 255 + 0.5).astype(np.uint8))
    if rng.random() < COMPRESSED:
        with io.BytesIO() as file:
            picture.save(file, "jpeg", quality=int(rng.integers(35, 92)))
            picture = Image.open(file).convert("RGB")
    return np.asarray(picture)


def _changed(rng: np.random.Generator, mask: Bool[np.ndarray, "s s"]) -> Bool[np.ndarray, "s s"]:
    """A mask a pixel (of 64) wider or narrower, sometimes."""
    if rng.random() >= MASK_CHANGED:
        return mask
    change = binary_dilation if rng.random() < 0.4 else binary_erosion
    return change(mask, iterations=max(1, len(mask) // 64))
