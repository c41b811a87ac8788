"""The recipe of the embedded category's GAN: python -m recipes.synface --help, from the repository's root."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import torch
import typer

from g2s_cli.console import output
from g2s_cli.errors import as_g2s_error
from g2s_cli.files import sha256_of
from g2s_cli.loading import Machine
from g2s_cli.run_folder import open_run_folder
from g2s_cli.training.distributed import Group
from g2s_cli.weights.importers import build_gan, read_checkpoint
from g2s_cli.weights.cache import models_root
from recipes.synface import quality
from recipes.synface.face_model import read_face_model
from recipes.synface.facekit import write_face_model
from recipes.synface.networks import networks_command
from recipes.synface.pictures import Pictures
from recipes.synface.running import LEARNER, export, train
from recipes.synface.sets import FIRST_TRAINING_SEED, render_set, write_benchmark
from recipes.synface.shape_commands import refine_command, shapes_command, sight_command
from recipes.synface.states import window_mean
from recipes.synface.training import Learner, Settings

VERB = "recipes.synface"
EMBEDDED = models_root() / "synface" / "gan.safetensors"

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)
FaceModelFile = Annotated[Path, typer.Argument(metavar="MODEL", help="ict_face_model.npz.")]
PicturesFile = Annotated[Path, typer.Argument(metavar="PICTURES", help="A .npy that `render` made.")]
RunFolder = Annotated[Path, typer.Option("--out", "-o", metavar="FOLDER", help="Where the run keeps its work.")]
Begin = Annotated[
    Path | None,
    typer.Option("--from", metavar="FILE", help="A GAN to go on from, of the pictures' size or half of it."),
]
Steps = Annotated[int, typer.Option("--steps", min=1, help="Steps since the beginning, over all runs of the folder.")]
Batch = Annotated[int, typer.Option("--batch", min=4, help="Pictures a step, over all processes.")]
Count = Annotated[int, typer.Option("--count", min=1, help="How many pictures.")]
Size = Annotated[int, typer.Option("--size", help="Width and height in pixels.")]
FirstSeed = Annotated[int, typer.Option("--first-seed", min=0, help="The first picture's seed; the others follow.")]
Processes = Annotated[int, typer.Option("--processes", min=1, help="Rendering side by side.")]
R1Weight = Annotated[float, typer.Option("--r1", min=0, help="Weight of the discriminator's penalty.")]
Rate = Annotated[float, typer.Option("--rate", min=0, help="Adam's, of the discriminator.")]
GeneratorRate = Annotated[float, typer.Option("--generator-rate", min=0, help="Adam's, of the generator.")]
PathWeight = Annotated[float, typer.Option("--path", min=0, help="Weight of path-length regularisation; 0: none.")]
Copies = Annotated[float, typer.Option("--copies", min=0, help="Weight of copying real pictures; 0: fooling alone.")]
HalfLife = Annotated[int, typer.Option("--half-life", min=1, help="Pictures after which the average forgot half.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="The same seed gives the same networks.")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")]
SaveEvery = Annotated[float, typer.Option("--save-every", min=0, metavar="SECONDS", help="Between two savings.")]
CPUS = os.cpu_count() or 1


@app.command()
def model(
    facekit: Annotated[Path, typer.Argument(metavar="FACEKIT", help="A checkout of ICT-VGL/ICT-FaceKit.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The file to write.")] = Path("ict_face_model.npz"),
) -> None:
    """Make ict_face_model.npz of the public face model."""
    write_face_model(facekit, out)
    output.print(out)


@app.command()
def render(
    face_model: FaceModelFile,
    out: Annotated[Path, typer.Option("--out", "-o", help="The .npy to write.")] = Path("pictures.npy"),
    count: Count = 30_000,
    size: Size = 128,
    first_seed: FirstSeed = FIRST_TRAINING_SEED,
    processes: Processes = CPUS,
) -> None:
    """Render training pictures. Killed, the same command goes on."""
    _render(face_model, out, count, size, first_seed, processes)
    output.print(out)


@app.command()
def benchmark(
    face_model: FaceModelFile,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FOLDER", help="The folder to write.")],
    first_seed: FirstSeed,
    count: Count = 100,
    size: Size = 128,
) -> None:
    """Render pictures with true depth, as `g2s evaluate` reads them."""
    write_benchmark(read_face_model(face_model), first_seed, count, size, out)
    output.print(out)


@app.command("train")
def train_command(
    pictures: PicturesFile,
    out: RunFolder = Path("gan-run"),
    begin: Begin = None,
    steps: Steps = 20_000,
    batch: Batch = Settings.batch,
    rate: Rate = Settings.rate,
    generator_rate: GeneratorRate = Settings.generator_rate,
    r1: R1Weight = Settings.r1,
    path: PathWeight = Settings.path,
    copies: Copies = Settings.copies,
    half_life: HalfLife = Settings.half_life,
    seed: Seed = Settings.seed,
    save_every: SaveEvery = 300.0,
    device: Device = "auto",
) -> None:
    """Train a GAN on rendered pictures. Killed, the same command goes on; torchrun shares a step by processes."""
    settings = Settings(
        batch=batch,
        rate=rate,
        generator_rate=generator_rate,
        r1=r1,
        path=path,
        copies=copies,
        half_life=half_life,
        seed=seed,
    )
    _train(pictures, out, begin, steps, settings, save_every, device)
    if Group.of_environment().leads:
        output.print(out)


app.command("networks")(networks_command)
app.command("shapes")(shapes_command)
app.command("refine")(refine_command)
app.command("sight")(sight_command)


@app.command("export")
def export_command(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="A folder of `train`, or several.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="*.safetensors, or *.pt in the rosinality layout.")],
) -> None:
    """Save what a run has learnt, in half precision; prints the file and its sha256.

    Of several runs from one checkpoint: the mean of their generators, and the first one's discriminator.
    """
    _export(runs, out)


@app.command()
def make(
    face_model: FaceModelFile,
    out: RunFolder = Path("gan-run"),
    renders: Annotated[int, typer.Option("--renders", min=1, help="How many pictures to train on.")] = 30_000,
    steps: Steps = 20_000,
    batch: Batch = Settings.batch,
    size: Size = 128,
    begin: Begin = EMBEDDED,
    fresh: Annotated[bool, typer.Option("--fresh", help="Begin with untrained networks instead.")] = False,
    device: Device = "auto",
) -> None:
    """All of it: render, train and export. Killed, the same command goes on."""
    pictures = out / "pictures.npy"
    _render(face_model, pictures, renders, size, FIRST_TRAINING_SEED, CPUS)
    _train(pictures, out / "run", None if fresh else begin, steps, Settings(batch=batch), 300.0, device)
    for suffix in (".pt", ".safetensors"):
        _export([out / "run"], out / f"gan{suffix}")


@app.command()
def judge(
    gan: Annotated[Path, typer.Argument(metavar="GAN", help="A GAN's file.")],
    pictures: PicturesFile,
    count: Count = 10_000,
    features: Annotated[list[str] | None, typer.Option(help="faces (needs dlib), colours; may be repeated.")] = None,
    seed: Seed = 0,
) -> None:
    """Fréchet distances of a GAN's pictures from rendered ones that it has not seen, as JSON."""
    known = {"faces": quality.faces, "colours": lambda: quality.colours}
    kinds = {name: known[name]() for name in features or known}
    generator, _ = build_gan({name: tensor.float() for name, tensor in read_checkpoint(gan)[1].items()})
    real = quality.moments(Pictures.of(pictures).batches(count), kinds)
    own = quality.moments(quality.result(generator, count, seed), kinds)
    distances = {name: quality.frechet_distance(real[name], own[name]) for name in kinds}
    output.print_json({"gan": str(gan), "sha256": sha256_of(gan), "pictures": count, "frechet": distances})


