"""Results inside their photo: what changes, what must not, and that it lies where the object is."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import interpolate

from g2s_cli.geometry.placement import Placement
from g2s_cli.geometry.shading import position_from_light
from g2s_cli.mesh.silhouette import refine_mask
from g2s_cli.photo.crop import cut
from g2s_cli.result import paste_back as in_place
from g2s_cli.result.paste_back import Inside, inpaint
from g2s_cli.result.schema import Result
from g2s_cli.result.surface import soft_mask

TILTED = Placement(150.0, 110.0, 96.0, math.radians(20))


@pytest.fixture
def inside(result: Result) -> Result:
    """The made-up result as if its photo were a tilted part of a larger, noisy picture."""
    noise = np.random.default_rng(0).integers(90, 110, (240, 300, 3), dtype=np.uint8)
    y, x = np.mgrid[:240, :300]
    shares = torch.from_numpy(TILTED.to_crop(np.stack((x, y), axis=-1).astype(float)) * 2 - 1).float()
    crop = torch.nn.functional.grid_sample(result.photo[None], shares[None], align_corners=False)[0]
    there = (shares.abs() <= 1).all(dim=-1).numpy()
    photo = np.where(there[..., None], ((crop + 1) * 127.5).round().byte().permute(1, 2, 0).numpy(), noise)
    picture = Image.fromarray(photo)
    file = io.BytesIO()
    picture.save(file, format="PNG")
    return replace(result, placement=TILTED, original=file.getvalue(), aligned=np.array(cut(picture, TILTED, 96)))


def pixels(result: Result) -> np.ndarray:
    with Image.open(io.BytesIO(result.original)) as picture:
        return np.asarray(picture.convert("RGB")).astype(int)


def crop_mask(result: Result) -> np.ndarray:
    """Where in the photo the crop lies."""
    y, x = np.mgrid[:240, :300]
    shares = TILTED.to_crop(np.stack((x, y), axis=-1).astype(float))
    return ((shares >= 0) & (shares <= 1)).all(axis=-1)


def test_its_own_light_leaves_the_photo_bit_for_bit(inside: Result) -> None:
    own = TILTED.direction_to_photo(*position_from_light(inside.factors.light, inside.factors.view))
    [same] = in_place.relight(inside, [own])
    assert same.dtype == np.uint8
    assert np.abs(same - pixels(inside)).max() <= 1
    assert (same == pixels(inside)).mean() > 0.999


def test_another_light_changes_the_object_alone(inside: Result) -> None:
    [relit] = in_place.relight(inside, [(1.0, 0.0)])
    changed = np.abs(relit.astype(int) - pixels(inside)).max(axis=-1) > 0
    assert changed.mean() > 0.02
    assert not changed[~crop_mask(inside)].any()


@pytest.mark.parametrize(("x", "y"), [(1.0, 0.0), (0.0, 1.0), (-0.6, 0.8)])
def test_a_light_stands_where_the_whole_photo_shows_it(inside: Result, x: float, y: float) -> None:
    against, towards = (photo.astype(int) for photo in in_place.relight(inside, [(-x, -y), (x, y)]))
    brighter = (towards - against).mean(axis=-1)
    row, column = np.nonzero(brighter)
    from_middle = (column - column.mean()) + 1j * (row.mean() - row)  # up is up
    towards_deg = np.degrees(np.angle((brighter[row, column] * from_middle).sum() / (x + 1j * y)))
    assert abs(towards_deg) < 6 < math.degrees(TILTED.turn_rad) / 2


def test_a_photo_changed_band_by_band_is_the_same(inside: Result, monkeypatch: pytest.MonkeyPatch) -> None:
    [at_once] = in_place.relight(inside, [(0.7, 0.1)])
    monkeypatch.setattr(in_place, "BAND_PX", 7)
    [in_bands] = in_place.relight(inside, [(0.7, 0.1)])
    assert np.array_equal(at_once, in_bands)


def test_light_ends_at_the_photos_own_outline(inside: Result, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not where pixels of the relief do, each of which has several of the photo's."""
    changes: list[torch.Tensor] = []
    monkeypatch.setattr(Inside, "changed", lambda self, change: changes.append(change) or self.photo)
    list(in_place.relight(inside, [(-0.8, 0.0)]))
    outline = refine_mask(inside.mask, Inside.of(inside).crop * 2 - 1)
    assert changes[0][:, outline == 0].abs().max() == 0
    assert changes[0][:, outline == 1].abs().max() > 0.05


def test_detail_that_the_relief_cannot_hold_survives_another_light(inside: Result) -> None:
    stripes = (np.indices((240, 300))[1] // 2 % 2 * 40)[..., None]
    striped = Image.fromarray((pixels(inside) // 2 + 40 + stripes).astype(np.uint8))
    file = io.BytesIO()
    striped.save(file, format="PNG")
    fine = replace(inside, original=file.getvalue(), aligned=np.array(cut(striped, TILTED, 96)))
    [relit] = in_place.relight(fine, [(0.8, 0.3)])
    changed = np.abs(relit.astype(int) - pixels(fine)).max(axis=-1) > 4
    across = np.diff(relit.astype(int).mean(axis=-1), axis=1)[:, 1::2]  # from stripe to stripe
    assert np.abs(across[changed[:, 1:-1:2]]).mean() > 20


def test_no_turn_leaves_the_photo_all_but_as_it_is(inside: Result) -> None:
    [same] = in_place.rotate(inside, [(0.0, 0.0)])
    difference = np.abs(same.astype(int) - pixels(inside))
    assert difference[~crop_mask(inside)].max() == 0
    assert difference.mean() < 0.5


def test_a_turn_carries_the_nose_with_it(inside: Result) -> None:
    def nose(photo: np.ndarray) -> float:
        red = photo[..., 0].astype(int) - photo[..., 1:].max(axis=-1) > 80
        y, x = np.nonzero(red)
        return TILTED.to_crop(np.stack((x, y), axis=-1).astype(float))[:, 0].mean()

    left, right = in_place.rotate(inside, [(math.radians(-12), 0.0), (math.radians(12), 0.0)])
    assert nose(left) + 0.03 < nose(pixels(inside)) < nose(right) - 0.03


def test_what_a_turned_object_uncovers_is_painted_from_around_it(inside: Result) -> None:
    part = Inside.of(inside)
    mask = soft_mask(inside, inside.factors)
    around = part.around(mask)
    covered = interpolate(mask[None, None], size=around.shape[-2:], mode="bilinear")[0, 0] > 0.9
    # Black lies around the made-up object, which itself is bright.
    assert part.crop[:, covered].mean() > 0.3
    assert around[:, covered].mean() < 0.15


@pytest.mark.parametrize("size", [1, 5, 16, 33])
def test_maps_go_on_where_nothing_is_known(size: int) -> None:
    maps = torch.full((2, size, size), 3.0)
    weight = torch.zeros(size, size)
    weight[size // 2, size // 2] = 1
    holes = torch.where(weight > 0, maps, -100.0)
    assert torch.allclose(inpaint(holes, weight), maps, atol=1e-4)


def test_known_maps_stay(make: Callable[..., Result]) -> None:
    maps = torch.rand(3, 20, 20)
    weight = torch.ones(20, 20)
    weight[5:9, 5:9] = 0
    filled = inpaint(maps, weight)
    assert torch.equal(filled[:, weight > 0], maps[:, weight > 0])
    assert filled.min() >= 0
    assert filled.max() <= 1
