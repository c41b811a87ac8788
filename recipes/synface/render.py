"""A picture of a random head, with its exact depth: pose, light, shading, background.

The camera is g2s's (`g2s_cli.geometry.camera`), the head about 1 away from it. Yaw and pitch are angles about its axes:
the opposite of what people call so.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Float64, Int, UInt8

from g2s_cli.geometry.camera import Camera, rotation_matrix
from g2s_cli.geometry.rasterizer import interpolate, rasterize
from recipes.synface.face_model import FaceModel
from recipes.synface.heads import (
    Colours,
    Hair,
    Shape,
    albedo,
    bare_heads,
    draw_colours,
    draw_hair,
    draw_shape,
    hair_cover,
    vertex_normals,
    with_hair,
)
from recipes.synface.waves import Waves, draw_waves

FAR = np.float32(Camera.far)  # the depth of the background
CENTRE_CM = np.array([0.0, 0.2, 2.5])  # what a head turns about
TO_CAMERA = np.diag([1.0, -1.0, -1.0])  # from the model's axes to the camera's


@dataclass(frozen=True)
class Pose:
    """How a head stands: pitched, then yawed, then rolled; scene units a cm; and its shift in scene units."""

    yaw_rad: float
    pitch_rad: float
    roll_rad: float
    scale: float
    shift: tuple[float, float]

    @property
    def rotation(self) -> Float64[np.ndarray, "3 3"]:
        """The turn in the camera's axes."""
        view = torch.tensor([[self.pitch_rad, self.yaw_rad, self.roll_rad, 0, 0, 0]], dtype=torch.float64)
        return rotation_matrix(view)[0].numpy()


@dataclass(frozen=True)
class Light:
    """A far light, (x, y) of its direction with z = -1 (x right, y down), ambient and diffuse strength, and shine."""

    xy: tuple[float, float]
    ambient: float
    diffuse: float
    shine: float


@dataclass(frozen=True)
class Background:
    """A gradient between two colours, with a little noise. ramp: its slope to the right, downwards, and its start."""

    colours: Float[np.ndarray, "2 3"]
    ramp: tuple[float, float, float]
    noise: Waves


@dataclass(frozen=True)
class Scene:
    """All that is random about a picture."""

    shape: Shape
    hair: Hair
    pose: Pose
    colours: Colours
    light: Light
    background: Background


@dataclass(frozen=True)
class Rendered:
    """A picture, its depth in scene units (1.1 where there is no head), where the head is, and what made them."""

    image: UInt8[np.ndarray, "h h 3"]
    depth: Float32[np.ndarray, "h h"]
    mask: Bool[np.ndarray, "h h"]
    pose: Pose
    light: Light


@dataclass(frozen=True)
class Posed:
    """A head before the camera: scene units, its surface's unit normals and its colours."""

    vertices: Float64[np.ndarray, "v 3"]
    normals: Float32[np.ndarray, "v 3"]
    albedo: Float32[np.ndarray, "3 v"]

    def mesh(self, model: FaceModel) -> tuple[Float[torch.Tensor, "v 3"], Int[torch.Tensor, "t 3"]]:
        """Its vertices and the model's triangles, as `geometry.rasterizer` takes them."""
        return torch.from_numpy(self.vertices.astype(np.float32)), torch.from_numpy(model.triangles).long()


def draw_scene(model: FaceModel, seed: int) -> Scene:
    """The scene of a seed, the same for every size of picture."""
    rng = np.random.default_rng(seed)
    return Scene(
        draw_shape(rng, model), draw_hair(rng), draw_pose(rng), draw_colours(rng), draw_light(rng), draw_background(rng)
    )


def draw_pose(rng: np.random.Generator) -> Pose:
    """A random pose."""
    return Pose(
        yaw_rad=math.radians(np.clip(rng.normal() * 18, -42, 42)),
        pitch_rad=math.radians(np.clip(rng.normal() * 7, -16, 16)),
        roll_rad=math.radians(rng.normal() * 3),
        scale=0.0086 * math.exp(rng.normal() * 0.03),
        shift=(rng.normal() * 0.003, rng.normal() * 0.003),
    )


def draw_light(rng: np.random.Generator) -> Light:
    """A random light, more often from above."""
    return Light(
        xy=(rng.uniform(-0.9, 0.9), rng.uniform(-0.8, 0.35)),
        ambient=rng.uniform(0.35, 0.65),
        diffuse=rng.uniform(0.35, 0.75),
        shine=rng.uniform(0, 0.10),
    )


