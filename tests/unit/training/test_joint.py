"""The joint schedule: which networks each phase teaches, on which photos, and when halves are taken to be alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from g2s_cli.estimators.gan2shape.offsets import EncoderPredictor
from g2s_cli.estimators.gan2shape.steps import Observation
from torch import Tensor

from g2s_cli.config import Stage
from g2s_cli.estimators.feedforward import FactorNets
from g2s_cli.estimators.gan2shape.cycles import Guides
from g2s_cli.estimators.gan2shape.offset_encoder import OffsetEncoder
from g2s_cli.estimators.gan2shape.sampling import LightPrior, ViewPrior
from g2s_cli.gan.losses import DiscriminatorDistance
from g2s_cli.gan.stylegan2 import Generator
from g2s_cli.geometry.center_crop import CenterCrop
from g2s_cli.progress import SilentProgress
from g2s_cli.segmentation.gan_features import Segmenter
from g2s_cli.training import joint as schedule
from g2s_cli.training.distributed import Group
from g2s_cli.training.joint import Subject, modules_of, pretrain
from g2s_cli.training.joint_run import Rhythm
from g2s_cli.weights.categories import load_category

SIZE = 16
FRAME = CenterCrop(1.0, SIZE)
ALL = {"netD", "netA", "netV", "netL"}


class Changes(SilentProgress):
    """A watch that writes down which networks each phase has changed."""

    def __init__(self, modules: dict[str, torch.nn.Module]) -> None:
        self.modules, self.changed = modules, {}

    def begin(self, step: str, total: int, quantity: str = "loss") -> None:  # noqa: ARG002
        self.before = self._sums()
        self.step = step

    def advance(self, done: int, loss: float) -> None:  # noqa: ARG002
        after = self._sums()
        self.changed[self.step] = {name for name in after if not torch.equal(after[name], self.before[name])}

    def _sums(self) -> dict[str, Tensor]:
        return {
            name: torch.cat([value.detach().flatten() for value in module.parameters()]).clone()
            for name, module in self.modules.items()
        }


@pytest.fixture
def subjects(generator: Generator, latents: Tensor) -> list[Subject]:
    images = FRAME(generator(latents).clamp(-1, 1))
    ones = torch.ones(SIZE, SIZE)
    return [Subject(Observation(image, ones, w, FRAME), ones, ones) for image, w in zip(images, latents, strict=True)]


@pytest.mark.parametrize(
    ("symmetry", "flips"),
    [
        ("on", [("albedo", False), ("shape", True), ("albedo", True), ("shape", True)]),
        ("first-stage", [("albedo", False), ("shape", True), ("albedo", False), ("shape", False)]),
        ("off", [("albedo", False), ("shape", False)] * 2),
    ],
)
def test_each_phase_teaches_its_networks_and_mirrors_as_the_authors_do(
    nets: FactorNets,
    generator: Generator,
    distance: DiscriminatorDistance,
    segmenter: Segmenter,
    subjects: list[Subject],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    symmetry: str,
    flips: list[tuple[str, bool]],
) -> None:
    asked: list[tuple[str, bool]] = []

    def noted(step: str, name: str) -> Callable[..., Any]:
        as_ever = getattr(schedule, name)

        def wrapped(*values: Any, symmetric: bool) -> Any:
            asked.append((step, symmetric))
            return as_ever(*values, symmetric=symmetric)

        return wrapped

    for step, name in (("albedo", "held_fixed"), ("shape", "shape_loss")):
        monkeypatch.setattr(schedule, name, noted(step, name))
    category = replace(load_category("synface"), working_size=SIZE)
    effort = replace(
        category.pretraining.effort, stages=(Stage(1, 1, 1),) * 2, prior=1, batch=2, samples=2, symmetry=symmetry
    )
    views = ViewPrior(torch.zeros(6), 0.01 * torch.eye(6))
    guides = Guides(distance, distance, views, LightPrior((-0.9, 0.9), (-0.3, 0.8), (-0.1, 0.7), -0.4), segmenter)
    offset_predictor = EncoderPredictor(generator.mapping, OffsetEncoder(SIZE, 512, width=4), depth=8, relative=True)
    progress = Changes(modules_of(nets, offset_predictor))
    rhythm = Rhythm(seed=0, photos_a_step=1, save_every_s=60.0)
    trained = pretrain(
        nets, offset_predictor, generator, subjects, category, effort, guides, rhythm, tmp_path, Group(), progress
    )
    assert asked == flips
    assert trained.phase == 7
    assert progress.changed == {"prior": {"netD"}} | {
        f"cycle {number}, {step}": taught
        for number in (1, 2)
        for step, taught in (("albedo", {"netA"}), ("project", {"netEnc"}), ("collect", set()), ("shape", ALL))
    }
