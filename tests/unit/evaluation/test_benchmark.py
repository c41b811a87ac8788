"""Scores, their trivial rivals, and reports that can be taken up again; with made-up reconstructions."""

from __future__ import annotations

import csv
import json
import math
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, NoReturn

import numpy as np
import pytest
import torch
from PIL import Image

from g2s_cli.commands.evaluate import evaluate as command
from g2s_cli.errors import G2SError, ImageError, StoppedError, UsageError
from g2s_cli.evaluation import benchmark, report
from g2s_cli.evaluation.benchmark import ImageMetrics, depth_metrics, evaluate
from g2s_cli.evaluation.ground_truth import DepthPair, GroundTruth, find_pairs
from g2s_cli.evaluation.report import mean_baselines, summarize, write_report
from g2s_cli.geometry.camera import Camera
from g2s_cli.geometry.render import photo_depth, render
from g2s_cli.result.schema import Result
from g2s_cli.result.write import encode_depth
from g2s_cli.weights.catalog import load_category

SETTINGS = {"preset": "fast", "seed": 0}
Make = Callable[..., Result]
Run = Callable[[Sequence[Path]], Iterator[Result | Exception]]


@pytest.fixture
def data(make: Make, tmp_path: Path) -> list[DepthPair]:
    """Three photos whose true depth is what a made-up reconstruction says, the last one's 0.01 steeper to one side."""
    for number in range(3):
        result = make(64, number)
        depth = photo_depth(render(result.factors, result.camera), result.factors, result.mask, result.camera)
        slope = torch.linspace(0, 0.02, 64).expand(64, 64) if number == 2 else torch.zeros(64, 64)
        for config in ("image", "depth"):
            (tmp_path / "data" / config).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 64)).save(tmp_path / "data" / "image" / f"{number}_image.png")
        Image.fromarray(encode_depth((depth + slope).numpy())).save(tmp_path / "data" / "depth" / f"{number}_depth.png")
    return find_pairs(tmp_path / "data")


@pytest.fixture
def run(make: Make) -> Run:
    def run(photos: Sequence[Path]) -> Iterator[Result | Exception]:
        for photo in photos:
            result = make(64, int(photo.name[0]))
            yield replace(result, report=result.report | {"inversion_psnr_db": 30.0, "seconds": {"total": 2.5}})

    return run


def test_the_truth_itself_scores_best(data: list[DepthPair], run: Run, tmp_path: Path) -> None:
    rows = list(evaluate(data, load_category("synface"), tmp_path / "out", run, SETTINGS))
    assert [row.image for row in rows] == ["0_image.png", "1_image.png", "2_image.png"]
    for row in rows[:2]:
        assert row.side_e2 < 1e-3  # what 16 bits round away
        assert row.coverage == 1
    # A slope of 0.02 across the picture has a standard deviation of a few thousandths over a head.
    assert 0.2 < rows[2].side_e2 < 0.6
    assert rows[2].mad_deg > rows[0].mad_deg + 1


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), ImageError("1_image.png is damaged.")])
def test_a_stopped_evaluation_goes_on(data: list[DepthPair], run: Run, tmp_path: Path, stop: BaseException) -> None:
    seen = []

    def noted(photos: Sequence[Path]) -> Iterator[Result | Exception]:
        for photo, result in zip(photos, run(photos), strict=True):
            seen.append(photo.name)
            if len(seen) == 2 and isinstance(stop, Exception):
                yield stop
            elif len(seen) == 2:
                raise stop
            else:
                yield result

    category, out = load_category("synface"), tmp_path / "out"
    with pytest.raises(type(stop)):
        list(evaluate(data, category, out, noted, SETTINGS))
    rows = list(evaluate(data, category, out, noted, SETTINGS))
    assert seen == ["0_image.png", "1_image.png", "1_image.png", "2_image.png"]
    assert [row.seconds for row in rows] == [2.5] * 3
    assert list(evaluate(data, category, out, noted, SETTINGS)) == rows
    assert len(seen) == 4


