"""Metrics of photos with known depth, and resumable evaluations, with made-up reconstructions."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest
import torch
from PIL import Image

from g2s_cli.errors import G2SError, ImageError, UsageError
from g2s_cli.evaluation.benchmark import ImageMetrics, depth_metrics, evaluate
from g2s_cli.evaluation.ground_truth import DepthPair, GroundTruth, find_pairs
from g2s_cli.geometry.camera import Camera
from g2s_cli.weights.categories import load_category

SETTINGS = {"preset": "fast", "seed": 0}
NAMES = ["0_image.png", "1_image.png", "2_image.png"]


@pytest.fixture
def run(reconstruct: Callable, tmp_path: Path) -> Callable[..., list[ImageMetrics]]:
    """Evaluate pairs into tmp_path/out."""

    def run(pairs: list[DepthPair], settings: dict[str, object] = SETTINGS) -> list[ImageMetrics]:
        return list(evaluate(pairs, load_category("synface"), tmp_path / "out", reconstruct, settings))

    return run


def test_the_true_depth_scores_best(pairs: list[DepthPair], run: Callable) -> None:
    rows = run(pairs)
    assert [row.image for row in rows] == NAMES
    for row in rows[:2]:
        assert row.side_e2 < 1e-3  # rounding to 16 bits
        assert row.coverage == 1
    # A slope of 0.02 across the image has a standard deviation of a few thousandths over a head.
    assert 0.2 < rows[2].side_e2 < 0.6
    assert rows[2].mad_deg > rows[0].mad_deg + 1


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), ImageError("1_image.png is damaged.")])
def test_a_stopped_evaluation_resumes(
    pairs: list[DepthPair], run: Callable, reconstruct: Any, stop: BaseException
) -> None:
    reconstruct.failures["1_image.png"] = stop
    with pytest.raises(type(stop)):
        run(pairs)
    rows = run(pairs)
    assert reconstruct.calls == [NAMES[0], NAMES[1], NAMES[1], NAMES[2]]
    assert [row.seconds for row in rows] == [2.5] * 3
    assert run(pairs) == rows
    assert len(reconstruct.calls) == 4


@pytest.mark.parametrize("changed", ["image", "depth"])
def test_other_data_of_the_same_names_is_evaluated_anew(
    pairs: list[DepthPair], run: Callable, reconstruct: Any, tmp_path: Path, changed: str
) -> None:
    first = run(pairs[:2])
    shutil.copytree(tmp_path / "data", other := tmp_path / "other")
    if changed == "image":
        Image.new("RGB", (64, 64), "white").save(other / "image" / "1_image.png")
    else:
        shutil.copy(other / "depth" / "2_depth.png", other / "depth" / "1_depth.png")
    second = run(others := find_pairs(other))
    assert reconstruct.calls == [NAMES[0], NAMES[1], NAMES[1], NAMES[2]]
    assert second[0] == first[0]
    assert second[1].inputs_sha256 != first[1].inputs_sha256
    assert (second[1].side_e2 > 0.2) == (changed == "depth")
    # The last row of a photo counts, and a run of fewer photos keeps the rows of the others.
    assert run(others[:2]) == second[:2]
    assert run(others) == second
    assert len(reconstruct.calls) == 4


def test_a_missing_photo_is_named(pairs: list[DepthPair], run: Callable) -> None:
    pairs[1].photo.unlink()
    with pytest.raises(ImageError, match=r"1_image.png cannot be read: No such file"):
        run(pairs)


def test_other_settings_damage_and_other_folders_are_refused(
    pairs: list[DepthPair], run: Callable, reconstruct: Any, tmp_path: Path
) -> None:
    run(pairs[:1])
    with pytest.raises(UsageError, match="begun with other settings: seed"):
        run(pairs, SETTINGS | {"seed": 1})
    (tmp_path / "out" / "rows.jsonl").write_text("{\n" + (tmp_path / "out" / "rows.jsonl").read_text())
    with pytest.raises(G2SError, match="is damaged"):
        run(pairs)
    with pytest.raises(UsageError, match="is no folder of g2s evaluate"):
        next(evaluate(pairs, load_category("synface"), tmp_path / "data", reconstruct, SETTINGS))


@pytest.mark.parametrize("cut", [1, 40, "all but"])
def test_an_incomplete_last_row_costs_its_photo_only(
    pairs: list[DepthPair], run: Callable, reconstruct: Any, tmp_path: Path, cut: int | str
) -> None:
    rows = run(pairs)
    path = tmp_path / "out" / "rows.jsonl"
    text = path.read_text()
    path.write_text(text[: -(len(text.splitlines()[-1]) if cut == "all but" else cut)])
    reconstruct.calls.clear()
    assert run(pairs) == rows
    assert reconstruct.calls == ([] if cut == 1 else ["2_image.png"])  # without its line end a row is complete
    assert path.read_text() == text


def test_a_full_disk_costs_no_finished_row(
    pairs: list[DepthPair], run: Callable, reconstruct: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = evaluate(pairs, load_category("synface"), tmp_path / "out", reconstruct, SETTINGS)
    next(rows)

    def full(path: Path, mode: str = "r", **options: object) -> IO[Any]:
        if path.name == "rows.jsonl" and mode == "a":
            raise OSError(28, "No space left on device")
        return original(path, mode, **options)

    original = Path.open
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", full)
        with pytest.raises(G2SError, match=r"rows\.jsonl cannot be written: No space left on device"):
            next(rows)
    assert len(run(pairs)) == 3


def test_a_second_process_is_refused(pairs: list[DepthPair], run: Callable, reconstruct: Any, tmp_path: Path) -> None:
    first = evaluate(pairs, load_category("synface"), tmp_path / "out", reconstruct, SETTINGS)
    next(first)
    with pytest.raises(UsageError, match="Another g2s evaluate is at work in"):
        run(pairs)
    assert len([*first, *run(pairs)]) == 2 + 3
    assert len((tmp_path / "out" / "rows.jsonl").read_text().splitlines()) == 3


def test_a_missed_photo_is_null_in_the_rows(pairs: list[DepthPair], run: Callable, tmp_path: Path) -> None:
    code = np.zeros((64, 64), dtype=np.uint16)
    code[:, 31:33] = 30000  # erosion leaves nothing of it
    Image.fromarray(code).save(pairs[1].depth)
    rows = run(pairs)
    assert [row.missed for row in rows] == [False, True, False]
    again = run(pairs)
    assert math.isnan(again[1].side_e2)
    assert math.isnan(again[1].mad_deg)
    line = json.loads((tmp_path / "out" / "rows.jsonl").read_text().splitlines()[1], parse_constant=pytest.fail)
    assert (line["side_e2"], line["mad_deg"]) == (None, None)


@pytest.mark.parametrize("columns", [slice(0), slice(30, 32), slice(48, 64)])
def test_masks_that_do_not_overlap_have_no_errors(columns: slice) -> None:
    truth = GroundTruth(torch.full((64, 64), 1.0), torch.zeros(64, 64, dtype=torch.bool))
    truth.mask[:, 16:40] = True
    mask = torch.zeros(64, 64, dtype=torch.bool)
    mask[:, columns] = True
    metrics = depth_metrics(torch.full((64, 64), 1.0), mask, truth, Camera(64))
    assert math.isnan(metrics["side_e2"])
    assert math.isnan(metrics["mad_deg"])
    assert metrics["coverage"] < 0.1


def test_only_pixels_inside_both_eroded_masks_count() -> None:
    truth = GroundTruth(torch.full((16, 16), 1.0), torch.zeros(16, 16, dtype=torch.bool))
    truth.mask[4:12, 4:12] = True
    depth = torch.full((16, 16), 1.0)
    depth[:5] = 0.9  # outside the mask, or in its eroded rim
    mask = torch.ones(16, 16, dtype=torch.bool)
    assert depth_metrics(depth, mask, truth, Camera(16))["side_e2"] == pytest.approx(0, abs=1e-4)
    mask[:, 8:] = False
    assert depth_metrics(depth, mask, truth, Camera(16))["coverage"] == 0.5
