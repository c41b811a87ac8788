"""The report of an evaluation: means, baselines, tables and the sheet of the worst photos."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
from PIL import Image

from g2s_cli.commands.evaluate import evaluate as command
from g2s_cli.config import Category
from g2s_cli.errors import G2SError, StoppedError
from g2s_cli.evaluation import benchmark, report
from g2s_cli.evaluation.benchmark import ImageMetrics, evaluate
from g2s_cli.evaluation.ground_truth import DepthPair
from g2s_cli.evaluation.report import mean_baselines, summarize, write_report
from g2s_cli.weights.categories import load_category

SETTINGS = {"preset": "fast", "seed": 0}
ROW = ImageMetrics("0", 1.0, mad_deg=10.0, coverage=1.0, inversion_psnr_db=30.0, seconds=1.0, inputs_sha256="")


@pytest.fixture
def category() -> Category:
    return load_category("synface")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def test_the_files_agree_with_the_summary(
    pairs: list[DepthPair], reconstruct: Callable, category: Category, out: Path
) -> None:
    rows = list(evaluate(pairs, category, out, reconstruct, SETTINGS))
    summary = write_report(rows, mean_baselines(pairs, category), out, SETTINGS)
    assert json.loads((out / "summary.json").read_text()) == json.loads(json.dumps(summary))
    assert summary["worst"][0] == "2_image.png"
    with (out / "images.csv").open() as file:
        assert [float(line["side_e2"]) for line in csv.DictReader(file)] == [row.side_e2 for row in rows]
    with Image.open(out / "worst.png") as sheet:
        assert sheet.size == (6 * 128, 3 * 128)


def test_missed_photos_are_listed_first_and_left_out_of_the_errors(
    pairs: list[DepthPair], reconstruct: Callable, category: Category, out: Path
) -> None:
    def summary_file() -> Any:
        return json.loads((out / "summary.json").read_text(), parse_constant=pytest.fail)  # NaN is no JSON

    code = np.zeros((64, 64), dtype=np.uint16)
    code[:, 31:33] = 30000  # erosion leaves nothing of it
    Image.fromarray(code).save(pairs[1].depth)
    rows = list(evaluate(pairs, category, out, reconstruct, SETTINGS))
    summary = write_report(rows, mean_baselines(pairs, category), out, SETTINGS)
    assert summary_file() == json.loads(json.dumps(summary))
    assert (summary["images"], summary["missed"]) == (3, ["1_image.png"])
    assert summary["worst"] == ["1_image.png", "2_image.png", "0_image.png"]
    side = summary["figures"]["side_e2"]
    assert side["mean"] == pytest.approx((rows[0].side_e2 + rows[2].side_e2) / 2)
    assert side["standard_error"] == pytest.approx(abs(rows[0].side_e2 - rows[2].side_e2) / 2)
    assert summary["figures"]["coverage"]["mean"] == pytest.approx(sum(row.coverage for row in rows) / 3)
    assert all(one["side_e2"] > 0 and one["mad_deg"] > 0 for one in summary["baselines"])
    with (out / "images.csv").open() as file:
        assert [math.isnan(float(line["side_e2"])) for line in csv.DictReader(file)] == [False, True, False]

    alone = write_report(rows[1:2], mean_baselines(pairs[1:2], category), out, SETTINGS)
    assert summary_file() == json.loads(json.dumps(alone))
    assert alone["figures"]["mad_deg"] == {"mean": None, "deviation": None, "standard_error": None}
    assert alone["baselines"] == [{"name": "flat depth", "side_e2": None, "mad_deg": None}]


@pytest.mark.parametrize("name", ["pictures/0_image.png", "images.csv", "summary.json", "worst.png"])
def test_files_that_cannot_be_written_are_named(
    pairs: list[DepthPair], reconstruct: Callable, category: Category, out: Path, name: str
) -> None:
    (out / "settings.json").parent.mkdir()
    (out / "settings.json").write_text(json.dumps(SETTINGS))
    (out / name).mkdir(parents=True)
    message = rf"{name} cannot be written: .*\. Free space\. The same command goes on"
    with pytest.raises(G2SError, match=message) as refusal:
        write_report(list(evaluate(pairs, category, out, reconstruct, SETTINGS)), [], out, SETTINGS)
    assert refusal.value.exit_code == 1
    (out / name).rmdir()
    write_report(list(evaluate(pairs, category, out, reconstruct, SETTINGS)), [], out, SETTINGS)
    assert (out / name).is_file()


def test_ctrl_c_during_the_report_states_the_finished_photos(
    pairs: list[DepthPair], tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    rows = [replace(ROW, image=pair.photo.name) for pair in pairs]
    monkeypatch.setattr(benchmark, "evaluate", lambda *_: iter(rows))
    monkeypatch.setattr(report, "write_report", stop)
    with pytest.raises(StoppedError, match=r"Stopped after 3 of 3 photos\. The same command goes on\."):
        command(tmp_path / "data", out=out, quiet=True)


def test_mean_deviation_and_standard_error() -> None:
    rows = [replace(ROW, side_e2=value) for value in (1.0, 2.0, 6.0)]
    side = summarize(rows)["side_e2"]
    assert side == pytest.approx({"mean": 3, "deviation": 7**0.5, "standard_error": (7 / 3) ** 0.5})
    assert summarize(rows[:1])["side_e2"]["standard_error"] == 0


def test_the_mean_depth_baseline_leaves_out_the_photo_itself(pairs: list[DepthPair], category: Category) -> None:
    flat, mean = mean_baselines(pairs, category)
    assert flat.side_e2 > mean.side_e2 > 0
    # The first two have the same true depth.
    assert mean_baselines(pairs[:2], category)[1].side_e2 < 1e-3
    assert [baseline.name for baseline in mean_baselines(pairs[:1], category)] == ["flat depth"]
