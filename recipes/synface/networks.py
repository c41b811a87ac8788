"""python -m recipes.synface networks: the jointly trained networks of the embedded category, from its GAN alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import Tensor

from g2s_cli.config import Category
from g2s_cli.console import output
from g2s_cli.errors import UsageError
from g2s_cli.estimators.feedforward import FactorNets, NetworkMeans, trained_nets
from g2s_cli.files import sha256_of
from g2s_cli.geometry.center_crop import CenterCrop
from g2s_cli.loading import Weights, load_gan, with_gan_size
from g2s_cli.machine import Machine
from g2s_cli.progress import Progress
from g2s_cli.run_folder import open_run_folder
from g2s_cli.seeding import seeded_generator
from g2s_cli.weights.categories import load_category
from g2s_cli.weights.importers import read_checkpoint
from g2s_cli.weights.tensors import converted_sha256, write_weights
from recipes.synface.joint import Learner, first_networks, schedule, train
from recipes.synface.moving import FACTORS, GALLERY, Gallery, Moves, Source
from recipes.synface.registering import mean_face
from recipes.synface.shapes import learn

VERB = "recipes.synface networks"
SHAPES = "shapes.pt"
NO_MEANS = NetworkMeans(torch.zeros(6), torch.zeros(4))  # our networks say views and lights as they are


@dataclass(frozen=True)
class Made:
    """What a training came to: tensors to save, the views that V says of random faces, and R² of the directions."""

    tensors: dict[str, Tensor]
    view_mean: list[float]
    view_covariance: list[list[float]]
    explained: dict[str, float]


def make_networks(
    gan: Path,
    begin: Path | None,
    updates: int | None,
    folder: Path,
    machine: Machine,
    progress: Progress,
    *,
    seed: int = 0,
    save_every: float = 300.0,
    faces: int = GALLERY,
) -> Made:
    """Train networks on a GAN's random faces, at the embedded category's working size or the GAN's smaller one.

    begin: networks to go on from; None begins with untrained ones. updates: of the last run. folder: where the work
    is kept, and gone on with. faces: how many directions are found on. Raises G2SError.
    """
    loaded = load_gan(Weights({}, gan), machine)
    category = with_gan_size(load_category("synface"), loaded.generator)
    source = Source(loaded, CenterCrop(category.frame_share, category.working_size))
    gallery = Gallery.of(source, seeded_generator(seed, "gallery"), faces)
    nets = networks_of(begin, category, machine) if begin else first_networks(category, gallery, machine.dtype, seed)
    learner = Learner(nets)
    runs = schedule(updates, initial_coefficients=begin is not None)
    train(learner, runs, source, gallery, category, seed, folder, progress, save_every=save_every)
    moves, views = Moves.of(learner.nets, gallery), gallery.views(learner.nets).cpu()
    mean = mean_face(learner.nets, moves, source)
    shapes = learn(learner.nets, mean, moves, source, seed, folder / SHAPES, progress)
    known = {"directions": moves.directions.cpu(), "mean_depth": mean.depth.cpu()}
    return Made(
        tensors=learner.tensors | known | shapes.tensors,
        view_mean=_rounded(views.mean(dim=0)),
        view_covariance=[_rounded(row) for row in views.T.cov()],
        explained=dict(zip(FACTORS, _rounded(moves.explained.cpu()), strict=True)),
    )


def networks_of(path: Path, category: Category, machine: Machine) -> FactorNets:
    """Networks that were trained before. Raises UsageError if they are not of this kind, WeightsError if unreadable."""
    part, tensors = read_checkpoint(path)
    if part != "networks" or "base" not in tensors:
        raise UsageError(f"{path} holds no networks with a mean shape.", "Go on from a file that this recipe wrote.")
    nets = trained_nets(tensors, category, NO_MEANS)
    if nets.depth.size != category.working_size:
        what = f"The networks of {path} are for {nets.depth.size} px; faces are learnt at {category.working_size} px."
        raise UsageError(what, "Leave --from out.")
    return nets.to(machine.device, machine.dtype)


def networks_command(
    gan: Annotated[Path, typer.Argument(metavar="GAN", help="The GAN's file.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="*.safetensors.")] = Path("networks.safetensors"),
    begin: Annotated[
        Path | None, typer.Option("--from", metavar="FILE", help="Networks to go on from: the last run alone.")
    ] = None,
    updates: Annotated[
        int | None,
        typer.Option("--updates", min=1, help="Of the last run; others in proportion.", show_default="the published"),
    ] = None,
    work: Annotated[
        Path | None,
        typer.Option("--work", metavar="FOLDER", help="Where the run keeps its work.", show_default="beside the file"),
    ] = None,
    save_every: Annotated[
        float, typer.Option("--save-every", min=0, metavar="SECONDS", help="Between two savings.")
    ] = 300.0,
    seed: Annotated[int, typer.Option("--seed", min=0, help="The same seed gives the same networks.")] = 0,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")] = "auto",
) -> None:
    """Train D, A, V, L, a mean shape and directions in W on a GAN's random faces. Killed, the same command goes on.

    Prints what model.toml must say of them.
    """
    folder = work or out.with_name(f"{out.stem}-run")
    _, tensors = read_checkpoint(gan)
    trained_with = converted_sha256(gan, tensors)
    facts: dict[str, object] = {"gan": trained_with, "from": sha256_of(begin) if begin else "", "updates": updates}
    facts |= {"seed": seed, "runs": [run.name for run in schedule(updates, initial_coefficients=begin is not None)]}
    with open_run_folder(folder, facts, VERB), output.progress() as progress:
        machine = Machine.named(device)
        result = make_networks(gan, begin, updates, folder, machine, progress, seed=seed, save_every=save_every)
    write_weights(result.tensors, out, trained_with)
    output.say(f"R² of the directions: {', '.join(f'{name} {value}' for name, value in result.explained.items())}")
    output.put(as_toml(result, out, trained_with))


def as_toml(result: Made, path: Path, trained_with: str) -> str:
    """The lines of model.toml that go with a file of networks."""
    rows = "".join(f"  {row},\n" for row in result.view_covariance)
    return f"[views]\nmean = {result.view_mean}\ncovariance = [\n{rows}]\n\n{weights_as_toml(path, trained_with)}"


def weights_as_toml(path: Path, trained_with: str) -> str:
    """Those of them that are of the file itself."""
    return f'[weights.networks]\nfile = "{path.name}"\nsha256 = "{sha256_of(path)}"\ngan_sha256 = "{trained_with}"'


def _rounded(numbers: Tensor) -> list[float]:
    """To four places, and without minus nought."""
    return [round(number, 4) + 0.0 for number in numbers.tolist()]
