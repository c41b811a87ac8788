"""The benchmark that prints the paper's tables: its rows, its statistics, and a tiny run of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields, replace
from importlib import import_module
from pathlib import Path
from shutil import copy
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from g2s_cli.config import Ellipsoid
from g2s_cli.errors import UsageError
from g2s_cli.evaluation.ground_truth import find_pairs
from g2s_cli.geometry.render import render
from g2s_cli.loading import Plan
from g2s_cli.machine import Machine
from g2s_cli.options import ReconstructOptions
from g2s_cli.progress import SilentProgress
from g2s_cli.result.schema import Result
from g2s_cli.result.write import encode_depth
from g2s_cli.weights.categories import load_category

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
CPU = Machine(torch.device("cpu"), torch.float32)


@pytest.fixture(scope="module", autouse=True)
def benchmarks() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "benchmarks")
        yield


@pytest.fixture
def tables() -> ModuleType:
    return import_module("tables")


@pytest.fixture
def data(result: Result, tmp_path: Path) -> Path:
    """A folder in the benchmark's layout: one photo, with a synthetic depth."""
    for config in ("image", "depth"):
        (tmp_path / "data" / config).mkdir(parents=True)
    copy(ROOT / "tests" / "data" / "face.png", tmp_path / "data" / "image" / "0_image.png")
    depth = torch.where(result.mask >= 0.5, render(result.factors, result.camera).depth, torch.nan)
    Image.fromarray(encode_depth(depth.numpy())).save(tmp_path / "data" / "depth" / "0_depth.png")
    return tmp_path / "data"


def test_a_tiny_run_can_be_resumed(
    tables: ModuleType, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = ("--rows", "supervised", "flat", "fast, without")
    quick = (str(data), *rows, "--iterations", "1", "--inversion", "0", "--out", str(tmp_path / "out"))
    tables.main([*quick, "--json"])
    table = json.loads(capsys.readouterr().out)
    assert (table["photos"], table["iterations_at_most"], table["seed"]) == (1, 1, 0)
    upper, flat, ours = table["rows"]
    assert [row["name"] for row in table["rows"]] == ["supervised", "flat depth", "fast, without symmetry"]
    assert upper["note"] == "not run: needs --renders"
    assert ours["note"] == "inversion 0, morphable 0.4 (1), depth_net 0.6"
    assert flat["coverage"]["mean"] == 1
    assert ours["seconds"]["mean"] > 0
    tables.main(quick)
    resumed = capsys.readouterr().out
    assert f"{ours['mad_deg']['mean']:.3f} ± 0.000" in resumed
    assert f"{ours['seconds']['mean']:.3f}" in resumed  # the first run's


def test_missed_photos_are_counted_and_left_out_of_the_means(tables: ModuleType) -> None:
    evaluate_factors, missed = {"side_e2": 2.0, "coverage": 1.0}, {"side_e2": float("nan"), "coverage": 0.0}
    lines = [tables.Line.of("some", [evaluate_factors, missed], "steps"), tables.Line.of("all", [missed])]
    some, none = tables.document(lines, "", {})["rows"]
    assert (some["side_e2"]["mean"], some["coverage"]["mean"]) == (2, 0.5)
    assert some["note"] == "steps; 1 of 2 photos missed"
    assert "side_e2" not in none
    assert none["note"] == "1 of 1 photos missed"


def test_data_of_another_layout_is_refused(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "tables.py"), str(tmp_path)]
    alone = os.environ | {"OMP_NUM_THREADS": "1"}
    answer = subprocess.run(command, env=alone, capture_output=True, text=True, timeout=300, check=False)
    assert answer.returncode == 2
    assert "has no photos" in answer.stderr
    assert "Traceback" not in answer.stderr


def test_an_ablation_changes_one_value_of_the_plan(tables: ModuleType) -> None:
    config = load_category("synface")
    changed = {}
    for name, (preset, change) in tables.ablations(config.presets).items():
        plan = Plan.of(ReconstructOptions("synface", preset))
        other = change(plan)
        names = [field.name for field in fields(plan)]
        changed[name] = {name for name in names if getattr(plan, name) != getattr(other, name)}
    assert changed["fast"] == changed["paper"] == set()
    assert changed["paper, without symmetry"] == changed["fast, without symmetry"] == {"preset"}
    assert changed["paper, offset not by the mapping network"] == {"category"}
    assert changed["paper, offset for free (λ₁ = 0)"] == {"preset"}
    assert not [name for name in changed if name.startswith("fast, offset")]  # fast learns no offset


