"""The recipe of pairs for photos of people: fits, looks and pairs agree with the head that they are made of."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from g2s_cli.geometry.camera import Camera, project_points
from g2s_cli.geometry.rasterizer import VIEW_FAR, VIEW_NEAR
from g2s_cli.training.pair_file import CODES, pair_type

pytest.importorskip("scipy", reason="the recipe needs scipy")

from recipes.portrait import correspondence, expressions, fitting, pairs
from recipes.portrait.correspondence import neutral_places
from recipes.portrait.fitting import Fits, crop_landmarks, fit
from recipes.portrait.pairs import Looks, draw_pairs, head_depth, stand
from recipes.portrait.texture import Surface, texture
from recipes.synface.face_model import FaceModel
from recipes.synface.heads import Shape, bare_heads, vertex_normals
from recipes.synface.render import Posed, draw_scene, posed

VERTICES = np.arange(0, 9000, 61)
SIZE = 32


@pytest.fixture(autouse=True)
def three_expressions(monkeypatch: pytest.MonkeyPatch) -> None:
    """The small face model has three expressions."""
    names = {"smile": (0, 1), "open": (2,)}
    for module in (expressions, fitting):
        monkeypatch.setattr(module, "NAMES", names)
    monkeypatch.setattr(expressions, "MIXTURES", ((1.0, {"smile": 0.8}),))
    monkeypatch.setattr(expressions, "BLINKS", 0.0)
    monkeypatch.setattr(pairs, "JAW_OPEN", 2)


def heads(model: FaceModel, count: int) -> tuple[Fits, list[np.ndarray]]:
    """Random faces before the camera, and their coefficients."""
    rng = np.random.default_rng(0)
    poses = np.array([0.05, 0.1, 0.02, 0.0086, 0.001, -0.002]) + 0.1 * rng.normal(size=(count, 6)) * [
        1,
        1,
        0.3,
        0,
        0,
        0,
    ]
    fits = Fits(
        np.array([f"{number}.jpg" for number in range(count)]),
        0.7 * rng.normal(size=(count, len(model.identities))),
        rng.uniform(0, 0.8, (count, len(model.expressions))),
        poses,
        np.zeros(count),
    )
    bare = bare_heads(model, [fits.shape(number, model) for number in range(count)])
    return fits, [stand(each, fits.pose(number)) for number, each in enumerate(bare)]


def test_landmarks_of_a_head_give_back_its_pose_and_shape(model: FaceModel) -> None:
    truth, placed = heads(model, 6)
    observed = np.stack([head[VERTICES, :2] / head[VERTICES, 2:] for head in placed])
    fits = fit(model, VERTICES, truth.files, observed)
    assert fits.errors.max() < 0.05
    np.testing.assert_allclose(fits.poses, truth.poses, atol=0.03)
    strengths = fits.expressions
    assert (strengths >= 0).all()
    surface = bare_heads(model, [fits.shape(number, model) for number in range(6)])[:, VERTICES]
    true_surface = bare_heads(model, [truth.shape(number, model) for number in range(6)])[:, VERTICES]
    mean_offset = np.abs(true_surface - model.vertices[VERTICES]).mean()
    assert np.abs(surface - true_surface).mean() < 0.5 * mean_offset


def test_landmarks_of_a_photo_in_its_crop() -> None:
    """The middle of the crop is the optical axis, and its sides are 10° apart."""
    points = np.array([[99.5, 49.5, 0], [149.5, 49.5, 0]])
    middle, right = crop_landmarks(points, np.array([99.5, 49.5, 100.0, 0.0]))
    assert middle == pytest.approx([0, 0], abs=1e-9)
    assert right[0] == pytest.approx(np.tan(np.radians(5)), rel=0.02)


def test_landmarks_lie_on_the_skin_that_a_render_shows(model: FaceModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(correspondence, "SIZE", 128)
    scene = draw_scene(model, 1)
    scene = replace(scene, shape=Shape(np.zeros(len(model.identities)), ()), pose=replace(scene.pose, yaw_rad=0.0))
    head = posed(model, scene, bare_heads(model, [scene.shape])[0])
    tip = 1140 if model.vertices[1140, 2] > 10 else int(model.vertices[:9409, 2].argmax())
    pixel = project_points(torch.from_numpy(head.vertices[[tip]]), Camera(128)).numpy()
    place, nowhere = neutral_places(model, head, np.concatenate([pixel, [[2.0, 2.0]]]))
    assert np.linalg.norm(place - model.vertices[tip]) < 0.6  # cm
    assert np.isnan(nowhere).all()


def test_a_look_is_the_albedo_that_the_photo_was_shaded_with(model: FaceModel) -> None:
    """A grey head in a slanted light: its colours come back even, also where the photo does not show it."""
    _, (vertices, *_) = heads(model, 1)
    vertices = vertices.astype(np.float32)
    normals = vertex_normals(vertices, model.triangles)
    depth = head_depth(model, Posed(vertices.astype(float), normals, np.ones((3, len(normals)), np.float32)), 128)
    inside = depth < VIEW_FAR
    slope = np.gradient(np.where(inside, depth, 1.0))[1] * Camera(128).focal
    light = np.clip(0.5 + 0.15 * slope / np.sqrt(1 + slope**2), 0, 1)
    image = (255 * np.where(inside, light, 0.0)[..., None].repeat(3, axis=2)).astype(np.uint8)
    albedo = texture(model, Surface.of(model), vertices, image, (255 * inside).astype(np.uint8))
    skin = albedo[0, :9409]
    assert skin.std() < light[inside].std()
    assert abs(np.median(skin) - 0.5) < 0.08


def test_pairs_depend_on_their_seed_and_have_depth_inside_their_masks(model: FaceModel) -> None:
    fits, _ = heads(model, 2)
    grey = np.full((2, 3, len(model.vertices)), 120, np.uint8)
    looks = Looks(np.full((2, SIZE, SIZE, 3), 90, np.uint8), np.full((2, SIZE, SIZE), 255, np.uint8), grey)
    drawn = draw_pairs(model, fits, looks, range(6), SIZE)
    assert drawn.dtype == pair_type(SIZE)
    again = draw_pairs(model, fits, looks, [4], SIZE)
    assert all((again[name] == drawn[name][4:5]).all() for name in ("image", "mask", "depth"))
    surface = drawn["depth"] < CODES
    depth = VIEW_NEAR + drawn["depth"][surface] / CODES * (VIEW_FAR - VIEW_NEAR)
    assert 0.85 < depth.min() < depth.max() < 1.15
    assert (drawn["image"][~drawn["mask"]] == 0).all()
    assert (surface & drawn["mask"]).sum() > 0.9 * surface.sum()
