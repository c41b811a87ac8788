"""Training all networks of a category: D, A, V, L and the template, the morphable model, the depth network."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from g2s_cli.config import Category
from g2s_cli.errors import UsageError
from g2s_cli.estimators.feedforward import FactorNets, NetworkMeans, trained_nets
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
from g2s_cli.training.latent_editing import ATTRIBUTES, REFERENCES, LatentEditor, References
from g2s_cli.training.morphable import EMState, EMTraining, Observations, observe_random_objects
from g2s_cli.training.morphable_from_photos import observe_photos, photo_round
from g2s_cli.training.synthetic import render_pairs
from g2s_cli.training.trainer import CHECKPOINT, Trainer
from g2s_cli.weights.importers import read_checkpoint
from g2s_cli.weights.tensors import quantize

MORPHABLE, MORPHABLE_FROM_PHOTOS, DEPTH_NETWORK = "morphable.pt", "morphable-from-photos.pt", "depth-network.pt"
ZERO_MEANS = NetworkMeans(torch.zeros(6), torch.zeros(4))  # our networks predict views and lights without an offset


@dataclass(frozen=True)
class NetworksConfig:
    """How D, A, V and L are trained.

    Attributes:
        updates: of the last phase, others in proportion; None for the published number.
        save_every_s: seconds between checkpoints.
        references: images that latent directions are regressed on.
    """

    updates: int | None = None
    seed: int = 0
    save_every_s: float = 300.0
    references: int = REFERENCES


@dataclass(frozen=True)
class ViewStatistics:
    """Mean and covariance of the views that V predicts for random objects, and R² of the latent directions."""

    mean: list[float]
    covariance: list[list[float]]
    r2: dict[str, float]

    def to_toml(self) -> str:
        """The table [views] of a model.toml."""
        rows = "".join(f"  {row},\n" for row in self.covariance)
        return f"[views]\nmean = {self.mean}\ncovariance = [\n{rows}]\n"


def train_networks(
    category: Category,
    gan: Gan,
    pretrained: FactorNets | None,
    config: NetworksConfig,
    folder: Path,
    machine: Machine,
    progress: Progress,
) -> tuple[dict[str, Tensor], ViewStatistics]:
    """Train D, A, V, L, the template and the morphable model on a GAN's random images; resumable.

    Args:
        pretrained: networks for the last phase alone; None trains new ones.
        folder: of the checkpoints and the log.

    Returns:
        The tensors of a file of networks.

    Raises:
        G2SError: a checkpoint is damaged, or a loss is not finite.
    """
    seed, sampler = config.seed, sampler_of(gan, category)
    references = References.sample(sampler, seeded_generator(seed, "references"), config.references)
    nets = pretrained or new_networks(category, references, machine.dtype, seed)
    training = FeedForwardTraining(nets, sampler, references, category, seed)
    checkpoint, save_every_s = folder / CHECKPOINT, config.save_every_s
    trainer = Trainer({"networks": training}, checkpoint, Group(), progress, save_every_s=save_every_s)
    training.run(trainer, phases(config.updates, pretrained=pretrained is not None))
    nets, editor = training.nets, LatentEditor.of(training.nets, references)
    template = mean_template(nets, editor, sampler)
    tensors = training.tensors | {"directions": editor.directions.cpu(), "mean_depth": template.depth.cpu()}
    trained = TrainedNetworks(tensors, nets, sampler, template)
    views = references.predict(nets.view_code).cpu()
    statistics = ViewStatistics(
        mean=_rounded(views.mean(dim=0)),
        covariance=[_rounded(row) for row in views.T.cov()],
        r2=dict(zip(ATTRIBUTES, _rounded(editor.r2.cpu()), strict=True)),
    )
    return tensors | learn_morphable_model(trained, editor, seed, folder, progress), statistics


def learn_morphable_model(
    trained: TrainedNetworks, editor: LatentEditor, seed: int, folder: Path, progress: Progress
) -> dict[str, Tensor]:
    """The tensors of a morphable model of a GAN's random objects; resumable. Raises G2SError."""
    training = EMTraining(trained.template.depth.device)
    trainer = Trainer({"model": training}, folder / MORPHABLE, Group(), progress, save_every_s=0.0)
    observe = partial(observe_random_objects, trained, editor, seed, progress)
    initialize = partial(morphable.initial_state, seed=seed)
    return training.run(trainer, morphable.ROUNDS, observe, initialize, morphable.em_round).tensors


def learn_morphable_model_from_photos(
    trained: TrainedNetworks, images: ImageDataset, count: int, seed: int, folder: Path, progress: Progress
) -> dict[str, Tensor]:
    """The tensors of the morphable model, learnt on from the first `count` photos; resumable. Raises G2SError."""
    device = trained.template.depth.device
    training = EMTraining(device)
    trainer = Trainer({"model": training}, folder / MORPHABLE_FROM_PHOTOS, Group(), progress, save_every_s=0.0)

    def initialize(observations: Observations) -> EMState:
        state = EMState.from_tensors(trained.tensors, observations.camera, device)
        return replace(state, coeffs=observations.initial(state.model(observations.modes)))

    rounds = len(morphable_from_photos.ROUNDS)
    observe = partial(observe_photos, trained, images, count, seed, progress)
    return training.run(trainer, rounds, lambda: observe()[0], initialize, partial(photo_round, seed=seed)).tensors


def train_depth_network(
    trained: TrainedNetworks,
    images: ImageDataset,
    count: int,
    updates: int,
    seed: int,
    folder: Path,
    progress: Progress,
) -> dict[str, Tensor]:
    """The tensors of a depth network, trained on recombinations of the first `count` photos; resumable.

    A's come with them, as bytes: every photo's fit changes A, and so the depth network has room in a category's file.

    Raises:
        G2SError: the checkpoint is damaged, or a loss is not finite.
    """
    camera, template = trained.nets.camera, trained.template
    net = new_depth_net(camera.size, template.depth.device, seed)
    trainer = Trainer({"net": net}, folder / DEPTH_NETWORK, Group(), progress)
    if trainer.updates_of("depth network") < updates:
        model = read_morphable_model(trained.tensors, camera, template.depth.device)
        observations, masks = observe_photos(trained, images, count, seed, progress)
        objects = fit_objects(model, observations, masks, progress)
        render = partial(render_pairs, model, template.depth, camera=camera)
        train_depth_net(net, partial(training_batch, objects, render, seed), updates, trainer, trained.nets.dtype)
    parts = {"netS": net, "netA": trained.nets.albedo}
    return {f"{part}.{name}": each for part, one in parts.items() for name, each in quantize(one.state_dict()).items()}


def load_networks(path: Path, category: Category, machine: Machine) -> FactorNets:
    """Networks with a mean shape. Raises UsageError if they are of another kind or size, WeightsError if unreadable."""
    part, tensors = read_checkpoint(path)
    if part != "networks" or "base" not in tensors:
        raise UsageError(f"{path} holds no networks with a mean shape.", "Name a file that this command wrote.")
    nets = trained_nets(tensors, category, ZERO_MEANS)
    if nets.depth.size != category.working_size:
        what = f"The networks of {path} are for {nets.depth.size} px; the category has {category.working_size} px."
        raise UsageError(what, "Leave --from out.")
    return nets.to(machine.device, machine.dtype)


def _rounded(numbers: Tensor) -> list[float]:
    """To four decimals, without negative zeros."""
    return [round(number, 4) + 0.0 for number in numbers.tolist()]
