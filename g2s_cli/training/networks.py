"""Training all networks of a category: D, A, V, L and the template, the morphable model, the depth network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import mean

from torch import Tensor

from g2s_cli.config import Category
from g2s_cli.estimators.morphable_model import read_morphable_model
from g2s_cli.loading import Gan
from g2s_cli.machine import Machine
from g2s_cli.progress import Progress
from g2s_cli.seeding import seeded_generator
from g2s_cli.training import morphable, morphable_from_photos
from g2s_cli.training.dataset import ImageDataset
from g2s_cli.training.depth_network import fit_objects, new_depth_net, train_depth_net, training_batch
from g2s_cli.training.distributed import Group
from g2s_cli.training.feedforward import (
    FeedForwardTraining,
    TrainedNetworks,
    mean_template,
    new_networks,
    phases,
    sampler_of,
)
from g2s_cli.training.latent_editing import ATTRIBUTES, LatentEditor, References
from g2s_cli.training.morphable import EMState, EMTraining, Observations, observe_random_objects
from g2s_cli.training.morphable_from_photos import observe_photos
from g2s_cli.training.pair_file import PairFile
from g2s_cli.training.synthetic import render_pairs
from g2s_cli.training.trainer import Stateful, Trainer
from g2s_cli.weights.tensors import quantize

NETWORKS, MORPHABLE = "networks.pt", "morphable.pt"
MORPHABLE_FROM_PHOTOS, DEPTH_NETWORK = "morphable-from-photos.pt", "depth-network.pt"


@dataclass(frozen=True)
class StageRun:
    """Where a stage keeps its checkpoint, and what it reports to.

    Attributes:
        folder: of the checkpoint and the log.
        seed: of every random draw.
        save_every_s: seconds between checkpoints.
    """

    folder: Path
    seed: int
    progress: Progress
    save_every_s: float = 300.0

    def trainer(self, state: Mapping[str, Stateful], file: str) -> Trainer:
        """A trainer that resumes from a checkpoint of this folder."""
        return Trainer(state, self.folder / file, Group(), self.progress, save_every_s=self.save_every_s)


@dataclass(frozen=True)
class ViewStatistics:
    """Mean and covariance of the views that V predicts for random objects, and R² of the latent directions."""

    mean: list[float]
    covariance: list[list[float]]
    r2: dict[str, float]


def train_networks(
    category: Category, gan: Gan, updates: int, references: int, machine: Machine, run: StageRun
) -> tuple[dict[str, Tensor], ViewStatistics]:
    """Train D, A, V, L and the template on a GAN's random images; resumable.

    Args:
        updates: of the last phase; those of the others are in proportion.
        references: images that latent directions are regressed on.

    Returns:
        The tensors of a file of networks.

    Raises:
        G2SError: a checkpoint is damaged, or a loss is not finite.
    """
    sampler = sampler_of(gan, category)
    samples = References.sample(sampler, seeded_generator(run.seed, "references"), references)
    nets = new_networks(category, samples, machine.dtype, run.seed)
    training = FeedForwardTraining(nets, sampler, samples, category, run.seed)
    training.run(run.trainer({"networks": training}, NETWORKS), phases(updates))
    nets, editor = training.nets, LatentEditor.of(training.nets, samples)
    template = mean_template(nets, editor, sampler)
    views = samples.predict(nets.view_code).cpu()
    statistics = ViewStatistics(
        mean=_rounded(views.mean(dim=0)),
        covariance=[_rounded(row) for row in views.T.cov()],
        r2=dict(zip(ATTRIBUTES, _rounded(editor.r2.cpu()), strict=True)),
    )
    return training.tensors | {"directions": editor.directions.cpu(), "mean_depth": template.depth.cpu()}, statistics


def learn_morphable_model(
    trained: TrainedNetworks, references: int, objects: int, rounds: int, run: StageRun
) -> dict[str, Tensor]:
    """The tensors of a morphable model of a GAN's random objects; resumable. Raises G2SError."""
    training = EMTraining(trained.template.depth.device)
    samples = References.sample(trained.sampler, seeded_generator(run.seed, "references"), references)
    editor = LatentEditor.of(trained.nets, samples)
    observe = partial(observe_random_objects, trained, editor, run.seed, objects, run.progress)
    initialize = partial(morphable.initial_state, seed=run.seed)
    trainer = run.trainer({"model": training}, MORPHABLE)
    return training.run(trainer, rounds, observe, initialize, morphable.em_round).tensors


def learn_morphable_model_from_photos(
    trained: TrainedNetworks, images: ImageDataset, count: int, rounds: int, run: StageRun
) -> dict[str, Tensor]:
    """The tensors of the morphable model, learnt on from the first `count` photos; resumable. Raises G2SError."""
    device = trained.template.depth.device
    training = EMTraining(device)

    def initialize(observations: Observations) -> EMState:
        state = EMState.from_tensors(trained.tensors, observations.camera, device)
        return replace(state, coeffs=observations.initial(state.model(observations.modes)))

    observe = partial(observe_photos, trained, images, count, run.seed, run.progress)
    photo_round = partial(morphable_from_photos.photo_round, seed=run.seed)
    trainer = run.trainer({"model": training}, MORPHABLE_FROM_PHOTOS)
    return training.run(trainer, rounds, lambda: observe()[0], initialize, photo_round).tensors


def train_depth_network(
    trained: TrainedNetworks,
    images: ImageDataset,
    count: int,
    updates: int,
    run: StageRun,
    file: PairFile | None = None,
) -> tuple[dict[str, Tensor], float]:
    """The tensors of a depth network, trained on recombinations of the first `count` photos, and its loss; resumable.

    The loss is the mean of the last tenth of the updates. file: of pairs that are half of each batch.

    Raises:
        G2SError: the checkpoint is damaged, or a loss is not finite.
    """
    camera, template = trained.nets.camera, trained.template
    net = new_depth_net(camera.size, template.depth.device, run.seed)
    trainer = run.trainer({"net": net}, DEPTH_NETWORK)
    if trainer.updates_of("depth network") < updates:
        model = read_morphable_model(trained.tensors, camera, template.depth.device)
        observations, masks = observe_photos(trained, images, count, run.seed, run.progress)
        objects = fit_objects(model, observations, masks, run.progress)
        render = partial(render_pairs, model, template.depth, camera=camera)
        batch = partial(training_batch, objects, render, run.seed, file=file)
        train_depth_net(net, batch, updates, trainer, trained.nets.dtype)
    last = trainer.losses["depth network"][-max(1, updates // 10) :]
    return {f"netS.{name}": each for name, each in quantize(net.state_dict()).items()}, mean(last)


def _rounded(numbers: Tensor) -> list[float]:
    """To four decimals, without negative zeros."""
    return [round(number, 4) + 0.0 for number in numbers.tolist()]
