"""Random heads: what is drawn, and what follows from it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from recipes.synface.face_model import FaceModel
from recipes.synface.heads import (
    HAIRS,
    INNER_MOUTH,
    SCLERA,
    Colours,
    Hair,
    Shape,
    Stubble,
    albedo,
    bare_heads,
    draw_colours,
    draw_hair,
    draw_shape,
    hair_cover,
    vertex_normals,
    with_hair,
)
from recipes.synface.markings import LANDMARKS, MOUTH

NEUTRAL = Shape(np.zeros(100), ())
CHIN, FOREHEAD, CROWN = LANDMARKS[8], 2, 9500


@pytest.fixture
def hair() -> Hair:
    return replace(draw_hair(np.random.default_rng(0)), bald=False, long=False)


@pytest.fixture
def colours() -> Colours:
    return replace(draw_colours(np.random.default_rng(0)), stubble=None)


def test_draws_are_what_is_said_of_them(model: FaceModel) -> None:
    rng = np.random.default_rng(5)
    shapes, hairs = [draw_shape(rng, model) for _ in range(400)], [draw_hair(rng) for _ in range(400)]
    colours = [draw_colours(rng) for _ in range(400)]
    assert 0.5 < np.mean([bool(shape.expressions) for shape in shapes]) < 0.7
    assert {len(shape.expressions) for shape in shapes} == {0, 3}
    assert abs(np.std([shape.identity for shape in shapes]) - 0.85) < 0.02
    assert 0.07 < np.mean([hair.bald for hair in hairs]) < 0.17
    assert 0.23 < np.mean([colour.stubble is not None for colour in colours]) < 0.37
    tones = np.array([colour.skin.mean() for colour in colours])
    assert 0.2 < tones.min() < 0.4
    assert 0.7 < tones.max() < 0.95


def test_heads_are_sums_of_offsets(model: FaceModel) -> None:
    identity = np.zeros(100)
    identity[1] = 2
    plain, result = bare_heads(model, [NEUTRAL, Shape(identity, ((2, 0.5),))])
    np.testing.assert_array_equal(plain, model.vertices)
    expected = model.vertices + 2 * model.identities[1] + 0.5 * model.expressions[2]
    np.testing.assert_allclose(result, expected, atol=1e-6)


def test_heads_do_not_depend_on_their_company(model: FaceModel) -> None:
    rng = np.random.default_rng(1)
    shapes = [draw_shape(rng, model) for _ in range(5)]
    alone = np.stack([bare_heads(model, [shape])[0] for shape in shapes])
    np.testing.assert_allclose(bare_heads(model, shapes), alone, atol=1e-12)


def test_hair_grows_on_the_scalp_and_not_on_the_chin(model: FaceModel, hair: Hair) -> None:
    cover = hair_cover(model, hair)
    assert cover[model.markings.scalp].min() == 1
    assert cover[CHIN] == 0
    assert not cover[model.markings.ears].any()
    assert 0 <= cover.min() < cover.max() == 1


def test_long_hair_hangs_down_and_the_bald_have_none(model: FaceModel, hair: Hair) -> None:
    neck = model.markings.back & ~model.markings.scalp
    assert hair_cover(model, hair)[neck].max() == 0
    assert hair_cover(model, replace(hair, long=True))[neck].min() == 1
    assert not hair_cover(model, replace(hair, long=True, bald=True)).any()


def test_hair_lifts_the_surface_off_the_head(model: FaceModel, hair: Hair) -> None:
    cover = hair_cover(model, hair)
    bare = bare_heads(model, [NEUTRAL])[0]
    lifted = with_hair(model, bare, hair, cover)
    moved = np.linalg.norm(lifted - bare, axis=1)
    assert moved[cover == 0].max() == 0
    assert moved[cover == 1].max() <= 3 + 1e-5
    top = model.markings.scalp & (model.vertices[:, 1] > 14)
    assert (lifted[top, 1] > bare[top, 1]).mean() > 0.95


def test_colours_are_where_they_belong(model: FaceModel, hair: Hair, colours: Colours) -> None:
    painted = albedo(model, model.vertices.astype(np.float64), colours, hair_cover(model, hair))
    assert painted.min() >= 0
    assert painted.max() <= 1
    np.testing.assert_allclose(painted[:, MOUTH].T, np.tile(INNER_MOUTH, (2046, 1)), atol=1e-6)
    lips = painted[:, list(LANDMARKS[48:60])].mean(1)
    assert np.abs(lips - colours.lips).max() < 0.15
    scalp = painted[:, model.markings.scalp].mean(1)
    assert np.abs(scalp - colours.hair).max() < 0.05
    assert np.abs(painted[:, CHIN] - colours.skin).max() < 0.15


def test_eyes_have_pupils_irises_and_whites(model: FaceModel, colours: Colours) -> None:
    cover = np.zeros(len(model.vertices), np.float32)
    eye = albedo(model, model.vertices.astype(np.float64), colours, cover)[:, 21451:23021].T
    for colour in ((0.02, 0.02, 0.02), colours.iris, SCLERA):
        assert (np.abs(eye - colour).max(1) < 1e-6).sum() > 50


def test_a_beard_is_of_the_hair_s_colour(model: FaceModel, colours: Colours) -> None:
    cover = np.zeros(len(model.vertices), np.float32)
    bearded = replace(colours, stubble=Stubble(1.0, beard=True, moustache=False), hair=HAIRS[0])
    vertices = model.vertices.astype(np.float64)
    np.testing.assert_allclose(albedo(model, vertices, bearded, cover)[:, CHIN], HAIRS[0] * 0.9, atol=0.1)
    without = replace(bearded, stubble=Stubble(1.0, beard=False, moustache=False))
    np.testing.assert_array_equal(
        albedo(model, vertices, without, cover), albedo(model, vertices, replace(colours, hair=HAIRS[0]), cover)
    )


def test_normals_are_means_weighed_by_area() -> None:
    # Vertex 0 is shared by a triangle that faces z and one, twice as large, that faces x; vertex 5 by none.
    vertices = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 2, 0], [0, 0, 1], [7, 7, 7]], np.float32)
    found = vertex_normals(vertices, np.array([[0, 1, 2], [0, 3, 4]], np.int32))
    expected = [np.array([2, 0, 1]) / 5**0.5, [0, 0, 1], [0, 0, 1], [1, 0, 0], [1, 0, 0], [0, 0, 0]]
    np.testing.assert_allclose(found, np.array(expected), atol=1e-6)
