"""Images of a result under other lights and from other views."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from g2s_cli.errors import UsageError, WeightsError
from g2s_cli.gan.stylegan2 import Generator
from g2s_cli.geometry.image import to_uint8
from g2s_cli.mesh.options import MeshOptions
from g2s_cli.result import pictures
from g2s_cli.result.pictures import relight, relight_each, rotate, rotate_each
from g2s_cli.result.read import read_result
from g2s_cli.result.schema import Result

OLD_RESULT = Path(__file__).parents[2] / "data" / "result-0.1.0"


@pytest.mark.parametrize(
    ("each", "pair", "renders"),
    [(relight_each, (0.5, 0.0), "relight_texture"), (rotate_each, (0.1, 0.0), "render_mesh")],
)
def test_images_are_rendered_one_by_one(
    result: Result, each: Callable, pair: tuple[float, float], renders: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[object] = []
    original = getattr(pictures, renders)
    monkeypatch.setattr(pictures, renders, lambda *args: calls.append(args) or original(*args))
    images = each(result, [pair] * 100, size=16)
    assert next(images).shape == (3, 16, 16)
    next(images)
    assert len(calls) == 2


@pytest.mark.parametrize("each", [relight_each, rotate_each])
@pytest.mark.parametrize(
    ("pair", "options", "message"),
    [
        ((math.nan, 0.0), {}, "nan"),
        ((0.0, math.inf), {}, "inf"),
        ((0.1, 0.0), {"size": 1}, "--size 1 is out of range"),
        ((0.1, 0.0), {"device": "bogus"}, "no device 'bogus'"),
        ((0.1, 0.0), {"renderer": "gan", "size": 16}, "Use --size with --renderer mesh"),
    ],
)
def test_wrong_arguments_are_refused_before_the_first_image(
    result: Result, each: Callable, pair: tuple[float, float], options: dict, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        each(result, [pair], **options)


def test_turns_are_radians_within_a_right_angle(result: Result) -> None:
    with pytest.raises(UsageError, match=r"There is no turn \(20\.0, 0\.0\)\. Give radians, within ±π/2"):
        rotate(result, [(20.0, 0.0)], size=16)
    with pytest.raises(UsageError, match=r"There is no turn \(0\.0, 1\.6\)\."):
        rotate(result, [(0.0, 1.6)], size=16)
    assert rotate(result, [(math.pi / 2, 0.0)], size=16)[0].shape == (3, 16, 16)


def test_images_of_the_gan_do_not_depend_on_its_batch_size(monkeypatch: pytest.MonkeyPatch) -> None:
    old = read_result(OLD_RESULT)
    result = replace(old, report={"symmetry": old.report["symmetry"]})  # of whatever GAN the category has by now
    turns = [(0.2, 0.0), (-0.2, 0.0), (0.0, 0.1)]
    together = rotate(result, turns, renderer="gan", device="cpu")
    monkeypatch.setattr(Generator, "max_batch", 2)
    in_batches = rotate(result, turns, renderer="gan", device="cpu")
    assert len(in_batches) == 3
    assert all((one - other).abs().max() < 0.02 for one, other in zip(together, in_batches, strict=True))


def test_another_gan_is_refused() -> None:
    old = read_result(OLD_RESULT)
    other = replace(old, report=old.report | {"weights": {"gan": "0" * 64}})
    with pytest.raises(WeightsError, match=r"made with another GAN than .* begins with 000000000000"):
        relight(other, [(0.5, 0.0)], renderer="gan", device="cpu")


def test_turns_are_taken_in_degrees_too(result: Result) -> None:
    [degrees] = rotate(result, turns_deg=[(20.0, -5.0)], size=16)
    [radians] = rotate(result, [(math.radians(20.0), math.radians(-5.0))], size=16)
    torch.testing.assert_close(degrees, radians)
    for both in ({}, {"turns": [(0.1, 0.0)], "turns_deg": [(5.0, 0.0)]}):
        with pytest.raises(UsageError, match="turns or turns_deg"):
            rotate(result, **both)


def test_a_picture_needs_no_tensors(result: Result, tmp_path: Path) -> None:
    [turned] = rotate(result, turns_deg=[(15.0, 0.0)], size=32)
    np.testing.assert_array_equal(np.asarray(result.image(yaw_deg=15.0, size=32)), to_uint8(turned))
    [lit] = relight(result, [(1.0, 0.5)], size=32)
    difference = np.asarray(result.image(light=(1.0, 0.5), size=32)).astype(float) - to_uint8(lit)
    assert np.abs(difference).max() <= 2
    result.save_picture(tmp_path / "face.jpg", yaw_deg=15.0, pitch_deg=5.0, light=(1.0, 0.5), size=32)
    with Image.open(tmp_path / "face.jpg") as picture:
        assert (picture.format, picture.size) == ("JPEG", (32, 32))


def test_the_mesh_of_a_results_pictures_is_made_once(result: Result, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Result] = []
    original = pictures.textured_mesh
    monkeypatch.setattr(pictures, "textured_mesh", lambda *args, **kw: made.append(args[0]) or original(*args, **kw))
    first, second = replace(result), replace(result, mask=result.mask * 0 + 1)
    for one in (first, first):
        one.image(yaw_deg=10.0, size=16)
        one.image(light=(0.5, 0.0), size=16)
        rotate(one, turns_deg=[(5.0, 0.0)], size=16)
        relight(one, [(0.5, 0.0)], size=16)
    assert len(made) == 1
    assert second.image(size=16) != first.image(size=16)
    assert len(made) == 3  # the last result's is kept


@pytest.mark.parametrize("options", [{"yaw_deg": 91.0}, {"light": (math.nan, 0.0)}, {"size": 4}])
def test_an_impossible_picture_is_refused(result: Result, options: dict) -> None:
    with pytest.raises(UsageError):
        result.image(**options)


def test_the_mesh_is_trimeshs_with_its_texture(result: Result) -> None:
    mesh = result.mesh(MeshOptions(mesh_size=24, texture_size=32))
    assert 100 < len(mesh.faces) < 2000
    assert mesh.visual.material.baseColorTexture.size == (32, 32)
    assert (mesh.face_normals @ (0, 0, 1)).mean() > 0.5  # it faces +Z