@pytest.mark.parametrize("config", ["image", "depth"])
def test_rows_of_other_data_under_the_same_names_are_made_anew(
    data: list[DepthPair], run: Run, tmp_path: Path, config: str
) -> None:
    seen: list[str] = []

    def noted(photos: Sequence[Path]) -> Iterator[Result | Exception]:
        seen.extend(photo.name for photo in photos)
        return run(photos)

    category, out = load_category("synface"), tmp_path / "out"
    first = list(evaluate(data[:2], category, out, noted, SETTINGS))
    other = tmp_path / "other"
    shutil.copytree(tmp_path / "data", other)
    if config == "image":
        Image.new("RGB", (64, 64), "white").save(other / "image" / "1_image.png")
    else:
        shutil.copy(other / "depth" / "2_depth.png", other / "depth" / "1_depth.png")
    pairs = find_pairs(other)
    second = list(evaluate(pairs, category, out, noted, SETTINGS))
    assert seen == ["0_image.png", "1_image.png", "1_image.png", "2_image.png"]
    assert second[0] == first[0]
    assert second[1].inputs_sha256 != first[1].inputs_sha256
    assert (second[1].side_e2 > 0.2) == (config == "depth")
    # The newest row is the one that counts, and a run of fewer photos leaves the others' alone.
    assert list(evaluate(pairs[:2], category, out, noted, SETTINGS)) == second[:2]
    assert list(evaluate(pairs, category, out, noted, SETTINGS)) == second
    assert len(seen) == 4


def test_what_cannot_be_read_is_named(data: list[DepthPair], run: Run, tmp_path: Path) -> None:
    data[1].photo.unlink()
    with pytest.raises(ImageError, match=r"1_image.png cannot be read: No such file"):
        list(evaluate(data, load_category("synface"), tmp_path / "out", run, SETTINGS))


def test_folders_of_something_else_are_refused(data: list[DepthPair], run: Run, tmp_path: Path) -> None:
    category, out = load_category("synface"), tmp_path / "out"
    list(evaluate(data[:1], category, out, run, SETTINGS))
    with pytest.raises(UsageError, match="begun with other settings: seed"):
        list(evaluate(data, category, out, run, SETTINGS | {"seed": 1}))
    (out / "rows.jsonl").write_text("{\n" + (out / "rows.jsonl").read_text())
    with pytest.raises(G2SError, match="is damaged"):
        list(evaluate(data, category, out, run, SETTINGS))
    with pytest.raises(UsageError, match="is no folder of g2s evaluate"):
        list(evaluate(data, category, tmp_path / "data", run, SETTINGS))


@pytest.mark.parametrize("cut", [1, 40, "all but"])
def test_a_line_that_was_half_written_costs_its_photo_alone(
    data: list[DepthPair], run: Run, tmp_path: Path, cut: int | str
) -> None:
    category, out = load_category("synface"), tmp_path / "out"
    rows = list(evaluate(data, category, out, run, SETTINGS))
    place = out / "rows.jsonl"
    whole = place.read_text()
    last = whole.splitlines()[-1]
    place.write_text(whole[: -(len(last) if cut == "all but" else cut)])
    seen: list[str] = []

    def noted(photos: Sequence[Path]) -> Iterator[Result | Exception]:
        seen.extend(photo.name for photo in photos)
        return run(photos)

    assert list(evaluate(data, category, out, noted, SETTINGS)) == rows
    assert seen == ([] if cut == 1 else ["2_image.png"])  # a line that lacks its end alone is whole
    assert place.read_text() == whole


