"""Joint training: which networks each phase trains, on which photos, with which samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from recording import Changes, StopAt
from torch import Tensor

from g2s_cli.config import LightRanges, Stage
from g2s_cli.errors import G2SError
from g2s_cli.estimators.base import MaskedImages, Observation
from g2s_cli.estimators.feedforward import FactorNets
from g2s_cli.estimators.gan2shape.offset_encoder import OffsetEncoder
from g2s_cli.estimators.gan2shape.offsets import EncoderPredictor
from g2s_cli.estimators.gan2shape.sampling import ViewPrior
from g2s_cli.estimators.gan2shape.step2 import GanPrior
from g2s_cli.gan.losses import DiscriminatorDistance
from g2s_cli.gan.stylegan2 import Generator
from g2s_cli.geometry.center_crop import CenterCrop
from g2s_cli.progress import SilentProgress
from g2s_cli.seeding import seeded_generator
from g2s_cli.segmentation.gan_features import Segmenter
from g2s_cli.training import joint
from g2s_cli.training.distributed import Group
from g2s_cli.training.joint import Batches, JointTraining, SampleStore, Subject
from g2s_cli.training.trainer import CHECKPOINT, Trainer
from g2s_cli.weights.categories import load_category

SIZE = 16
FRAME = CenterCrop(1.0, SIZE)
ALL = {"netD", "netA", "netV", "netL"}
CPU = torch.device("cpu")


@pytest.fixture
def subjects(generator: Generator, latents: Tensor, segmenter: Segmenter) -> list[Subject]:
    images = FRAME(generator(latents).clamp(-1, 1))
    ones = torch.ones(SIZE, SIZE)
    return [
        Subject(Observation(image, ones, w, FRAME, segmenter=segmenter), ones, ones)
        for image, w in zip(images, latents, strict=True)
    ]


@pytest.fixture
def training(
    nets: FactorNets,
    generator: Generator,
    distance: DiscriminatorDistance,
    subjects: list[Subject],
    tmp_path: Path,
) -> JointTraining:
    category = replace(load_category("synface"), working_size=SIZE)
    schedule = replace(category.pretraining.preset.schedule, stages=(Stage(1, 1, 1),) * 2, prior=1, batch=2, samples=2)
    views = ViewPrior(torch.zeros(6), 0.01 * torch.eye(6))
    lights = LightRanges((-0.9, 0.9), (-0.3, 0.8), (-0.1, 0.7), -0.4)
    gan = GanPrior(generator, distance, distance, views, lights)
    offset_predictor = EncoderPredictor(generator.mapping, OffsetEncoder(SIZE, 512, width=4), depth=8, relative=True)
    batches, samples = Batches(len(subjects), 1, seed=0), SampleStore(tmp_path / "samples")
    return JointTraining(nets, offset_predictor, gan, schedule, subjects, batches, samples)


def trainer_of(training: JointTraining, folder: Path, progress: SilentProgress = SilentProgress()) -> Trainer:  # noqa: B008
    return Trainer(training.modules, folder / CHECKPOINT, Group(), progress, save_every_s=0.0)


@pytest.mark.parametrize(
    ("symmetry", "flips"),
    [
        ("on", [("albedo", False), ("shape", True), ("albedo", True), ("shape", True)]),
        ("first-stage", [("albedo", False), ("shape", True), ("albedo", False), ("shape", False)]),
        ("off", [("albedo", False), ("shape", False)] * 2),
    ],
)
def test_each_phase_trains_its_networks_with_the_symmetry_of_the_authors(
    training: JointTraining,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    symmetry: str,
    flips: list[tuple[str, bool]],
) -> None:
    calls: list[tuple[str, bool]] = []

    def recorded(step: str, owner: object, name: str) -> Callable[..., Any]:
        original = getattr(owner, name)

        def wrapped(*values: Any, symmetric: bool) -> Any:
            calls.append((step, symmetric))
            return original(*values, symmetric=symmetric)

        return wrapped

    for step, owner, name in (("albedo", joint.PhotoGeometry, "predicted"), ("shape", joint, "shape_loss")):
        monkeypatch.setattr(owner, name, recorded(step, owner, name))
    training = replace(training, schedule=replace(training.schedule, symmetry=symmetry))
    progress = Changes(training.modules)
    trainer = trainer_of(training, tmp_path, progress)
    training.run(trainer)
    assert calls == flips
    expected = {"prior": {"netD"}} | {
        f"cycle {number}, {step}": networks
        for number in (1, 2)
        for step, networks in (("albedo", {"netA"}), ("project", {"netEnc"}), ("collect", set()), ("shape", ALL))
    }
    assert progress.changed == expected
    assert list(trainer.seconds) == list(expected)
    assert not list(training.samples.folder.iterdir())


@pytest.mark.slow
def test_stopped_anywhere_it_ends_the_same(training: JointTraining, tmp_path: Path) -> None:
    initial = {name: module.state_dict() for name, module in training.modules.items()}
    initial = {name: {key: value.clone() for key, value in state.items()} for name, state in initial.items()}

    def run(folder: Path, progress: SilentProgress) -> tuple[dict[str, list[float]], Tensor]:
        for name, module in training.modules.items():
            module.load_state_dict(initial[name])
        trainer = trainer_of(training, folder, progress)
        replace(training, samples=SampleStore(folder / "samples")).run(trainer)
        weights = [value.flatten() for module in training.modules.values() for value in module.state_dict().values()]
        return trainer.losses, torch.cat(weights).clone()

    whole = run(tmp_path / "whole", SilentProgress())
    for moment in (3, 6):  # while samples are collected, and in the second cycle
        folder = tmp_path / str(moment)
        with pytest.raises(KeyboardInterrupt):
            run(folder, StopAt(moment))
        losses, weights = run(folder, SilentProgress())
        assert losses == whole[0]
        assert torch.equal(weights, whole[1])


def test_processes_share_the_photos_of_one_process() -> None:
    batches = Batches(photos=5, size=2, seed=3)
    whole = [batches.share("first", update, Group()) for update in range(20)]
    parts = [
        sorted(batches.share("first", update, Group(0, 2)) + batches.share("first", update, Group(1, 2)))
        for update in range(20)
    ]
    assert parts == whole
    assert all(len({photo for _, photo in slots}) == 2 for slots in whole)
    assert {photo for slots in whole for _, photo in slots} == set(range(5))


def test_the_loss_is_the_mean_over_photos() -> None:
    batches = Batches(photos=5, size=2, seed=3)

    def loss(photo: int, _rng: torch.Generator) -> Iterator[Tensor]:
        yield torch.tensor(float(photo))
        yield torch.tensor(10.0)

    for update in range(3):
        photos = [photo for _, photo in batches.share("any", update, Group())]
        assert sum(batches.mean(loss, "any", update, Group())) == 10 + sum(photos) / 2


def test_each_photo_has_its_share_of_the_samples(training: JointTraining, tmp_path: Path) -> None:
    """The schedule's 5 samples for each of a batch's 2 photos, so that 2 photos have 5 each."""
    training = replace(
        training, schedule=replace(training.schedule, samples=5, batch=1), batches=Batches(len(training.subjects), 2, 0)
    )
    training.project_samples(1, trainer_of(training, tmp_path))
    counts = [len(np.load(training.samples.path(1, photo))) for photo in range(len(training.subjects))]
    assert counts == [-(-5 * 2 // len(training.subjects))] * len(training.subjects)


def test_samples_are_stored_as_bytes(tmp_path: Path) -> None:
    rng = seeded_generator(0)
    mask = torch.ones(4, 1, 4, 4)
    mask[:, :, 0] = 0
    images = torch.rand(4, 3, 4, 4, generator=rng) * 2 - 1
    store = SampleStore(tmp_path / "run" / "samples")
    store.write(1, 2, MaskedImages(images, mask))
    drawn = store.draw(1, 2, 7, rng, CPU)
    assert drawn.image.shape == (7, 3, 4, 4)
    assert not drawn.image[:, :, 0].any()
    gaps = (drawn.image[:, None] - (images * mask)[None]).abs().amax(dim=(2, 3, 4))
    assert gaps.min(dim=1).values.max() <= 1 / 255
    store.path(1, 2).unlink()
    with pytest.raises(G2SError, match=r"00002\.npy is missing\. Delete .*run and train again"):
        store.draw(1, 2, 7, rng, CPU)
