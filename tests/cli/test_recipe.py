"""The recipe's command line: render, train, export and judge, as its README has it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from installed import Command
from PIL import Image

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
FACE_MODEL = ROOT / "tests" / "data" / "face_model.npz"


def recipe(*words: object, processes: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
    starter = ["-m", "torch.distributed.run", "--nproc-per-node", str(processes)] if processes else []
    return subprocess.run(
        [sys.executable, *starter, "-m", "recipes.synface", *map(str, words)],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of `make` after two steps on twelve pictures of 32 px, from untrained networks."""
    folder = tmp_path_factory.mktemp("made") / "run"
    done = recipe(
        "make", FACE_MODEL, "-o", folder, "--renders", 12, "--steps", 2, "--batch", 4, "--size", 32, "--fresh"
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_make_writes_pictures_a_log_and_both_formats(result: Path) -> None:
    assert (result / "pictures.npy").exists()
    steps = [json.loads(line) for line in (result / "run" / "log.jsonl").read_text().splitlines()]
    assert steps[-1]["step"] == 2
    assert steps[-1]["images_a_second"] > 0
    assert Image.open(result / "run" / "samples-00000008.png").size == (8 * 32, 4 * 32)
    assert torch.load(result / "gan.pt", weights_only=True).keys() == {"g_ema", "d", "latent_avg"}


def test_two_processes_train_one_network(result: Path) -> None:
    words = ("--batch", 8, "--rate", 1e-3, "--generator-rate", 5e-4, "--r1", 0.5, "--steps", 2, "--path", 2,
             "--copies", 10, "--half-life", 400)  # fmt: skip
    done = recipe("train", result / "pictures.npy", "-o", result / "two", *words, processes=2)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [str(result / "two")]  # one of them speaks
    last = json.loads((result / "two" / "log.jsonl").read_text().splitlines()[-1])
    assert (last["step"], last["images"]) == (2, 16)
    settings = torch.load(result / "two" / "checkpoint.pt", weights_only=True)["settings"]
    stated = {
        "batch": 8,
        "lr": 1e-3,
        "generator_lr": 5e-4,
        "r1": 0.5,
        "path": 2.0,
        "rec_weight": 10.0,
        "half_life": 400,
    }
    assert settings.items() >= stated.items()


def test_a_locked_folder_is_refused(result: Path) -> None:
    with FileLock(result / "run" / ".lock"):
        done = recipe("train", result / "pictures.npy", "-o", result / "run", "--batch", 4, "--steps", 3)
    assert done.returncode == 2
    assert f"at work in {result / 'run'}" in done.stderr
    assert len((result / "run" / "log.jsonl").read_text().splitlines()) == 1


def test_the_mean_of_a_run_and_itself_is_the_run(result: Path, tmp_path: Path) -> None:
    done = recipe("export", result / "run", result / "run", "-o", tmp_path / "mean.pt")
    assert done.returncode == 0, done.stderr
    mean, one = (torch.load(path, weights_only=True) for path in (tmp_path / "mean.pt", result / "gan.pt"))
    for name, tensor in one["g_ema"].items():
        torch.testing.assert_close(mean["g_ema"][name], tensor, msg=name)


def test_g2s_reconstructs_with_the_exported_gan(result: Path, g2s: Command, tmp_path: Path) -> None:
    gan, photo = result / "gan.safetensors", ROOT / "examples" / "face.png"
    g2s.ok("reconstruct", photo, "--gan", gan, "--iterations", 1, "--no-align", "-o", "out")
    assert (tmp_path / "out" / "mesh.glb").exists()


def test_judge_prints_the_frechet_distance(result: Path) -> None:
    done = recipe("judge", result / "gan.pt", result / "pictures.npy", "--count", 12, "--features", "colours")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["frechet"]["colours"] > 1  # untrained
    assert said["pictures"] == 12


def test_a_checkpoint_of_another_size_is_refused(result: Path, tmp_path: Path) -> None:
    rendered = recipe("render", FACE_MODEL, "-o", tmp_path / "small.npy", "--count", 4, "--size", 8)
    assert rendered.returncode == 0, rendered.stderr
    done = recipe("train", tmp_path / "small.npy", "-o", tmp_path / "run", "--from", result / "gan.pt")
    assert done.returncode == 2
    assert "generates images of 32 pixels; the training images have 8" in done.stderr