def draw_background(rng: np.random.Generator) -> Background:
    """A random background."""
    return Background(
        colours=rng.uniform(0.05, 0.95, (2, 3)),
        ramp=(rng.normal(), rng.normal(), rng.uniform(-0.5, 1)),
        noise=draw_waves(rng, 5, 2, 8.0),
    )


def render(model: FaceModel, seed: int, size: int) -> Rendered:
    """The picture of a seed, `size` pixels wide and high, and its depth at the centres of its pixels."""
    scene = draw_scene(model, seed)
    head = posed(model, scene, bare_heads(model, [scene.shape])[0])
    vertices, triangles = head.mesh(model)
    depth = rasterize(vertices[None], triangles, Camera(size))[1][0].numpy()
    mask = np.isfinite(depth)
    return Rendered(picture(model, head, scene, size), np.where(mask, depth, FAR), mask, scene.pose, scene.light)


def images(model: FaceModel, seeds: Sequence[int], size: int) -> Iterator[UInt8[np.ndarray, "h h 3"]]:
    """The pictures of seeds alone; faster than one by one, in 0.6 MB of memory a seed."""
    scenes = [draw_scene(model, seed) for seed in seeds]
    for scene, bare in zip(scenes, bare_heads(model, [scene.shape for scene in scenes]), strict=True):
        yield picture(model, posed(model, scene, bare), scene, size)


def posed(model: FaceModel, scene: Scene, bare: Float64[np.ndarray, "v 3"]) -> Posed:
    """The scene's head, of which the bare one is given, as it stands before the camera."""
    cover = hair_cover(model, scene.hair)
    head = with_hair(model, bare, scene.hair, cover)
    turn = TO_CAMERA @ scene.pose.rotation.T * scene.pose.scale
    vertices = head @ turn + ([*scene.pose.shift, 1.0] - CENTRE_CM @ turn)
    normals = vertex_normals(vertices.astype(np.float32), model.triangles)
    return Posed(vertices, normals, albedo(model, head, scene.colours, cover))


def picture(model: FaceModel, head: Posed, scene: Scene, size: int) -> UInt8[np.ndarray, "h h 3"]:
    """The head before its background, shaded at twice the size; a pixel is the mean of four.

    The finer camera's field of view ends at the centres of its own outermost pixels, so the picture shows
    1/(2 size) more than the depth does: as the benchmark has it.
    """
    fine = Camera(2 * size)
    vertices, triangles = head.mesh(model)
    shown = rasterize(vertices[None], triangles, fine)[0][0]
    pixels, corners = (shown >= 0).nonzero(), triangles[shown[shown >= 0]]
    surface = torch.from_numpy(np.concatenate([head.albedo.T, head.normals], axis=1))
    seen = interpolate(pixels.flip(1).float(), vertices[corners], surface[corners], fine).T.numpy()
    image = backdrop(scene.background, fine.size)
    image[:, *pixels.T.numpy()] = shaded(seen[:3], seen[3:], scene.light)
    image = np.clip(image, 0, 1, out=image)
    rows = image[:, 0::2] + image[:, 1::2]
    window_mean = (rows[..., 0::2] + rows[..., 1::2]) / 4
    return (window_mean.transpose(1, 2, 0) * 255 + 0.5).astype(np.uint8)


def shaded(
    albedo: Float32[np.ndarray, "3 p"], normals: Float32[np.ndarray, "3 p"], light: Light
) -> Float32[np.ndarray, "3 p"]:
    """Lambert's cosine and Blinn's highlight, of whichever side of the surface the camera sees."""
    towards = np.array([*light.xy, -1.0])
    towards /= np.linalg.norm(towards)
    halfway = towards + np.array([0, 0, -1.0])
    halfway /= np.linalg.norm(halfway)
    length = np.sqrt(np.einsum("cp,cp->p", normals, normals)) + np.float32(1e-9)
    facing = np.where(normals[2] > 0, -1 / length, 1 / length)
    cosine, highlight = np.clip(np.stack([towards, halfway]).astype(np.float32) @ normals * facing, 0, None)
    return albedo * (light.ambient + light.diffuse * cosine) + light.shine * highlight**18


def backdrop(background: Background, size: int) -> Float32[np.ndarray, "3 size size"]:
    """The background, its colours pulled towards grey."""
    ticks = np.arange(size) / size
    right, down, start = background.ramp
    share = np.clip(ticks * right + (ticks * down)[:, None] + start, 0, 1).astype(np.float32)
    noise = np.float32(0.06) * background.noise.on_grid(ticks, ticks)
    colours = 0.4 * background.colours + 0.6 * background.colours.mean(1, keepdims=True)
    first, second = colours.astype(np.float32)[:, :, None, None]
    return first + share * (second - first) + noise
