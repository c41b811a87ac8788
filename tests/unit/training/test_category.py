"""Making a category in stages: what a killed run resumes, what the folder holds, and what is refused."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import fake_checkpoints
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from g2s_cli import reconstruct
from g2s_cli.errors import UsageError
from g2s_cli.estimators import morphable as fitting
from g2s_cli.estimators import registration
from g2s_cli.files import sha256_of
from g2s_cli.gan.inversion import InversionSettings
from g2s_cli.machine import Machine
from g2s_cli.photo.align import CropOptions
from g2s_cli.progress import SilentProgress
from g2s_cli.training import depth_network, morphable, morphable_from_photos, train_config
from g2s_cli.training.category import CategoryTraining
from g2s_cli.training.distributed import Group
from g2s_cli.training.train_config import DepthStage, MorphableStage, NetworksStage, PhotosStage, TrainConfig
from g2s_cli.weights.categories import load_category
from g2s_cli.weights.importers import read_checkpoint

FACE = Path(__file__).parents[2] / "data" / "face.png"
CPU = Machine(torch.device("cpu"), torch.float32)
CONFIG = TrainConfig(
    title="Noise",
    licence="CC0",
    networks=NetworksStage(updates=6, references=48),
    morphable=MorphableStage(objects=6, rounds=2),
    photos=PhotosStage(count=6, rounds=3),
    depth=DepthStage(count=6, updates=3),
    category={"warn": {"least_psnr_db": 3.0}},
)


class Killed(Exception):
    pass


class Killer(SilentProgress):
    """Ends a training after so many updates of a step."""

    def __init__(self, step: str, after: int) -> None:
        self.step, self.after, self.current = step, after, ""

    def begin(self, step: str, total: int, quantity: str = "loss") -> None:  # noqa: ARG002
        self.current = step

    def advance(self, done: int, loss: float) -> None:  # noqa: ARG002
        if (self.current, done) == (self.step, self.after):
            raise Killed


@pytest.fixture(scope="module", autouse=True)
def few_iterations() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registration, "ITERATIONS", 4)
        patch.setattr(fitting, "ITERATIONS", 2)
        patch.setattr(depth_network, "FIT_ITERATIONS", 2)
        patch.setattr(depth_network, "BATCH", 2)
        patch.setattr(morphable, "CHUNK", 4)
        patch.setattr(morphable, "ITERATIONS", 2)
        patch.setattr(morphable_from_photos, "CHUNK", 4)
        patch.setattr(morphable_from_photos, "DETAIL_UPDATES", 2)
        patch.setattr(morphable_from_photos, "INVERSION", InversionSettings(iterations=1, candidates=8))
        yield


@pytest.fixture(scope="module")
def gan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GAN of 16 px in the rosinality layout."""
    path = tmp_path_factory.mktemp("gan") / "gan.pt"
    path.write_bytes(fake_checkpoints.saved(fake_checkpoints.gan(16)))
    return path


def training_of(gan: Path | None, folder: Path, config: TrainConfig = CONFIG, **options: object) -> CategoryTraining:
    values: dict[str, object] = {"photos": None, "begin": None, "seed": 5, "progress": SilentProgress()}
    training = CategoryTraining(config, gan, folder=folder, machine=CPU, save_every_s=0.0, **values | options)  # type: ignore[arg-type]
    training.work.mkdir(parents=True, exist_ok=True)
    return training


