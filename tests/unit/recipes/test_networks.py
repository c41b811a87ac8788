"""The recipe of the jointly trained networks: its directions, what it minimises, and that a kill changes nothing."""

from __future__ import annotations

import json
import tomllib
from dataclasses import replace
from pathlib import Path

import made_up
import numpy as np
import pytest
import torch
import typer
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import avg_pool2d
from typer.testing import CliRunner

from g2s_cli import reconstruct
from g2s_cli.config import Category
from g2s_cli.errors import UsageError
from g2s_cli.estimators import morphable as morphing
from g2s_cli.estimators import registration
from g2s_cli.estimators.depth_net import DepthNet
from g2s_cli.estimators.factor_codes import raw_from_depth
from g2s_cli.files import sha256_of
from g2s_cli.gan.inversion import InversionSettings
from g2s_cli.geometry.center_crop import CenterCrop
from g2s_cli.geometry.warp import symmetrize
from g2s_cli.loading import Weights, load_gan, with_gan_size
from g2s_cli.machine import Machine
from g2s_cli.photo.align import CropOptions
from g2s_cli.progress import SilentProgress
from g2s_cli.seeding import seeded_generator
from g2s_cli.weights.cache import models_root
from g2s_cli.weights.categories import load_category
from g2s_cli.weights.importers import read_checkpoint
from g2s_cli.weights.tensors import load_tensors, submodule_state, write_weights
from recipes.synface import joint, refining, registering, shapes, sighting
from recipes.synface.joint import LEARNER, LOG, REGISTERED, SCHEDULE, Learner, first_networks, schedule
from recipes.synface.moving import SPREAD, WIDEST, Gallery, Moves, Source
from recipes.synface.networks import Made, make_networks, networks_command
from recipes.synface.refining import AT_ONCE, Round
from recipes.synface.shape_commands import refine_command, shapes_command, sight_command
from recipes.synface.shapes import Learnt

FACE = Path(__file__).parents[2] / "data" / "face.png"
CPU = Machine(torch.device("cpu"), torch.float32)
BUSY = SilentProgress()


class Killed(Exception):
    pass


class Killer(SilentProgress):
    """A watch that ends the process, so to speak, after so many updates of a run."""

    def __init__(self, run: str, after: int) -> None:
        self.run, self.after, self.under_way = run, after, ""

    def begin(self, step: str, total: int) -> None:  # noqa: ARG002
        self.under_way = step

    def advance(self, done: int, loss: float) -> None:  # noqa: ARG002
        if (self.under_way, done) == (self.run, self.after):
            raise Killed


