"""g2s pretrain on a fake GAN of 16 px: in one process and in two, killed and resumed, and its result."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import fake_checkpoints
import numpy as np
import pytest
import torch
from installed import Command
from PIL import Image, ImageOps
from safetensors.torch import load_file

from g2s_cli.files import sha256_of
from g2s_cli.weights.tensors import read_metadata

pytestmark = pytest.mark.slow

FACE = Path(__file__).parent.parent / "data" / "face.png"
JOINT = """
[pretrain]
stages = [[3, 3, 3], [3, 3, 3]]
batch = 2
samples = 6
rate = 1e-4
decay = 5e-4
prior = 3
masked = false
symmetry = "on"
candidates = 16
invert = 3
width = 8
encoder_width = 8
"""


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with a category of a made-up GAN and a joint schedule, and a folder of photos beside it."""
    root = tmp_path_factory.mktemp("zoo")
    (root / "tiny.pt").write_bytes(fake_checkpoints.saved(fake_checkpoints.gan(16)))
    command = [sys.executable, "-m", "g2s_cli", "weights", "import", "tiny.pt", "--category", "tiny"]
    subprocess.run(command, cwd=root, env=os.environ | {"G2S_CACHE": str(root / "cache")}, check=True)
    with (root / "cache" / "tiny" / "model.toml").open("a") as card:
        card.write(JOINT)
    (root / "photos").mkdir()
    with Image.open(FACE) as face:
        for name, picture in (("a", face), ("b", ImageOps.mirror(face)), ("c", ImageOps.invert(face.convert("RGB")))):
            picture.resize((16, 16)).save(root / "photos" / f"{name}.png")
    return root


@pytest.fixture
def tiny(g2s: Command, cache: dict[str, str]) -> Command:
    """The command, with the cache of the category tiny."""
    return g2s.using(**cache)


@pytest.fixture
def cache(zoo: Path) -> dict[str, str]:
    return {"G2S_CACHE": str(zoo / "cache")}


def arguments(zoo: Path, out: str, *more: object) -> tuple[object, ...]:
    return ("pretrain", zoo / "photos", "--category", "tiny", "--photos-a-step", 2, "-o", out, *more)


def losses(folder: Path) -> list[float]:
    with (folder / "losses.csv").open() as file:
        return [float(row["loss"]) for row in csv.DictReader(file)]


