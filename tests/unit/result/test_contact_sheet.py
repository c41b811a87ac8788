"""Pictures in rows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from g2s_cli.errors import UsageError
from g2s_cli.result.contact_sheet import COLUMNS, contact_sheet, result_sheet, result_tiles
from g2s_cli.result.read import find_results
from g2s_cli.result.schema import Result


def test_rows_are_filled_from_the_upper_left_and_the_rest_is_white() -> None:
    colours = [(10 * number, 0, 0) for number in range(5)]
    sheet = contact_sheet([Image.new("RGB", (4, 2), colour) for colour in colours], columns=3)
    assert sheet.size == (12, 4)
    cells = np.asarray(sheet).reshape(2, 2, 3, 4, 3).swapaxes(1, 2).reshape(6, 8, 3)
    assert [set(map(tuple, cell)) for cell in cells.tolist()] == [{colour} for colour in [*colours, (255, 255, 255)]]


def test_a_row_shows_photo_shape_sides_and_lights(result: Result) -> None:
    photo, shape, left, front, right, lit_left, lit_right = (
        np.asarray(tile).astype(float) for tile in result_tiles(result, 48)
    )
    inside = np.asarray(Image.fromarray(result.mask.numpy()).resize((48, 48))) > 0.99
    assert np.abs(front - photo)[inside].mean() < 8
    assert np.ptp(shape, axis=2).max() == 0  # grey
    assert shape[inside].std() > 5
    columns = [np.nonzero(image[..., 0] - image[..., 1:].max(axis=-1) > 80)[1].mean() for image in (left, front, right)]
    assert (np.diff(columns) > 1).all()  # the red nose moves to the right
    difference = np.where(inside, (lit_right - lit_left).mean(axis=2), np.nan)
    assert np.nanmean(difference[:, 32:]) > 5 > -5 > np.nanmean(difference[:, :16])


def test_results_are_rows_below_their_names(result: Result) -> None:
    dark = replace(result, aligned=np.zeros_like(result.aligned))
    sheet = np.asarray(result_sheet([("a", result), ("b", dark)], 32))
    label = (len(sheet) - 2 * 32) // 3
    assert sheet.shape[1] == len(COLUMNS) * 32
    first, second = (sheet[2 * label + row * (32 + label) :][:32, :32] for row in (0, 1))
    np.testing.assert_array_equal(first, np.asarray(result_tiles(result, 32)[0]))
    assert (second == 0).all()
    assert sheet[:label].min() < 128  # text


def test_a_folder_is_a_result_or_holds_some(tmp_path: Path) -> None:
    for name in ("b", "a", "none"):
        (tmp_path / name).mkdir()
    for name in ("a", "b"):
        (tmp_path / name / "state.safetensors").touch()
    assert find_results(tmp_path) == [tmp_path / "a", tmp_path / "b"]
    assert find_results(tmp_path / "b") == [tmp_path / "b"]
    with pytest.raises(UsageError, match="none is no g2s result folder and holds none"):
        find_results(tmp_path / "none")
