"""Objects pasted back into the photo: what changes, what must not, and where."""

from __future__ import annotations

import io
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import interpolate

from g2s_cli.geometry.placement import Placement
from g2s_cli.geometry.resample import inpaint
from g2s_cli.geometry.shading import position_from_light
from g2s_cli.mesh.silhouette import refine_mask
from g2s_cli.photo.crop import crop_photo
from g2s_cli.result import paste_back
from g2s_cli.result.paste_back import Canvas
from g2s_cli.result.schema import Result
from g2s_cli.result.surface import soft_mask

TILTED = Placement(150.0, 110.0, 96.0, math.radians(20))


@pytest.fixture
def tilted(result: Result) -> Result:
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
    return replace(
        result, placement=TILTED, original=file.getvalue(), aligned=np.array(crop_photo(picture, TILTED, 96))
    )


def pixels(result: Result) -> np.ndarray:
    with Image.open(io.BytesIO(result.original)) as picture:
        return np.asarray(picture.convert("RGB")).astype(int)


def crop_mask(result: Result) -> np.ndarray:
    """Where in the photo the crop lies."""
    y, x = np.mgrid[:240, :300]
    shares = TILTED.to_crop(np.stack((x, y), axis=-1).astype(float))
    return ((shares >= 0) & (shares <= 1)).all(axis=-1)


def test_the_photos_own_light_changes_nothing(tilted: Result) -> None:
    own = TILTED.direction_to_photo(*position_from_light(tilted.factors.light, tilted.factors.view))
    [same] = paste_back.relight(tilted, [own])
    assert same.dtype == np.uint8
    assert np.abs(same - pixels(tilted)).max() <= 1
    assert (same == pixels(tilted)).mean() > 0.999


def test_another_light_changes_the_object_only(tilted: Result) -> None:
    [relit] = paste_back.relight(tilted, [(1.0, 0.0)])
    changed = np.abs(relit.astype(int) - pixels(tilted)).max(axis=-1) > 0
    assert changed.mean() > 0.02
    assert not changed[~crop_mask(tilted)].any()


@pytest.mark.parametrize(("x", "y"), [(1.0, 0.0), (0.0, 1.0), (-0.6, 0.8)])
def test_light_positions_are_those_in_the_whole_photo(tilted: Result, x: float, y: float) -> None:
    against, towards = (photo.astype(int) for photo in paste_back.relight(tilted, [(-x, -y), (x, y)]))
    brighter = (towards - against).mean(axis=-1)
    row, column = np.nonzero(brighter)
    from_middle = (column - column.mean()) + 1j * (row.mean() - row)  # up is up
    towards_deg = np.degrees(np.angle((brighter[row, column] * from_middle).sum() / (x + 1j * y)))
    assert abs(towards_deg) < 6 < math.degrees(TILTED.turn_rad) / 2


def test_the_photo_does_not_depend_on_the_band_size(tilted: Result, monkeypatch: pytest.MonkeyPatch) -> None:
    [max_batch] = paste_back.relight(tilted, [(0.7, 0.1)])
    monkeypatch.setattr(paste_back, "BAND_ROWS", 7)
    [in_bands] = paste_back.relight(tilted, [(0.7, 0.1)])
    assert np.array_equal(max_batch, in_bands)


def test_light_ends_at_the_outline_at_the_photos_resolution(tilted: Result, monkeypatch: pytest.MonkeyPatch) -> None:
    changes: list[torch.Tensor] = []
    monkeypatch.setattr(Canvas, "add", lambda self, change: changes.append(change) or self.photo)
    list(paste_back.relight(tilted, [(-0.8, 0.0)]))
    outline = refine_mask(tilted.mask, Canvas.of(tilted).crop * 2 - 1)
    assert changes[0][:, outline == 0].abs().max() == 0
    assert changes[0][:, outline == 1].abs().max() > 0.05