@pytest.mark.parametrize("name", ["pictures/0_image.png", "images.csv", "summary.json", "worst.png"])
def test_what_the_disk_refuses_is_said_in_a_sentence(
    data: list[DepthPair], run: Run, tmp_path: Path, name: str
) -> None:
    category, out = load_category("synface"), tmp_path / "out"
    list(evaluate([], category, out, run, SETTINGS))
    (out / name).mkdir(parents=True)
    with pytest.raises(
        G2SError, match=rf"{name} cannot be written: .*\. Free space\. The same command goes on"
    ) as said:
        write_report(list(evaluate(data, category, out, run, SETTINGS)), [], out, SETTINGS)
    assert said.value.exit_code == 1
    (out / name).rmdir()
    write_report(list(evaluate(data, category, out, run, SETTINGS)), [], out, SETTINGS)
    assert (out / name).is_file()


def test_a_full_disk_costs_no_row_that_is_there(
    data: list[DepthPair], run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    category, out = load_category("synface"), tmp_path / "out"
    first = evaluate(data, category, out, run, SETTINGS)
    next(first)

    def full(path: Path, mode: str = "r", **how: object) -> IO[Any]:
        if path.name == "rows.jsonl" and mode == "a":
            raise OSError(28, "No space left on device")
        return opened(path, mode, **how)

    opened = Path.open
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", full)
        with pytest.raises(G2SError, match=r"rows\.jsonl cannot be written: No space left on device"):
            next(first)
    assert len(list(evaluate(data, category, out, run, SETTINGS))) == 3


def test_ctrl_c_in_the_report_tells_the_truth(
    data: list[DepthPair], run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    rows = list(evaluate(data, load_category("synface"), tmp_path / "rows", run, SETTINGS))
    monkeypatch.setattr(benchmark, "evaluate", lambda *_: iter(rows))
    monkeypatch.setattr(report, "write_report", stop)
    with pytest.raises(StoppedError, match=r"Stopped after 3 of 3 photos\. The same command goes on\."):
        command(tmp_path / "data", out=tmp_path / "out", quiet=True)


def test_two_do_not_evaluate_into_one_folder(data: list[DepthPair], run: Run, tmp_path: Path) -> None:
    category, out = load_category("synface"), tmp_path / "out"
    first = evaluate(data, category, out, run, SETTINGS)
    next(first)
    with pytest.raises(UsageError, match="Another g2s evaluate is at work in"):
        next(evaluate(data, category, out, run, SETTINGS))
    assert len([*first, *evaluate(data, category, out, run, SETTINGS)]) == 2 + 3
    assert len((out / "rows.jsonl").read_text().splitlines()) == 3


def test_the_report(data: list[DepthPair], run: Run, tmp_path: Path) -> None:
    category, out = load_category("synface"), tmp_path / "out"
    rows = list(evaluate(data, category, out, run, SETTINGS))
    summary = write_report(rows, mean_baselines(data, category), out, SETTINGS)
    assert json.loads((out / "summary.json").read_text()) == json.loads(json.dumps(summary))
    assert summary["worst"][0] == "2_image.png"
    with (out / "images.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [float(line["side_e2"]) for line in table] == [row.side_e2 for row in rows]
    with Image.open(out / "worst.png") as sheet:
        assert sheet.size == (6 * 128, 3 * 128)


def strict(text: str) -> Any:
    """JSON as everybody reads it, without NaN."""

    def refuse(name: str) -> NoReturn:
        raise AssertionError(f"{name} is no JSON")

    return json.loads(text, parse_constant=refuse)


def test_a_photo_that_was_missed_is_no_good_one(data: list[DepthPair], run: Run, tmp_path: Path) -> None:
    category, out = load_category("synface"), tmp_path / "out"
    strip = np.zeros((64, 64), dtype=np.uint16)
    strip[:, 31:33] = 30000  # erosion leaves nothing of it
    Image.fromarray(strip).save(data[1].depth)
    rows = list(evaluate(data, category, out, run, SETTINGS))
    assert [row.missed for row in rows] == [False, True, False]
    again = list(evaluate(data, category, out, run, SETTINGS))
    assert math.isnan(again[1].side_e2)
    assert math.isnan(again[1].mad_deg)
    for line in (out / "rows.jsonl").read_text().splitlines():
        strict(line)

    summary = write_report(rows, mean_baselines(data, category), out, SETTINGS)
    assert strict((out / "summary.json").read_text()) == json.loads(json.dumps(summary))
    assert (summary["images"], summary["missed"]) == (3, ["1_image.png"])
    assert summary["worst"] == ["1_image.png", "2_image.png", "0_image.png"]
    figures = summary["figures"]
    assert figures["side_e2"]["mean"] == pytest.approx((rows[0].side_e2 + rows[2].side_e2) / 2)
    assert figures["side_e2"]["standard_error"] == pytest.approx(abs(rows[0].side_e2 - rows[2].side_e2) / 2)
    assert figures["coverage"]["mean"] == pytest.approx(sum(row.coverage for row in rows) / 3)
    assert all(one["side_e2"] > 0 and one["mad_deg"] > 0 for one in summary["baselines"])
    with (out / "images.csv").open() as file:
        assert [math.isnan(float(line["side_e2"])) for line in csv.DictReader(file)] == [False, True, False]

    alone = write_report(rows[1:2], mean_baselines(data[1:2], category), out, SETTINGS)
    assert strict((out / "summary.json").read_text()) == json.loads(json.dumps(alone))
    assert alone["figures"]["mad_deg"] == {"mean": None, "deviation": None, "standard_error": None}
    assert alone["baselines"] == [{"name": "flat depth", "side_e2": None, "mad_deg": None}]


@pytest.mark.parametrize("columns", [slice(0), slice(30, 32), slice(48, 64)])
def test_masks_without_a_pixel_in_common_have_no_score(columns: slice) -> None:
    truth = GroundTruth(torch.full((64, 64), 1.0), torch.zeros(64, 64, dtype=torch.bool))
    truth.mask[:, 16:40] = True
    mask = torch.zeros(64, 64, dtype=torch.bool)
    mask[:, columns] = True
    found = depth_metrics(torch.full((64, 64), 1.0), mask, truth, Camera(64))
    assert math.isnan(found["side_e2"])
    assert math.isnan(found["mad_deg"])
    assert found["coverage"] < 0.1


def test_mean_deviation_and_error() -> None:
    rows = [
        ImageMetrics(
            str(k), side_e2=k, mad_deg=10.0, coverage=1.0, inversion_psnr_db=30.0, seconds=1.0, inputs_sha256=""
        )
        for k in (1.0, 2.0, 6.0)
    ]
    found = summarize(rows)["side_e2"]
    assert found["mean"] == 3
    assert found["deviation"] == pytest.approx(7**0.5)
    assert found["standard_error"] == pytest.approx((7 / 3) ** 0.5)
    assert summarize(rows[:1])["side_e2"]["standard_error"] == 0


def test_baselines_do_not_see_the_photo_they_are_scored_on(data: list[DepthPair]) -> None:
    flat, mean = mean_baselines(data, load_category("synface"))
    assert flat.side_e2 > mean.side_e2 > 0
    # Of the first two, whose truth is alike but for the third's slope, the mean of the others is half that slope off.
    alone = mean_baselines(data[:2], load_category("synface"))[1]
    assert alone.side_e2 < 1e-3
    assert [one.name for one in mean_baselines(data[:1], load_category("synface"))] == ["flat depth"]


def test_only_pixels_inside_both_masks_count() -> None:
    truth = GroundTruth(torch.full((16, 16), 1.0), torch.zeros(16, 16, dtype=torch.bool))
    truth.mask[4:12, 4:12] = True
    depth = torch.full((16, 16), 1.0)
    depth[:5] = 0.9  # outside, or in the rim that is eroded
    mask = torch.ones(16, 16, dtype=torch.bool)
    assert depth_metrics(depth, mask, truth, Camera(16))["side_e2"] == pytest.approx(0, abs=1e-4)
    mask[:, 8:] = False
    assert depth_metrics(depth, mask, truth, Camera(16))["coverage"] == 0.5
