"""g2s pretrain on a random GAN of 16 px: one process, two processes, killed and resumed, and the category it makes."""

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

import made_up
import numpy as np
import pytest
import torch
from caches import FACE
from installed import Answer, Command
from PIL import Image, ImageOps
from safetensors.torch import load_file

from g2s_cli.files import sha256_of
from g2s_cli.weights.tensors import read_metadata

IN_STEP_3 = (3, 1)  # finished phases, and steps of the current one
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
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with a category of a random GAN and a joint schedule, and a folder of photos beside it."""
    root = tmp_path_factory.mktemp("root")
    (root / "tiny.pt").write_bytes(made_up.saved(made_up.gan(16)))
    run_module(root, root, "weights", "import", "tiny.pt", "--category", "tiny")
    with (root / "cache" / "tiny" / "model.toml").open("a") as card:
        card.write(JOINT)
    (root / "photos").mkdir()
    with Image.open(FACE) as face:
        for name, picture in (("a", face), ("b", ImageOps.mirror(face)), ("c", ImageOps.invert(face.convert("RGB")))):
            picture.resize((16, 16)).save(root / "photos" / f"{name}.png")
    return root


def run_module(root: Path, folder: Path, *arguments: object, torchrun: tuple[str, ...] = ()) -> Answer:
    """Run g2s as a module, with that cache and in a folder."""
    command = [sys.executable, *torchrun, "-m", "g2s_cli", *map(str, arguments)]
    environment = os.environ | {"G2S_CACHE": str(root / "cache"), "OMP_NUM_THREADS": "1"}
    answer = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    return answer


@pytest.fixture
def g2s(g2s: Command, root: Path) -> Command:
    """g2s with that cache."""
    return g2s.using(G2S_CACHE=root / "cache")


def pretrain(root: Path, out: Path | str, *more: object) -> tuple[object, ...]:
    return ("pretrain", root / "photos", "--category", "tiny", "--photos-a-step", 2, "-o", out, *more)


def losses(folder: Path) -> list[float]:
    with (folder / "losses.csv").open() as file:
        return [float(row["loss"]) for row in csv.DictReader(file)]


def networks_of(folder: Path) -> dict[str, torch.Tensor]:
    networks = torch.load(folder / "checkpoint.pt")["networks"]
    return {f"{name}.{key}": value for name, state in networks.items() for key, value in state.items()}


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture(scope="module")
def alone(root: Path) -> Path:
    """The folder of an uninterrupted run in one process."""
    run_module(root, root, *pretrain(root, "alone"))
    return root / "alone"


def test_two_processes_learn_like_one_with_their_whole_batch(root: Path, alone: Path, tmp_path: Path) -> None:
    torchrun = ("-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone")
    answer = run_module(root, tmp_path, *pretrain(root, "two", "--json"), torchrun=torchrun)
    assert json.loads(answer.stdout)["name"] == "two"  # the first process alone prints
    assert answer.stderr.count("cycle 2, shape") == 1
    assert len(losses(alone)) == 3 + 2 * 9
    np.testing.assert_allclose(losses(tmp_path / "two"), losses(alone), rtol=0, atol=1e-4)
    ours, theirs = networks_of(tmp_path / "two"), networks_of(alone)
    assert max((ours[name] - theirs[name]).abs().max().item() for name in ours) < 1e-3


def test_a_killed_and_resumed_run_ends_with_the_same_networks(
    root: Path, alone: Path, start: Callable, g2s: Command, tmp_path: Path
) -> None:
    process = start(*pretrain(root, "killed", "--save-every", 0), **g2s.environment)
    place = tmp_path / "killed" / "checkpoint.pt"
    while process.poll() is None and not (place.exists() and _position(place) >= IN_STEP_3):
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (tmp_path / "killed" / "report.json").exists()
    g2s.ok(*pretrain(root, "killed"))
    assert losses(tmp_path / "killed") == losses(alone)
    assert equal(networks_of(tmp_path / "killed"), networks_of(alone))
    assert equal(*(load_file(root / "cache" / name / "networks.safetensors") for name in ("killed", "alone")))


def _position(place: Path) -> tuple[int, int]:
    checkpoint = torch.load(place)
    return checkpoint["phase"], checkpoint["step"]


def test_the_result_is_a_category(root: Path, alone: Path, g2s: Command) -> None:
    entry = root / "cache" / "alone"
    parts = [f"{part}.{end}" for part in ("gan", "networks", "views", "lights") for end in ("json", "safetensors")]
    assert {path.name for path in entry.iterdir() if path.suffix != ".lock"} == {"README.md", "model.toml", *parts}
    assert read_metadata(entry / "networks.safetensors")["gan_sha256"] == sha256_of(entry / "gan.safetensors")
    g2s.ok("weights", "verify", "alone")
    (root / "other.pt").write_bytes(made_up.saved(made_up.gan(16, seed=7)))
    message = g2s.fails(4, "weights", "import", root / "other.pt", "--category", "alone")
    assert f"{entry / 'networks.safetensors'} was trained with another GAN than {root / 'other.pt'}" in message
    report = g2s.json("reconstruct", FACE, "--category", "alone", "--iterations", 1, "-o", root / "made")
    assert set(report["weights"]) == {"gan", "networks", "views", "lights"}


def test_the_report(alone: Path, root: Path) -> None:
    report = json.loads((alone / "report.json").read_text())
    first_cycle = [f"cycle 1, {step}" for step in ("albedo", "project", "collect", "shape")]
    assert [phase["phase"] for phase in report["phases"]][:5] == ["prior", *first_cycle]
    assert [photo["photo"] for photo in report["photos"]] == ["a.png", "b.png", "c.png"]
    assert set(report["figures"]) == {"inversion_psnr_db", "reconstruction_psnr_db"}
    assert not list((alone / "samples").iterdir())
    views = load_file(root / "cache" / "alone" / "views.safetensors")
    assert views["cov"].shape == (6, 6)


def test_depth_beside_the_photos_is_scored(root: Path, g2s: Command, tmp_path: Path) -> None:
    y, x = np.mgrid[-1:1:16j, -1:1:16j]
    bump = np.where(x**2 + y**2 < 0.8, 0.3 + 0.4 * np.sqrt(np.clip(0.81 - x**2 - y**2, 0, None)), 0)
    for folder in ("image", "depth"):
        (tmp_path / "data" / folder).mkdir(parents=True)
    strip = np.where(np.abs(x) < 0.1, bump, 0)  # erosion leaves nothing of it
    for name, shape in (("a", bump), ("b", bump), ("c", strip)):
        Image.open(root / "photos" / f"{name}.png").save(tmp_path / "data" / "image" / f"{name}_image.png")
        Image.fromarray((shape * 65535).astype(np.uint16)).save(tmp_path / "data" / "depth" / f"{name}_depth.png")
    command = ("pretrain", "data", "-c", "tiny", "--iterations", 1, "--cycles", 1, "-o", "scored")
    answer = g2s.ok(*command, "--json")
    assert "NaN" not in answer.stdout
    report = json.loads(answer.stdout)
    assert {"side_e2", "mad_deg", "coverage"} < set(report["figures"])
    assert [baseline["name"] for baseline in report["baselines"]] == ["flat depth", "mean depth of the others"]
    assert len(losses(tmp_path / "scored")) == 4

    assert report["missed"] == ["c_image.png"]
    a, b, c = report["photos"]
    assert (c["side_e2"], c["mad_deg"]) == (None, None)
    assert report["figures"]["side_e2"] == pytest.approx((a["side_e2"] + b["side_e2"]) / 2)
    assert report["figures"]["coverage"] == pytest.approx((a["coverage"] + b["coverage"] + c["coverage"]) / 3)
    [row] = [line.split() for line in g2s.ok(*command).stderr.splitlines() if line.startswith("the networks alone")]
    assert row[-3:] == ["1", "of", "3"]
    assert "1 of 3 photos were missed" in (root / "cache" / "scored" / "README.md").read_text()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--seed", 1, "--cycles", 1], "alone was begun with other settings: seed, schedule. Name another folder"),
        (["--as", "tiny"], "There is a category tiny already. Choose another name: --as NAME."),
    ],
)
def test_another_runs_folder_or_category_is_refused(
    root: Path, alone: Path, g2s: Command, more: list[object], message: str
) -> None:
    assert message in g2s.fails(2, *pretrain(root, alone, *more))


def test_a_run_of_another_perceptual_distance_is_refused(root: Path, alone: Path, g2s: Command, tmp_path: Path) -> None:
    shutil.copytree(alone, tmp_path / "run")
    place = tmp_path / "run" / "settings.json"
    place.write_text(json.dumps(json.loads(place.read_text()) | {"perceptual": "another"}))
    message = g2s.fails(2, *pretrain(root, "run"))
    assert "run was begun with other settings: perceptual. Name another folder" in message


def test_an_unusable_photo_is_refused_before_there_is_a_folder(root: Path, g2s: Command, tmp_path: Path) -> None:
    shutil.copytree(root / "photos", tmp_path / "photos")
    (tmp_path / "photos" / "zz.png").write_text("no picture")
    assert "zz.png" in g2s.fails(3, "pretrain", tmp_path / "photos", "--category", "tiny", "-o", "run")
    assert not (tmp_path / "run").exists()


def test_more_processes_than_photos_a_step_are_refused(root: Path, g2s: Command) -> None:
    message = g2s.using(RANK="0", WORLD_SIZE="3").fails(2, *pretrain(root, "many"))
    assert "3 processes cannot share 2 photos a step" in message


@pytest.mark.parametrize(("blocks", "file"), [(1, "inversions/0000.safetensors"), (2300, "samples/cycle-1/00000.npy")])
def test_a_full_disk_is_an_error_that_names_the_file(
    root: Path, g2s: Command, tmp_path: Path, blocks: int, file: str
) -> None:
    shutil.copytree(root / "cache" / "tiny", root / "cache" / "many", dirs_exist_ok=True)
    card = root / "cache" / "many" / "model.toml"
    card.write_text(card.read_text().replace("samples = 6\n", "samples = 9000\n"))  # more bytes than a checkpoint has
    command = [sys.executable, "-m", "g2s_cli", "pretrain", str(root / "photos"), "-c", "many", "-o", "run", "--quiet"]
    answer = subprocess.run(
        ["bash", "-c", f"trap '' XFSZ; ulimit -f {blocks}; exec \"$@\"", "-", *command],
        cwd=tmp_path,
        env=os.environ | g2s.environment | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert f"run/{file} cannot be written: " in answer.stderr
    assert answer.stderr.endswith("Free space. The same command goes on.\n")
