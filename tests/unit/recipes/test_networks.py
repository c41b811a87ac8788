"""The recipe's trained networks: killed trainings are resumed, and what the commands read and write."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import fake_checkpoints
import numpy as np
import pytest
import torch
import typer
from safetensors.torch import load_file
from torch import Tensor
from typer.testing import CliRunner, Result

from g2s_cli import reconstruct
from g2s_cli.errors import UsageError
from g2s_cli.estimators import morphable as fitting
from g2s_cli.estimators import registration
from g2s_cli.estimators.depth_net import DepthNet
from g2s_cli.files import sha256_of
from g2s_cli.gan.inversion import InversionSettings
from g2s_cli.loading import Weights, load_gan, with_gan_size
from g2s_cli.machine import Machine
from g2s_cli.photo.align import CropOptions
from g2s_cli.progress import SilentProgress
from g2s_cli.training import depth_network, morphable, morphable_from_photos
from g2s_cli.training.morphable_from_photos import CHUNK, Round
from g2s_cli.training.networks import NetworksConfig, ViewStatistics, load_networks, train_networks
from g2s_cli.training.trainer import CHECKPOINT, LOG
from g2s_cli.weights.cache import models_root
from g2s_cli.weights.categories import load_category
from g2s_cli.weights.importers import read_checkpoint
from g2s_cli.weights.tensors import load_tensors, submodule_state, write_weights
from recipes.synface.networks import networks_command
from recipes.synface.shape_commands import refine_command, shapes_command, sight_command

pytestmark = pytest.mark.slow

FACE = Path(__file__).parents[2] / "data" / "face.png"
CPU = Machine(torch.device("cpu"), torch.float32)
SILENT = SilentProgress()
Tensors = dict[str, Tensor]


class Killed(Exception):
    pass


class Killer(SilentProgress):
    """Ends a training after so many updates of a phase."""

    def __init__(self, phase: str, after: int) -> None:
        self.phase, self.after, self.current = phase, after, ""

    def begin(self, step: str, total: int) -> None:  # noqa: ARG002
        self.current = step

    def advance(self, done: int, loss: float) -> None:  # noqa: ARG002
        if (self.current, done) == (self.phase, self.after):
            raise Killed


@pytest.fixture(scope="module", autouse=True)
def fast() -> Iterator[None]:
    """Few objects, few iterations."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registration, "ITERATIONS", 4)
        patch.setattr(fitting, "ITERATIONS", 2)
        patch.setattr(depth_network, "FIT_ITERATIONS", 2)
        patch.setattr(depth_network, "BATCH", 2)
        for name, value in {"OBJECTS": 6, "CHUNK": 4, "ROUNDS": 2, "ITERATIONS": 2}.items():
            patch.setattr(morphable, name, value)
        patch.setattr(morphable_from_photos, "INVERSION", InversionSettings(iterations=1, candidates=8))
        yield


@pytest.fixture(scope="module")
def gan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gan") / "gan.safetensors"
    checkpoint = path.with_suffix(".pt")
    checkpoint.write_bytes(fake_checkpoints.saved(fake_checkpoints.gan(16)))
    write_weights(read_checkpoint(checkpoint)[1], path)
    return path


def train(
    gan: Path, folder: Path, progress: SilentProgress = SILENT, pretrained: Path | None = None
) -> tuple[Tensors, ViewStatistics]:
    loaded = load_gan(Weights({}, gan), CPU)
    category = with_gan_size(load_category("synface"), loaded.generator)
    nets = load_networks(pretrained, category, CPU) if pretrained else None
    config = NetworksConfig(updates=6, seed=5, save_every_s=0.0, references=48)
    folder.mkdir(exist_ok=True)
    return train_networks(category, loaded, nets, config, folder, CPU, progress)


