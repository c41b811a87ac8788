"""Pictures of random heads: the same as those the benchmark was made with, and what pose and light do."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from recipes.synface.face_model import FaceModel
from recipes.synface.heads import bare_heads
from recipes.synface.render import (
    FAR,
    Background,
    Light,
    Pose,
    Scene,
    backdrop,
    draw_scene,
    images,
    picture,
    posed,
    render,
    shaded,
)
from recipes.synface.waves import Waves

GOLDEN = Path(__file__).parents[2] / "data" / "renders.npz"
SEED, SIZE = 10_000_000, 32


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(GOLDEN) as arrays:
        return {name: arrays[name] for name in arrays}


@pytest.fixture(scope="module")
def scene(model: FaceModel) -> Scene:
    return draw_scene(model, SEED)


@pytest.mark.parametrize("place", range(5))
def test_the_pictures_of_the_benchmark_s_own_renderer(
    model: FaceModel, golden: dict[str, np.ndarray], place: int
) -> None:
    wanted = golden["images"][place]
    result = render(model, int(golden["seeds"][place]), len(wanted))
    assert np.abs(result.image.astype(int) - wanted).max() <= 1
    assert (result.image != wanted).mean() < 0.001
    np.testing.assert_allclose(result.depth, golden["depth"][place], rtol=0, atol=1e-6)
    np.testing.assert_array_equal(result.mask, golden["depth"][place] < FAR)
    pose, light = result.pose, result.light
    views = [pose.yaw_rad, pose.pitch_rad, pose.roll_rad, *light.xy, light.ambient, light.diffuse]
    np.testing.assert_allclose(views, golden["views"][place], rtol=1e-12)


def test_many_pictures_are_those_of_one_by_one(model: FaceModel) -> None:
    seeds = range(SEED, SEED + 3)
    for seed, image in zip(seeds, images(model, seeds, SIZE), strict=True):
        assert np.abs(render(model, seed, SIZE).image.astype(int) - image).max() <= 1


def test_a_picture_of_another_size_shows_the_same_scene(model: FaceModel) -> None:
    small, large = render(model, SEED, 24), render(model, SEED, 96)
    window_mean = large.image.reshape(24, 4, 24, 4, 3).mean((1, 3))
    assert np.abs(window_mean - small.image).mean() < 4  # of 255
    assert small.pose == large.pose


def test_depth_is_within_the_camera_s_range(model: FaceModel) -> None:
    result = render(model, SEED, SIZE)
    assert (result.depth[~result.mask] == FAR).all()
    assert 0.9 < result.depth[result.mask].min() < result.depth[result.mask].max() < FAR
    assert 0.3 < result.mask.mean() < 0.9


def test_turns() -> None:
    nose = np.array([0.0, 0.0, -1.0])  # towards the camera
    still = Pose(0.0, 0.0, 0.0, 1.0, (0.0, 0.0))
    np.testing.assert_allclose(replace(still, yaw_rad=math.pi / 2).rotation @ nose, [-1, 0, 0], atol=1e-12)
    np.testing.assert_allclose(replace(still, pitch_rad=math.pi / 2).rotation @ nose, [0, 1, 0], atol=1e-12)
    np.testing.assert_allclose(replace(still, roll_rad=math.pi / 2).rotation @ [1, 0, 0], [0, 1, 0], atol=1e-12)
    turn = Pose(0.3, -0.2, 0.1, 1.0, (0.0, 0.0)).rotation
    np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-12)


def test_light_from_one_side_brightens_it(model: FaceModel, scene: Scene) -> None:
    front = replace(scene.pose, yaw_rad=0.0, roll_rad=0.0, shift=(0.0, 0.0))
    halves = []
    for x in (-0.9, 0.9):
        lit = replace(scene, pose=front, light=Light((x, 0.0), ambient=0.1, diffuse=0.9, shine=0.0))
        head = posed(model, lit, bare_heads(model, [lit.shape])[0])
        middle = picture(model, head, lit, SIZE)[8:24, 8:24].astype(float)
        halves.append(middle[:, :8].mean() - middle[:, 8:].mean())
    assert halves[0] > 20 > -20 > halves[1]


def test_shading_by_hand() -> None:
    # The light is at the camera: seen head-on, from behind, at 60°, and edge-on.
    normals = np.array([[0, 0, -1], [0, 0, 2], [math.sqrt(3), 0, -1], [1, 0, 0]], np.float32).T
    light = Light((0.0, 0.0), ambient=0.5, diffuse=0.25, shine=0.125)
    found = shaded(np.full((3, 4), 0.5, np.float32), normals, light)
    expected = [0.5 * 0.75 + 0.125, 0.5 * 0.75 + 0.125, 0.5 * 0.625 + 0.125 * 0.5**18, 0.25]
    np.testing.assert_allclose(found, np.tile(expected, (3, 1)), atol=1e-6)


def test_a_background_goes_from_colour_to_colour() -> None:
    colours = np.array([[0.2, 0.2, 0.2], [0.8, 0.8, 0.8]])
    quiet = Waves(np.zeros((1, 2)), np.array([math.pi / 2]))  # cos = 0
    found = backdrop(Background(colours, (1.0, 0.0, 0.0), quiet), 8)
    np.testing.assert_allclose(found, np.broadcast_to(0.2 + 0.6 * np.arange(8) / 8, (3, 8, 8)), atol=1e-6)
    grey = backdrop(Background(np.array([[1.0, 0, 0], [0, 0, 0]]), (0.0, 0.0, 0.0), quiet), 8)
    np.testing.assert_allclose(grey[:, 0, 0], [0.6, 0.2, 0.2], atol=1e-6)