def test_table_2_has_six_different_initial_shapes(tables: ModuleType) -> None:
    shape = Ellipsoid(near=0.9, far=1.0, radius=0.4)
    shapes = tables.starts(shape)
    assert shapes["ellipsoid"] == shape
    assert len(set(shapes.values())) == 6


def test_a_shortened_preset_keeps_its_prior(tables: ModuleType) -> None:
    whole = load_category("synface").preset("ellipsoid")
    short = tables.shortened(whole, 3, 0)
    assert tables.steps(short) == "inversion 0, prior 1000, steps 3/3/3, 3/3/3, 3/3/3, 3/3/3"
    assert (short.schedule.samples, short.candidates, short.schedule.batch) == (48, 16, 16)
    assert short.schedule.prior == whole.schedule.prior
    assert tables.shortened(whole, None, None) == whole
    fast = load_category("synface").preset("fast")
    assert tables.steps(fast) == "inversion 50, morphable 0.4 (240), depth_net 0.6"


def test_mean_and_standard_error(tables: ModuleType) -> None:
    found = tables.summary([1.0, 2.0, 6.0])
    assert found == {"mean": 3.0, "standard_error": pytest.approx((7 / 3) ** 0.5)}
    assert tables.summary([4.0]) == {"mean": 4.0, "standard_error": 0.0}


def test_angles_between_identities(tables: ModuleType) -> None:
    own = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    found = tables.strangers(own)
    assert [one["mean_deg"] for one in found] == pytest.approx([135, 90, 135])
    assert [one["most_deg"] for one in found] == pytest.approx([180, 90, 180])


@pytest.mark.parametrize("by", ["mesh", "gan"])
def test_identity_drift_under_rotation(tables: ModuleType, result: Result, by: str) -> None:
    """The embedding is the brightness of each third of the picture, which a rotation changes."""
    gan_made = replace(result, latent=0.1 * torch.randn(512, generator=torch.Generator().manual_seed(0)), offset_net={})

    def thirds(images: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.normalize(torch.nn.functional.adaptive_avg_pool2d(images, (1, 3)).flatten(1), dim=1)

    found = tables.drift(gan_made, by, thirds, CPU)
    assert 0 < found["mean_deg"] < found["most_deg"] < 90


def test_an_onnx_embedder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With a fake runtime, whose network takes NHWC pictures one at a time."""
    identity = import_module("identity")

    class Session:
        def __init__(self, path: str, **settings: object) -> None:
            assert settings == {"providers": ["CPUExecutionProvider"]}
            if not Path(path).is_file():
                raise RuntimeError("no such file")

        def get_inputs(self) -> list[SimpleNamespace]:
            return [SimpleNamespace(name="face", shape=["batch", 12, 10, 3])]

        def run(self, _outputs: None, given: dict[str, np.ndarray]) -> list[np.ndarray]:
            assert given["face"].shape == (1, 12, 10, 3)
            return [2 * given["face"].mean(axis=(1, 2))]

    monkeypatch.setitem(sys.modules, "onnxruntime", SimpleNamespace(InferenceSession=Session))
    with pytest.raises(UsageError, match=r"nobody\.onnx is no ONNX network"):
        identity.OnnxEmbedder(tmp_path / "nobody.onnx")
    (tmp_path / "face.onnx").touch()
    embed = identity.OnnxEmbedder(tmp_path / "face.onnx")
    colours = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.6, 0.8]])
    torch.testing.assert_close(embed(colours[:, :, None, None].expand(-1, -1, 64, 64)), colours)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UsageError, match="pip install onnxruntime"):
        identity.OnnxEmbedder(tmp_path / "face.onnx")


def test_the_supervised_network_learns(data: Path) -> None:
    supervised = import_module("supervised")
    config, pairs = load_category("synface"), find_pairs(data)
    shown = supervised.read_lessons(pairs, config)
    assert shown.image[0, :, ~shown.mask[0]].abs().max() == 0
    losses: list[float] = []

    class Losses(SilentProgress):
        def advance(self, done: int, value: float) -> None:
            assert done == len(losses) + 1
            losses.append(value)

    net = supervised.taught(shown, config, 16, 12, CPU, 0, Losses())
    assert losses[-1] < 0.5 * losses[0]
    [mark] = supervised.marks(net, pairs, config, CPU)
    assert mark["coverage"] == 1
    assert 0 < mark["side_e2"] < 5