def test_detail_finer_than_the_depth_map_survives_another_light(tilted: Result) -> None:
    stripes = (np.indices((240, 300))[1] // 2 % 2 * 40)[..., None]
    striped = Image.fromarray((pixels(tilted) // 2 + 40 + stripes).astype(np.uint8))
    file = io.BytesIO()
    striped.save(file, format="PNG")
    fine = replace(tilted, original=file.getvalue(), aligned=np.array(crop_photo(striped, TILTED, 96)))
    [relit] = paste_back.relight(fine, [(0.8, 0.3)])
    changed = np.abs(relit.astype(int) - pixels(fine)).max(axis=-1) > 4
    across = np.diff(relit.astype(int).mean(axis=-1), axis=1)[:, 1::2]  # from stripe to stripe
    assert np.abs(across[changed[:, 1:-1:2]]).mean() > 20


def test_a_turn_by_zero_barely_changes_the_photo(tilted: Result) -> None:
    [same] = paste_back.rotate(tilted, [(0.0, 0.0)])
    difference = np.abs(same.astype(int) - pixels(tilted))
    assert difference[~crop_mask(tilted)].max() == 0
    assert difference.mean() < 0.5


def test_a_pasted_image_leaves_nothing_of_the_photo(tilted: Result) -> None:
    canvas = Canvas.of(tilted)
    noise = np.random.default_rng(0).integers(0, 256, canvas.photo.shape, dtype=np.uint8)
    size = canvas.crop.shape[-1]
    weight = torch.zeros(1, size, size)
    weight[:, size // 4 : -size // 4, size // 4 : -size // 4] = 1
    pasted = replace(canvas, photo=noise).paste(torch.full((3, size, size), 0.2), weight)
    x, y = round(canvas.placement.x), round(canvas.placement.y)
    assert (pasted[y - 2 : y + 3, x - 2 : x + 3] == 51).all()  # the photo's detail would be a second outline
    replaced = np.abs(pasted.astype(int) - noise).max(axis=2) > 0
    assert replaced.mean() < 0.3 * canvas.placement.side**2 / replaced.size


@pytest.mark.parametrize(("right", "down"), [(1.0, 1.0), (0.05, 1.0), (-0.5, 2.0)])
def test_the_magnification_is_the_photos_area_in_a_pixel(right: float, down: float) -> None:
    rows, columns = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
    sheared = torch.stack((right * columns + 0.3 * rows, down * rows))
    torch.testing.assert_close(paste_back._magnification(sheared), torch.full((8, 8), abs(right * down)))


def test_a_turn_moves_the_nose(tilted: Result) -> None:
    def nose(photo: np.ndarray) -> float:
        red = photo[..., 0].astype(int) - photo[..., 1:].max(axis=-1) > 80
        y, x = np.nonzero(red)
        return TILTED.to_crop(np.stack((x, y), axis=-1).astype(float))[:, 0].mean()

    left, right = paste_back.rotate(tilted, [(math.radians(-12), 0.0), (math.radians(12), 0.0)])
    assert nose(left) + 0.03 < nose(pixels(tilted)) < nose(right) - 0.03


def test_uncovered_background_is_inpainted_from_its_surroundings(tilted: Result) -> None:
    part = Canvas.of(tilted)
    mask = soft_mask(tilted, tilted.factors)
    around = part.inpaint_object(mask)
    covered = interpolate(mask[None, None], size=around.shape[-2:], mode="bilinear")[0, 0] > 0.9
    # Black lies around the made-up object, which itself is bright.
    assert part.crop[:, covered].mean() > 0.3
    assert around[:, covered].mean() < 0.15


@pytest.mark.parametrize("size", [1, 5, 16, 33])
def test_inpainting_continues_a_constant_from_a_single_pixel(size: int) -> None:
    weight = torch.zeros(size, size)
    weight[size // 2, size // 2] = 1
    maps = torch.where(weight > 0, 3.0, -100.0).expand(2, -1, -1)
    assert torch.allclose(inpaint(maps, weight), torch.full_like(maps, 3.0), atol=1e-4)