def networks_of(folder: Path) -> dict[str, torch.Tensor]:
    kept = torch.load(folder / "checkpoint.pt")["state"]
    return {f"{name}.{key}": value for name, state in kept.items() for key, value in state.items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture(scope="module")
def alone(zoo: Path) -> Path:
    """The folder of an unbroken run in one process."""
    command = [sys.executable, "-m", "g2s_cli", *map(str, arguments(zoo, "alone"))]
    environment = os.environ | {"G2S_CACHE": str(zoo / "cache"), "OMP_NUM_THREADS": "1"}
    subprocess.run(command, cwd=zoo, env=environment, check=True)
    return zoo / "alone"


def test_two_processes_train_the_networks_of_one_with_the_same_batch(
    zoo: Path, alone: Path, cache: dict[str, str], tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    command += ["-m", "g2s_cli", *map(str, arguments(zoo, "two", "--json"))]
    environment = os.environ | cache | {"OMP_NUM_THREADS": "1"}
    answer = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    assert json.loads(answer.stdout)["name"] == "two"  # the first process alone has spoken
    assert answer.stderr.count("cycle 2, shape") == 1
    assert len(losses(alone)) == 3 + 2 * 9
    np.testing.assert_allclose(losses(tmp_path / "two"), losses(alone), rtol=0, atol=1e-4)
    ours, theirs = networks_of(tmp_path / "two"), networks_of(alone)
    assert max((ours[name] - theirs[name]).abs().max().item() for name in ours) < 1e-3


def test_killed_and_resumed_it_ends_with_the_same_bytes(
    zoo: Path, alone: Path, cache: dict[str, str], start: Callable, tiny: Command, tmp_path: Path
) -> None:
    process = start(*arguments(zoo, "killed", "--save-every", 0), **cache)
    place = tmp_path / "killed" / "checkpoint.pt"
    while process.poll() is None and not (place.exists() and "cycle 1, shape" in torch.load(place)["losses"]):
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (tmp_path / "killed" / "report.json").exists()
    tiny.ok(*arguments(zoo, "killed"))
    assert losses(tmp_path / "killed") == losses(alone)
    assert same(networks_of(tmp_path / "killed"), networks_of(alone))
    parts = (load_file(zoo / "cache" / name / "networks.safetensors") for name in ("killed", "alone"))
    assert same(*parts)


def test_the_result_is_a_category(zoo: Path, alone: Path, tiny: Command) -> None:
    entry = zoo / "cache" / "alone"
    assert {path.name for path in entry.iterdir() if path.suffix != ".lock"} == {
        "README.md",
        "model.toml",
        *(f"{part}.{end}" for part in ("gan", "networks", "views", "lights") for end in ("json", "safetensors")),
    }
    assert read_metadata(entry / "networks.safetensors")["gan_sha256"] == sha256_of(entry / "gan.safetensors")
    tiny.ok("weights", "verify", "alone")
    (zoo / "other.pt").write_bytes(fake_checkpoints.saved(fake_checkpoints.gan(16, seed=7)))
    refusal = tiny.fails(4, "weights", "import", zoo / "other.pt", "--category", "alone")
    assert f"{entry / 'networks.safetensors'} was trained with another GAN than {zoo / 'other.pt'}" in refusal
    tiny.ok("reconstruct", FACE, "--category", "alone", "--iterations", 1, "-o", zoo / "made")
    report = json.loads((zoo / "made" / "report.json").read_text())
    assert set(report["weights"]) == {"gan", "networks", "views", "lights"}


def test_the_report(alone: Path, zoo: Path) -> None:
    report = json.loads((alone / "report.json").read_text())
    assert [one["phase"] for one in report["phases"]][:5] == [
        "prior",
        "cycle 1, albedo",
        "cycle 1, project",
        "cycle 1, collect",
        "cycle 1, shape",
    ]
    assert [one["photo"] for one in report["photos"]] == ["a.png", "b.png", "c.png"]
    assert set(report["figures"]) == {"inversion_psnr_db", "reconstruction_psnr_db"}
    assert not list((alone / "samples").iterdir())
    views = load_file(zoo / "cache" / "alone" / "views.safetensors")
    assert views["cov"].shape == (6, 6)


def test_depth_beside_the_photos_is_scored(zoo: Path, tiny: Command, tmp_path: Path) -> None:
    y, x = np.mgrid[-1:1:16j, -1:1:16j]
    bump = np.where(x**2 + y**2 < 0.8, 0.3 + 0.4 * np.sqrt(np.clip(0.81 - x**2 - y**2, 0, None)), 0)
    for folder in ("image", "depth"):
        (tmp_path / "data" / folder).mkdir(parents=True)
    strip = np.where(np.abs(x) < 0.1, bump, 0)  # nothing of it is left when its rim is not counted
    for name, shape in (("a", bump), ("b", bump), ("c", strip)):
        Image.open(zoo / "photos" / f"{name}.png").save(tmp_path / "data" / "image" / f"{name}_image.png")
        Image.fromarray((shape * 65535).astype(np.uint16)).save(tmp_path / "data" / "depth" / f"{name}_depth.png")
    command = ("pretrain", "data", "-c", "tiny", "--iterations", 1, "--cycles", 1, "-o", "scored")
    answer = tiny.ok(*command, "--json")
    assert "NaN" not in answer.stdout
    report = json.loads(answer.stdout)
    assert {"side_e2", "mad_deg", "coverage"} < set(report["figures"])
    assert [one["name"] for one in report["baselines"]] == ["flat depth", "mean depth of the others"]
    assert len(losses(tmp_path / "scored")) == 4

    assert report["missed"] == ["c_image.png"]
    a, b, c = report["photos"]
    assert (c["side_e2"], c["mad_deg"]) == (None, None)
    assert report["figures"]["side_e2"] == pytest.approx((a["side_e2"] + b["side_e2"]) / 2)
    assert report["figures"]["coverage"] == pytest.approx((a["coverage"] + b["coverage"] + c["coverage"]) / 3)
    table = [line.split() for line in tiny.ok(*command).stderr.splitlines()]
    assert table[[line[:1] for line in table].index(["the"])][-3:] == ["1", "of", "3"]
    card = (zoo / "cache" / "scored" / "README.md").read_text()
    assert "1 of 3 photos were missed" in card


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--seed", 1, "--cycles", 1], "alone was begun with other settings: seed, schedule. Name another folder"),
        (["--as", "tiny"], "There is a category tiny already. Choose another name: --as NAME."),
    ],
)
def test_the_folder_and_the_name_of_others_are_refused(
    zoo: Path, alone: Path, tiny: Command, more: list[object], message: str
) -> None:
    assert message in tiny.fails(2, *arguments(zoo, alone, *more))


def test_a_run_keeps_to_its_perceptual_distance(zoo: Path, alone: Path, tiny: Command, tmp_path: Path) -> None:
    shutil.copytree(alone, tmp_path / "run")
    place = tmp_path / "run" / "settings.json"
    place.write_text(json.dumps(json.loads(place.read_text()) | {"perceptual": "another"}))
    refusal = tiny.fails(2, *arguments(zoo, "run"))
    assert "run was begun with other settings: perceptual. Name another folder" in refusal


def test_unreadable_photos_are_reported_before_the_folder_is_created(zoo: Path, tiny: Command, tmp_path: Path) -> None:
    shutil.copytree(zoo / "photos", tmp_path / "photos")
    (tmp_path / "photos" / "zz.png").write_text("no picture")
    assert "zz.png" in tiny.fails(3, "pretrain", tmp_path / "photos", "--category", "tiny", "-o", "run")
    assert not (tmp_path / "run").exists()


def test_more_processes_than_photos_a_step_are_refused(zoo: Path, tiny: Command) -> None:
    refusal = tiny.using(RANK="0", WORLD_SIZE="3").fails(2, *arguments(zoo, "many"))
    assert "3 processes cannot share 2 photos a step" in refusal


def test_a_full_disk_is_reported_with_the_file(zoo: Path, cache: dict[str, str], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "g2s_cli", "pretrain", str(zoo / "photos"), "-c", "tiny", "-o", "run", "--quiet"]
    answer = subprocess.run(
        ["bash", "-c", "trap '' XFSZ; ulimit -f 4; exec \"$@\"", "-", *command],
        cwd=tmp_path,
        env=os.environ | cache | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert "run/inversions/0000.safetensors cannot be written: " in answer.stderr
    assert answer.stderr.endswith("Free space. The same command goes on.\n")