@pytest.fixture(scope="module")
def folder(gan: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("trained")


@pytest.fixture(scope="module")
def trained(gan: Path, folder: Path) -> tuple[Tensors, ViewStatistics]:
    """A training without interruption."""
    return train(gan, folder)


@pytest.fixture
def networks(gan: Path, trained: tuple[Tensors, ViewStatistics], tmp_path: Path) -> Path:
    path = tmp_path / "networks.safetensors"
    write_weights(trained[0], path, sha256_of(gan))
    return path


def images(path: Path, count: int, size: int = 16) -> Path:
    np.save(path, np.random.default_rng(0).integers(0, 255, (count, size, size, 3)).astype(np.uint8))
    return path


def invoke(command: Callable[..., None], *words: object) -> Result:
    app = typer.Typer()
    app.command()(command)
    return CliRunner().invoke(app, [*map(str, words), "--device", "cpu"])


def refusal(command: Callable[..., None], *words: object) -> str:
    error = invoke(command, *words).exception
    assert isinstance(error, UsageError)
    return str(error)


def test_killed_in_every_phase_it_ends_as_if_never_killed(
    gan: Path, folder: Path, trained: tuple[Tensors, ViewStatistics], tmp_path: Path
) -> None:
    for phase, after in (("reconstruct", 2), ("labelled views", 1), ("multi-view", 5), ("rounds", 1)):
        with pytest.raises(Killed):
            train(gan, tmp_path / "killed", Killer(phase, after))
    tensors, views = train(gan, tmp_path / "killed")
    assert tensors.keys() == trained[0].keys()
    for name, tensor in trained[0].items():
        assert torch.equal(tensor, tensors[name]), name
    assert views == trained[1]
    assert views.r2.keys() == {"pitch", "yaw", "light_x", "light_y"}
    lines = [json.loads(line) for line in (folder / LOG).read_text().splitlines()]
    ends = [(line["phase"], line["step"]) for line in lines]
    assert ends == [("reconstruct", 3), ("labelled views", 3), ("multi-view", 6), ("rounds", 2)]
    assert lines[0].keys() < lines[1].keys() == lines[2].keys()


def test_pretrained_networks_do_the_last_phase_alone(gan: Path, networks: Path, tmp_path: Path) -> None:
    tensors, _ = train(gan, tmp_path / "more", pretrained=networks)
    assert tensors.keys() == load_file(networks).keys()
    assert (tmp_path / "more" / LOG).read_text().count("\n") == 2
    foreign = tmp_path / "foreign.pth"
    foreign.write_bytes(fake_checkpoints.saved(fake_checkpoints.networks(16)))
    with pytest.raises(UsageError, match="holds no networks with a mean shape"):
        train(gan, tmp_path / "other", pretrained=foreign)
    with pytest.raises(UsageError, match="are for 64 px; the category has 16 px"):
        train(gan, tmp_path / "other", pretrained=models_root() / "synface" / "networks.safetensors")


def test_g2s_reads_what_the_command_writes(gan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, work = tmp_path / "cache" / "tiny", tmp_path / "work"
    out = folder / "networks.safetensors"
    words = (gan, "-o", out, "--work", work, "--updates", 1)
    first = invoke(networks_command, *words)
    assert first.exit_code == 0, first.output
    state = sha256_of(out), (work / CHECKPOINT).stat().st_mtime_ns
    again = invoke(networks_command, *words)
    assert (sha256_of(out), (work / CHECKPOINT).stat().st_mtime_ns) == state
    assert again.stdout == first.stdout
    assert "other settings: seed" in refusal(networks_command, *words, "--seed", 1)

    lines = tomllib.loads(first.stdout)
    hashes = {"sha256": sha256_of(out), "gan_sha256": sha256_of(gan)}
    assert lines["weights"]["networks"] == {"file": "networks.safetensors"} | hashes
    assert len(lines["views"]["mean"]) == 6
    covariance = torch.tensor(lines["views"]["covariance"])
    assert torch.equal(covariance, covariance.T)

    kept, embedded = load_file(out), load_file(models_root() / "synface" / "networks.safetensors")
    ours, theirs = ({name.split(".")[0]: tensor.dtype for name, tensor in some.items()} for some in (kept, embedded))
    assert theirs.keys() - ours.keys() == {"netS"}
    assert all(theirs[name] == dtype for name, dtype in ours.items() if name != "netA")  # which `sight` writes as bytes
    assert torch.equal(kept["base"], kept["base"].flip(-1))

    card = (models_root() / "synface" / "model.toml").read_text()
    stated = tomllib.loads(card)["weights"]
    for part, path in (("gan", gan), ("networks", out)):
        card = card.replace(stated[part]["sha256"], sha256_of(path))
    depth_net = ', { name = "depth_net", weight = 1.0 }'
    assert depth_net in card
    (folder / "model.toml").write_text(card.replace(depth_net, ""))  # none is trained yet
    (folder / "gan.safetensors").write_bytes(gan.read_bytes())
    monkeypatch.setenv("G2S_CACHE", str(folder.parent))
    result = reconstruct(FACE, category="tiny", preset="instant", iterations=2, crop=CropOptions(align=False))
    assert result.factors.depth.shape == (16, 16)


def test_shapes_learns_the_morphable_model_anew_and_keeps_the_rest(gan: Path, networks: Path, tmp_path: Path) -> None:
    out, before = tmp_path / "again.safetensors", load_file(networks)
    of_photos = ("shape.detail", "shape.bias")
    before |= {name: torch.full_like(before[name], 0.01) for name in of_photos}
    write_weights(before, networks, sha256_of(gan))
    done = invoke(shapes_command, gan, networks, "-o", out)
    assert done.exit_code == 0, done.output
    assert tomllib.loads(done.stdout)["weights"]["networks"]["sha256"] == sha256_of(out)
    after = load_file(out)
    assert before.keys() == after.keys()
    for name, tensor in after.items():
        assert tensor.dtype == before[name].dtype, name
        assert torch.equal(tensor, before[name]) != name.startswith("shape."), name  # the seed is another
    assert all(after[name].abs().max() == 0 for name in of_photos)


def test_networks_of_another_kind_are_refused(gan: Path, networks: Path, tmp_path: Path) -> None:
    tensors, out = load_file(networks), tmp_path / "no.safetensors"
    assert "is an input, too" in refusal(shapes_command, gan, networks, "-o", networks)
    write_weights(tensors, networks, "0" * 64)
    assert "with another GAN" in refusal(shapes_command, gan, networks, "-o", out)
    write_weights({name: each for name, each in tensors.items() if name != "mean_depth"}, networks, sha256_of(gan))
    assert "has no template" in refusal(shapes_command, gan, networks, "-o", out)
    some = images(tmp_path / "some.npy", CHUNK)
    assert "holds 32 images, not 33" in refusal(refine_command, gan, networks, some, "--photos", CHUNK + 1, "-o", out)
    large = images(tmp_path / "large.npy", CHUNK, 32)
    words = ("--photos", CHUNK, "-o", out)
    assert "of 32 px, and the GAN makes 16 px" in refusal(refine_command, gan, networks, large, *words)
    write_weights({name: each for name, each in tensors.items() if name != "shape.mean"}, networks, sha256_of(gan))
    missing = "has no morphable model: it lacks shape.mean"
    assert missing in refusal(sight_command, gan, networks, some, *words)
    assert not (tmp_path / "no-run").exists()


def test_refine_learns_from_photos_and_is_resumed(
    gan: Path, networks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds = [Round(reach=10 / 64, shape_basis=True), Round(albedo_basis=True), Round(reach=5 / 64, debiased=True)]
    monkeypatch.setattr(morphable_from_photos, "ROUNDS", [*rounds, Round(bias=True)])
    monkeypatch.setattr(morphable_from_photos, "DETAIL_UPDATES", 2)
    monkeypatch.setattr(morphable_from_photos, "ALBEDO_COMPONENTS", 3)
    words = (gan, networks, images(tmp_path / "photos.npy", CHUNK + 3), "--photos", CHUNK + 3)
    out, killed = tmp_path / "again.safetensors", tmp_path / "killed.safetensors"
    done = invoke(refine_command, *words, "-o", out)
    assert done.exit_code == 0, done.output
    before, after = load_file(networks), load_file(out)
    assert before.keys() == after.keys()
    for name in ("mean", "detail", "factors", "albedo", "variance", "bias"):
        assert not torch.equal(after[f"shape.{name}"], before[f"shape.{name}"]), name
    assert after["shape.look_steps"].shape == (3,)
    same = [name for name in before if not name.startswith("shape.")] + ["shape.lights"]
    assert all(torch.equal(after[name], before[name]) for name in same)

    measure = morphable_from_photos.measure_bias

    def kill(*_: object) -> None:
        raise Killed

    monkeypatch.setattr(morphable_from_photos, "measure_bias", kill)
    assert isinstance(invoke(refine_command, *words, "-o", killed).exception, Killed)
    monkeypatch.setattr(morphable_from_photos, "measure_bias", measure)
    assert invoke(refine_command, *words, "-o", killed).exit_code == 0
    assert all(torch.equal(tensor, after[name]) for name, tensor in load_file(killed).items())


def test_sight_adds_a_depth_network_and_keeps_a_in_bytes(gan: Path, networks: Path, tmp_path: Path) -> None:
    photos = images(tmp_path / "photos.npy", CHUNK)
    out, again = tmp_path / "seeing.safetensors", tmp_path / "again.safetensors"
    words = (gan, networks, photos, "--photos", CHUNK, "--updates", 3)
    done = invoke(sight_command, *words, "-o", out)
    assert done.exit_code == 0, done.output
    assert read_checkpoint(out)[0] == "networks"
    before, after = load_tensors(networks), load_tensors(out)
    assert DepthNet.from_state(submodule_state(after, "netS")).size == 16
    assert load_file(out)["netA.network.0.weight"].dtype == torch.int8
    for name, tensor in before.items():
        torch.testing.assert_close(after[name], tensor, atol=0.01 * tensor.abs().max().item(), rtol=0)
    assert invoke(sight_command, *words, "-o", again).exit_code == 0
    assert all(torch.equal(one, after[name]) for name, one in load_tensors(again).items())