def _render(face_model: Path, out: Path, count: int, size: int, first_seed: int, processes: int) -> None:
    with output.progress(brief=True) as progress:
        progress.begin("render", count)
        read = read_face_model(face_model)
        render_set(read, first_seed, count, size, out, processes, lambda done, _: progress.advance(done, 0.0))


def _train(
    pictures: Path, out: Path, begin: Path | None, steps: int, settings: Settings, save_every: float, device: str
) -> None:
    group = Group.of_environment()
    output.set(quiet=not group.leads, verbose=False)
    machine = Machine.named(group.device(device))
    read = Pictures.of(pictures)
    with ExitStack() as held:
        if group.leads:
            facts = {"pictures": len(read), "size": read.size, "from": sha256_of(begin) if begin else ""}
            held.enter_context(open_run_folder(out, facts, VERB))
        held.enter_context(group.joined(machine.device))
        progress = held.enter_context(output.progress(brief=True))
        group.wait()
        train(out, read, begin, settings, steps, group, machine, progress, save_every=save_every)


def _export(runs: Sequence[Path], out: Path) -> None:
    export(window_mean([Learner.read(run / LEARNER, torch.device("cpu")).kept for run in runs]), out)
    output.print_json({"file": str(out), "sha256": sha256_of(out)})


def main() -> None:
    """Run the command line; errors are one sentence and the exit codes of g2s."""
    try:
        app(prog_name=f"python -m {VERB}")
    except Exception as error:
        failure = as_g2s_error(error)
        output.error(str(failure), error)
        sys.exit(failure.exit_code)


if __name__ == "__main__":
    main()