@pytest.fixture(scope="module")
def gan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gan") / "gan.safetensors"
    checkpoint = path.with_suffix(".pt")
    checkpoint.write_bytes(made_up.saved(made_up.gan(16)))
    write_weights(read_checkpoint(checkpoint)[1], path)
    return path


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few faces, registered badly, four at a time."""
    monkeypatch.setattr(joint, "FACES", 640)
    monkeypatch.setattr(registering, "AT_ONCE", 4)
    monkeypatch.setattr(registration, "UPDATES", 4)
    monkeypatch.setattr(shapes, "FACES", 6)
    monkeypatch.setattr(shapes, "AT_ONCE", 4)
    monkeypatch.setattr(shapes, "ROUNDS", 2)
    monkeypatch.setattr(morphing, "UPDATES", 2)
    monkeypatch.setattr(shapes, "UPDATES", 2)


def result(gan: Path, folder: Path, progress: SilentProgress = BUSY, begin: Path | None = None) -> Made:
    folder.mkdir(exist_ok=True)
    return make_networks(gan, begin, 3, folder, CPU, progress, seed=5, save_every=0.0, faces=48)


def set_out(gan: Path, seed: int) -> tuple[Category, Source, Gallery]:
    """What `made` begins with."""
    loaded = load_gan(Weights({}, gan), CPU)
    config = with_gan_size(load_category("synface"), loaded.generator)
    source = Source(loaded, CenterCrop(config.frame_share, config.working_size))
    return config, source, Gallery.of(source, seeded_generator(seed, "gallery"), 48)


def test_killed_in_every_run_it_ends_as_if_never_killed(gan: Path, tmp_path: Path) -> None:
    whole = result(gan, tmp_path / "whole")
    for run, after in (
        ("alone", 2),
        ("taught", 1),
        ("moved", 12),
        ("reshaped", 2),
        ("register", 8),
        ("registered", 1),
        ("shapes", 1),
    ):
        with pytest.raises(Killed):
            result(gan, tmp_path / "killed", Killer(run, after))
    resumed = result(gan, tmp_path / "killed")
    assert whole.tensors.keys() == resumed.tensors.keys()
    for name, tensor in whole.tensors.items():
        assert torch.equal(tensor, resumed.tensors[name]), name
    assert (whole.view_mean, whole.explained) == (resumed.view_mean, resumed.explained)
    lines = [json.loads(line) for line in (tmp_path / "whole" / LOG).read_text().splitlines()]
    ended = [(line["run"], line["update"]) for line in lines]
    assert ended == [("alone", 8), ("taught", 6), ("moved", 15), ("reshaped", 5), ("registered", 3)]
    terms = [line["terms"].keys() for line in lines]
    assert terms[0] < terms[1] == terms[2] < terms[3] < terms[4]
    assert lines[4]["explained"].keys() == {"pitch", "yaw", "light_x", "light_y"}


def test_faces_of_a_larger_gan_are_averaged_down(tmp_path: Path) -> None:
    path = tmp_path / "gan.pt"
    path.write_bytes(made_up.saved(made_up.gan(32)))
    loaded = load_gan(Weights({}, path), CPU)
    source = Source(loaded, CenterCrop(1.0, 16))
    latents = source.random(3, torch.Generator().manual_seed(0))
    generate = source.show(latents)
    image, features = loaded.generator.forward_features(latents)
    torch.testing.assert_close(generate.image, avg_pool2d(image.clamp(-1, 1), 2))
    torch.testing.assert_close(generate.mask, avg_pool2d(loaded.segmenter.mask(features)[:, None].float(), 2))
    assert result(path, tmp_path / "run").tensors["base"].shape == (
        32,
        32,
    )  # the category's 64 px, or the GAN's if fewer


def test_directions_are_the_planted_ones() -> None:
    """Latents are linear in twelve numbers, of which four are what the networks say."""
    rng = torch.Generator().manual_seed(0)
    mixing = torch.linalg.qr(torch.randn(12, 12, generator=rng)).Q * torch.linspace(1, 2, 12)
    causes = torch.randn(4000, 12, generator=rng)
    latents = causes @ mixing + 3
    scale = torch.tensor([0.1, 0.3, 0.5, 0.2])
    moves = Moves.found(latents, causes[:, :4] * scale - 0.1)

    torch.testing.assert_close(moves.spread, scale, rtol=0.05, atol=0)
    assert moves.explained.min() > 0.99
    units = torch.tensor([torch.pi / 3, torch.pi / 3, 1, 1])
    planted = mixing[:4] / (scale * units)[:, None]
    assert torch.cosine_similarity(moves.directions, planted).min() > 0.99
    torch.testing.assert_close(moves.directions.norm(dim=1), planted.norm(dim=1), rtol=0.05, atol=0)

    # What is asked for comes; all else stays as it was.
    crop_options = torch.tensor([[1.5, -1, 0, 2], [-2, 0.5, 1, 0]]).expand(10, -1, -1)
    moved = (moves.moved(latents[:10], crop_options) - 3) @ mixing.inverse()
    torch.testing.assert_close(moved[..., :4], crop_options, rtol=0, atol=0.3)
    torch.testing.assert_close(moved[..., 4:], causes[:10, None, 4:].expand(-1, 2, -1), rtol=0, atol=0.3)

    views = (moves.some_views(latents[:10], 400, rng) - 3) @ mixing.inverse()
    torch.testing.assert_close(views[..., 2:], causes[:10, None, 2:].expand(-1, 400, -1), rtol=0, atol=0.3)
    torch.testing.assert_close(views[..., :2].std(dim=1), torch.full((10, 2), SPREAD), rtol=0.15, atol=0)
    assert views[..., :2].abs().max() < WIDEST + 0.3


def test_a_run_ends_recentred_if_it_says_so(gan: Path) -> None:
    config, source, gallery = set_out(gan, seed=5)
    for run in SCHEDULE:
        learner = Learner(first_networks(config, gallery, torch.float32, seed=5))
        before, crop_options = learner.base.detach().clone(), learner.recentred(source, gallery)
        assert (before - crop_options).abs().max() > 1e-4
        learner.next_run(run, source, gallery)
        assert torch.equal(learner.base.detach(), crop_options if run.recentred else before)
    assert [run.name for run in SCHEDULE if run.recentred] == ["moved", "reshaped"]


def test_what_begins_from_networks_skips_the_runs_before_them(gan: Path, tmp_path: Path) -> None:
    assert schedule(None, initial_coefficients=False) == SCHEDULE
    assert [run.updates for run in schedule(240, initial_coefficients=False)] == [620, 520, 1200, 400, 240]
    assert [(run.name, run.updates) for run in schedule(240, initial_coefficients=True)] == [("registered", 240)]
    first = result(gan, tmp_path / "first")
    file = tmp_path / "networks.safetensors"
    write_weights(first.tensors, file)
    assert result(gan, tmp_path / "more", begin=file).tensors.keys() == first.tensors.keys()
    assert len((tmp_path / "more" / LOG).read_text().splitlines()) == 1

    foreign = tmp_path / "foreign.pth"
    foreign.write_bytes(made_up.saved(made_up.networks(16)))
    with pytest.raises(UsageError, match="holds no networks with a mean shape"):
        result(gan, tmp_path / "other", begin=foreign)
    with pytest.raises(UsageError, match="are for 64 px; faces are learnt at 16 px"):
        result(gan, tmp_path / "other", begin=models_root() / "synface" / "networks.safetensors")


def test_recentred_the_mean_answer_is_that_to_the_mean_face(gan: Path) -> None:
    config, source, gallery = set_out(gan, seed=0)
    learner = Learner(first_networks(config, gallery, torch.float32, seed=1))
    with torch.no_grad():
        list(learner.untied.depth.parameters())[-1].mul_(10)
    generate = source.show(Moves.of(learner.nets, gallery).mean_face())
    faces = generate.image * generate.mask

    def answer(base: Tensor, images: Tensor) -> Tensor:
        depth = replace(learner.untied, base=symmetrize(base)).depth_of(images)
        raw = raw_from_depth(depth, learner.untied.camera).mean(dim=0)
        return (raw - raw.mean()).detach()

    crop_options = answer(learner.base.detach(), faces)
    recentred = learner.recentred(source, gallery)
    assert (answer(learner.base.detach(), gallery.images) - crop_options).abs().max() > 0.01
    torch.testing.assert_close(answer(recentred, gallery.images), crop_options, rtol=0, atol=1e-3)


def test_lessons_have_a_teacher_and_registered_faces(gan: Path, tmp_path: Path) -> None:
    config, source, gallery = set_out(gan, seed=0)
    learner = Learner(first_networks(config, gallery, torch.float32, seed=1))
    (run,) = schedule(3, initial_coefficients=True)
    with pytest.raises(ValueError, match="without a teacher or registered faces"):
        learner.advance(run, source, gallery, config, seed=1)
    before = symmetrize(learner.base.detach()).clone()
    learner.register(source, gallery, 1, tmp_path / REGISTERED, BUSY)
    learner.advance(run, source, gallery, config, seed=1)
    assert learner.teacher is not None
    torch.testing.assert_close(learner.teacher.base, before)
    assert not any(weight.requires_grad for weight in learner.teacher.parameters("depth", "albedo", "view", "light"))
    learner.teacher = None
    with pytest.raises(ValueError, match="without a teacher or registered faces"):
        learner.advance(run, source, gallery, config, seed=1)


def test_what_the_command_writes_is_what_g2s_takes(gan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = typer.Typer()
    app.command()(networks_command)
    folder = tmp_path / "cache" / "tiny"
    out = folder / "networks.safetensors"
    command = [str(gan), "-o", str(out), "--work", str(tmp_path / "work"), "--updates", "1", "--device", "cpu"]
    first = CliRunner().invoke(app, command)
    assert first.exit_code == 0, first.output
    hashes = sha256_of(out), (tmp_path / "work" / LEARNER).stat().st_mtime_ns
    again = CliRunner().invoke(app, command)
    assert (sha256_of(out), (tmp_path / "work" / LEARNER).stat().st_mtime_ns) == hashes
    assert again.stdout == first.stdout
    assert isinstance(CliRunner().invoke(app, [*command, "--seed", "1"]).exception, UsageError)

    said = tomllib.loads(first.stdout)
    assert said["weights"]["networks"] == {
        "file": "networks.safetensors",
        "sha256": sha256_of(out),
        "gan_sha256": sha256_of(gan),
    }
    assert len(said["views"]["mean"]) == 6
    covariance = torch.tensor(said["views"]["covariance"])
    assert torch.equal(covariance, covariance.T)

    kept, embedded = load_file(out), load_file(models_root() / "synface" / "networks.safetensors")
    ours, theirs = ({name.split(".")[0]: tensor.dtype for name, tensor in some.items()} for some in (kept, embedded))
    assert theirs.keys() - ours.keys() == {"netS"}
    assert all(theirs[name] == dtype for name, dtype in ours.items() if name != "netA")  # which `sight` packs in bytes
    assert torch.equal(kept["base"], kept["base"].flip(-1))

    card = (models_root() / "synface" / "model.toml").read_text()
    stated = tomllib.loads(card)["weights"]
    for part, path in (("gan", gan), ("networks", out)):
        card = card.replace(stated[part]["sha256"], sha256_of(path))
    (folder / "model.toml").write_text(card.replace("sight = 1.0\n", ""))  # nobody has taught an S yet
    (folder / "gan.safetensors").write_bytes(gan.read_bytes())
    monkeypatch.setenv("G2S_CACHE", str(folder.parent))
    result = reconstruct(FACE, category="tiny", preset="instant", iterations=2, crop_options=CropOptions(align=False))
    assert result.factors.depth.shape == (16, 16)


def test_shapes_are_learnt_again_and_the_rest_is_kept(gan: Path, tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(shapes_command)
    networks, out = tmp_path / "networks.safetensors", tmp_path / "again.safetensors"
    whole = result(gan, tmp_path / "run").tensors
    photos = ("shape.detail", "shape.bias")  # told by photos alone, and forgotten
    whole |= {name: torch.full_like(whole[name], 0.01) for name in photos}
    write_weights(whole, networks, sha256_of(gan))
    said = CliRunner().invoke(app, [str(gan), str(networks), "-o", str(out), "--device", "cpu"])
    assert said.exit_code == 0, said.output
    assert tomllib.loads(said.stdout)["weights"]["networks"]["sha256"] == sha256_of(out)
    before, after = load_file(networks), load_file(out)
    assert before.keys() == after.keys()
    for name, tensor in after.items():
        assert tensor.dtype == before[name].dtype, name
        assert torch.equal(tensor, before[name]) != name.startswith("shape."), name  # the seed is another
    assert all(after[name].abs().max() == 0 for name in photos)

    write_weights({name: tensor for name, tensor in whole.items() if name != "mean_depth"}, networks, sha256_of(gan))
    none = tmp_path / "none.safetensors"
    write_weights(whole, none, "0" * 64)
    for given, written, why in (
        (networks, "no", "knows no mean face"),
        (none, "no", "with another GAN"),
        (networks, "networks", "read, too"),
    ):
        written = tmp_path / f"{written}.safetensors"  # noqa: PLW2901
        refused = CliRunner().invoke(app, [str(gan), str(given), "-o", str(written)]).exception
        assert isinstance(refused, UsageError)
        assert why in str(refused)
    assert not (tmp_path / "no-run").exists()


def test_shapes_are_learnt_on_from_photos(gan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bends = [Round(reach=10 / 64, factors=True), Round(reach=5 / 64)]
    monkeypatch.setattr(
        refining, "ROUNDS", [*bends, Round(albedo_basis=True), Round(reach=5 / 64, freed=True), Round(bias=True)]
    )
    monkeypatch.setattr(refining, "BENDS", 2)
    monkeypatch.setattr(refining, "LOOKS", 3)
    monkeypatch.setattr(refining, "INVERSION", InversionSettings(iterations=1, candidates=8))
    app = typer.Typer()
    app.command()(refine_command)
    networks, out, pictures = (tmp_path / name for name in ("networks.safetensors", "again.safetensors", "p.npy"))
    whole = result(gan, tmp_path / "run").tensors
    write_weights(whole, networks, sha256_of(gan))
    np.save(pictures, np.random.default_rng(0).integers(0, 255, (AT_ONCE + 3, 16, 16, 3)).astype(np.uint8))
    command = [str(gan), str(networks), str(pictures), "--photos", str(AT_ONCE + 3), "--device", "cpu"]
    said = CliRunner().invoke(app, [*command, "-o", str(out)])
    assert said.exit_code == 0, said.output
    before, after = load_file(networks), load_file(out)
    assert before.keys() == after.keys()
    for name in ("mean", "detail", "factors", "albedo", "variance", "bias"):
        assert not torch.equal(after[f"shape.{name}"], before[f"shape.{name}"]), name
    assert after["shape.look_steps"].shape == (3,)
    same = [name for name in before if not name.startswith("shape.")] + ["shape.lights"]
    assert all(torch.equal(after[name], before[name]) for name in same)

    real = refining.write

    def written_and_killed(learnt: Learnt, place: Path) -> None:
        real(learnt, place)
        raise Killed

    monkeypatch.setattr(refining, "write", written_and_killed)
    killed = tmp_path / "killed.safetensors"
    assert CliRunner().invoke(app, [*command, "-o", str(killed)]).exit_code != 0
    monkeypatch.setattr(refining, "write", real)
    assert CliRunner().invoke(app, [*command, "-o", str(killed)]).exit_code == 0
    resumed = load_file(killed)
    assert all(torch.equal(resumed[name], tensor) for name, tensor in after.items())

    write_weights({name: tensor for name, tensor in whole.items() if name != "shape.mean"}, networks, sha256_of(gan))
    np.save(tmp_path / "large.npy", np.zeros((AT_ONCE, 32, 32, 3), np.uint8))
    for arguments, why in (
        (command, "does not know how faces differ: it lacks shape.mean"),
        ([*command[:4], str(AT_ONCE + 4)], "holds 35 pictures, not 36"),
    ):
        refused = CliRunner().invoke(app, [*arguments, "-o", str(tmp_path / "no.safetensors")]).exception
        assert isinstance(refused, UsageError)
        assert why in str(refused)
    assert not (tmp_path / "no-run").exists()
    write_weights(whole, networks, sha256_of(gan))
    command[2:] = [str(tmp_path / "large.npy"), "--photos", str(AT_ONCE)]
    refused = CliRunner().invoke(app, [*command, "-o", str(tmp_path / "none.safetensors")]).exception
    assert isinstance(refused, UsageError)
    assert "of 32 px, and the GAN makes 16 px" in str(refused)
    assert not (tmp_path / "none-run").exists()


def test_s_is_taught_by_photos(gan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is added to networks that lack it, and A is kept in bytes beside it."""
    monkeypatch.setattr(refining, "INVERSION", InversionSettings(iterations=1, candidates=8))
    monkeypatch.setattr(sighting, "EXPLAIN_UPDATES", 2)
    monkeypatch.setattr(sighting, "BATCH", 2)
    app = typer.Typer()
    app.command()(sight_command)
    networks, out, pictures = (tmp_path / name for name in ("networks.safetensors", "seeing.safetensors", "p.npy"))
    write_weights(result(gan, tmp_path / "run").tensors, networks, sha256_of(gan))
    np.save(pictures, np.random.default_rng(0).integers(0, 255, (AT_ONCE, 16, 16, 3)).astype(np.uint8))
    command = [str(gan), str(networks), str(pictures), "--photos", str(AT_ONCE), "--device", "cpu", "--updates", "3"]
    said = CliRunner().invoke(app, [*command, "-o", str(out)])
    assert said.exit_code == 0, said.output
    assert read_checkpoint(out)[0] == "networks"
    before, after = load_tensors(networks), load_tensors(out)
    assert DepthNet.from_state(submodule_state(after, "netS")).size == 16
    assert load_file(out)["netA.network.0.weight"].dtype == torch.int8
    for name, tensor in before.items():
        torch.testing.assert_close(after[name], tensor, atol=0.01 * tensor.abs().max().item(), rtol=0)
    again = tmp_path / "again.safetensors"
    assert CliRunner().invoke(app, [*command, "-o", str(again)]).exit_code == 0
    assert all(torch.equal(one, after[name]) for name, one in load_tensors(again).items())