@pytest.fixture(scope="module")
def trained(gan: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a category made without interruption."""
    folder = tmp_path_factory.mktemp("trained") / "noise"
    training_of(gan, folder).run()
    return folder


@pytest.mark.slow
def test_every_preset_reconstructs_with_the_category(trained: Path) -> None:
    category = load_category(f"{trained}/")
    assert (category.title, category.image_size, category.least_psnr_db) == ("Noise", 16, 3.0)
    assert {"instant", "fast", "paper"} <= category.presets.keys()
    for preset in category.presets:
        options = {"preset": preset, "iterations": 1, "crop": CropOptions(align=False)}
        result = reconstruct(FACE, category=f"{trained}/", **options)
        assert result.factors.depth.shape == (16, 16), preset
        assert result.category == str(trained)


@pytest.mark.slow
def test_the_folder_states_what_it_holds(gan: Path, trained: Path) -> None:
    stated = tomllib.loads((trained / "model.toml").read_text())["weights"]
    hashes = {part: sha256_of(trained / entry["file"]) for part, entry in stated.items()}
    assert {part: entry["sha256"] for part, entry in stated.items()} == hashes
    assert stated["networks"]["gan_sha256"] == hashes["gan"]
    card = (trained / "README.md").read_text()
    assert all(text in card for text in (*hashes.values(), "| networks |", "seed 5", "CC0"))
    assert load_file(trained / "networks.safetensors")["netA.network.0.weight"].dtype == torch.int8
    tensors, kept = read_checkpoint(gan)[1], read_checkpoint(trained / "gan.safetensors")[1]
    assert all(torch.equal(kept[name], tensor) for name, tensor in tensors.items())


@pytest.mark.slow
def test_killed_in_every_stage_it_ends_as_if_never_killed(gan: Path, trained: Path, tmp_path: Path) -> None:
    steps = [("reconstruct", 2), ("labelled views", 1), ("multi-view", 5), ("rounds", 1), ("depth network", 2)]
    for step, after in steps:
        with pytest.raises(Killed):
            training_of(gan, tmp_path / "noise", progress=Killer(step, after)).run()
    training_of(gan, tmp_path / "noise").run()
    for name in ("gan.safetensors", "networks.safetensors", "model.toml"):
        assert (tmp_path / "noise" / name).read_bytes() == (trained / name).read_bytes(), name


@pytest.mark.slow
def test_photos_alone_make_a_gan_first(tmp_path: Path) -> None:
    crops = tmp_path / "crops.npy"
    np.save(crops, np.random.default_rng(0).integers(0, 255, (6, 16, 16, 3)).astype(np.uint8))
    stage = replace(CONFIG.gan, size=16, updates=3, batch=4, encoder_updates=1)
    training = training_of(None, tmp_path / "noise", replace(CONFIG, gan=stage), photos=crops)
    done = training.run(until="gan")
    assert list(done) == ["crops", "gan"]
    assert training.gan.generator.size == 16
    assert training.run(stage="gan")["gan"]["updates"] == 3


def test_stages_that_do_not_exist_or_lack_others_are_refused(gan: Path, tmp_path: Path) -> None:
    training = training_of(gan, tmp_path / "noise")
    with pytest.raises(UsageError, match=r"no stage 'nose'\. Choose one of: gan, crops, networks"):
        training.run(until="nose")
    with pytest.raises(UsageError, match=r"depth needs gan, which is not done\. Use --until depth"):
        training.run(stage="depth")


@pytest.mark.parametrize(
    ("count", "size", "message"),
    [(6, 32, "are 32 px a side, and the GAN has 16 px"), (5, 16, "5 photos that can be used; the config asks for 6")],
)
def test_photos_that_do_not_fit_are_refused(gan: Path, tmp_path: Path, count: int, size: int, message: str) -> None:
    crops = tmp_path / "crops.npy"
    np.save(crops, np.zeros((count, size, size, 3), np.uint8))
    with pytest.raises(UsageError, match=message):
        training_of(gan, tmp_path / "noise", photos=crops).run(until="crops")


def test_a_folder_s_photos_are_cropped_and_others_left_out(gan: Path, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(6):
        (photos / f"{number}.png").write_bytes(FACE.read_bytes())
    (photos / "broken.png").write_bytes(b"no image")
    figures = training_of(gan, tmp_path / "noise", photos=photos).run(until="crops")["crops"]
    assert (figures["crops"], figures["refused"]) == (6, 1)
    assert np.load(tmp_path / "noise" / "work" / "crops.npy").shape == (6, 16, 16, 3)
    assert "broken.png" in (tmp_path / "noise" / "work" / "refused.txt").read_text()


def written(folder: Path, text: str) -> Path:
    path = folder / "train.toml"
    path.write_text(text)
    return path


def test_a_config_sets_numbers_and_keeps_the_others(tmp_path: Path) -> None:
    config = TrainConfig.read(written(tmp_path, 'like = "synface"\n[gan]\nr1 = 2\n[depth]\nupdates = 7\n'))
    assert (config.like, config.gan.r1, config.depth) == ("synface", 2.0, DepthStage(updates=7))
    assert config.networks == TrainConfig.read(None).networks
    assert config.presets == train_config.PRESETS


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[depth]\nupdate = 7", "unknown key depth.update; known are count, updates"),
        ("depths = 7", "unknown key depths"),
        ("[gan]\nr1 = 'much'", "gan.r1 is 'much', not of type float"),
        ("[networks]\nupdates = -1", "networks.updates is negative"),
        ("[networks", "cannot be used"),
    ],
)
def test_a_config_that_cannot_be_used_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        TrainConfig.read(written(tmp_path, text))


def test_tiny_changes_numbers_alone() -> None:
    tiny = TrainConfig(title="T").tiny()
    assert tiny.title == "T"
    assert tiny.networks.updates < TrainConfig().networks.updates


def test_settings_name_all_that_the_result_depends_on(gan: Path, tmp_path: Path) -> None:
    one = training_of(gan, tmp_path / "a").settings
    assert one != training_of(gan, tmp_path / "a", seed=6).settings
    assert one != training_of(gan, tmp_path / "a", replace(CONFIG, depth=DepthStage(6, 4))).settings
    assert one == training_of(gan, tmp_path / "b").settings


class LateProcess(Group):
    """The second of two processes. The first one decided while no stage was done, and has finished the first stage."""

    waited = 0

    def all_gather(self, text: str) -> list[str]:
        return [json.dumps(["gan", "crops"]), text]

    def barrier(self) -> None:
        LateProcess.waited += 1


def test_a_late_process_waits_for_every_stage_of_the_first(gan: Path, tmp_path: Path) -> None:
    """It would otherwise begin the next stage while the first process waits for it at the end of this one."""
    training_of(gan, tmp_path).run(until="gan")
    training_of(gan, tmp_path, group=LateProcess(1, 2)).run(until="crops")
    assert LateProcess.waited == 2
