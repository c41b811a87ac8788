"""The recipe of the embedded category's GAN: python -m recipes.synface --help, from the repository's root."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from g2s_cli.console import output
from g2s_cli.errors import as_g2s_error
from g2s_cli.files import sha256_of
from g2s_cli.machine import Machine
from g2s_cli.run_folder import open_run_folder
from g2s_cli.training.dataset import ImageDataset
from g2s_cli.training.distributed import Group
from g2s_cli.training.fid import (
    Extractor,
    colour_features,
    face_extractor,
    feature_statistics,
    frechet_distance,
    random_images,
)
from g2s_cli.training.gan import GanConfig, new_gan_training, train_gan, trained_gan
from g2s_cli.training.gan_networks import average_generators, export_gan
from g2s_cli.weights.cache import models_root
from g2s_cli.weights.importers import build_gan, read_checkpoint
from recipes.synface.face_model import read_face_model
from recipes.synface.facekit import write_face_model
from recipes.synface.networks import networks_command
from recipes.synface.sets import FIRST_TRAINING_SEED, render_set, write_benchmark
from recipes.synface.shape_commands import refine_command, shapes_command, sight_command

VERB = "recipes.synface"
EMBEDDED = models_root() / "synface" / "gan.safetensors"
EXTRACTORS: dict[str, Callable[[], Extractor]] = {"faces": face_extractor, "colours": lambda: colour_features}

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)
FaceModelFile = Annotated[Path, typer.Argument(metavar="MODEL", help="ict_face_model.npz.")]
ImagesFile = Annotated[Path, typer.Argument(metavar="PICTURES", help="A .npy file of `render`.")]
RunFolder = Annotated[Path, typer.Option("--out", "-o", metavar="FOLDER", help="Where the run keeps its work.")]
Begin = Annotated[
    Path | None,
    typer.Option("--from", metavar="FILE", help="A GAN to begin with, of the images' size or half of it."),
]
Steps = Annotated[int, typer.Option("--steps", min=1, help="Updates in total, over all runs of the folder.")]
Batch = Annotated[int, typer.Option("--batch", min=4, help="Images an update, over all processes.")]
Count = Annotated[int, typer.Option("--count", min=1, help="Number of images.")]
Size = Annotated[int, typer.Option("--size", help="Width and height in pixels.")]
FirstAdaTarget = Annotated[
    float, typer.Option("--ada", min=0, max=1, help="Target of adaptive augmentation: 0.6, or 0 for none.")
]
AdaImages = Annotated[int, typer.Option("--ada-images", min=1, help="In which its probability can rise to 1.")]
Seed = Annotated[int, typer.Option("--first-seed", min=0, help="The first image's seed; the others follow.")]
Processes = Annotated[int, typer.Option("--processes", min=1, help="That render in parallel.")]
R1Weight = Annotated[float, typer.Option("--r1", min=0, help="Weight of the R1 penalty.")]
Rate = Annotated[float, typer.Option("--rate", min=0, help="The discriminator's learning rate.")]
GeneratorRate = Annotated[float, typer.Option("--generator-rate", min=0, help="The generator's learning rate.")]
PathWeight = Annotated[float, typer.Option("--path", min=0, help="Weight of path-length regularisation; 0: none.")]
RecWeight = Annotated[
    float, typer.Option("--rec-weight", "--copies", min=0, help="Weight of reconstructing real images; 0: none.")
]
HalfLife = Annotated[int, typer.Option("--half-life", min=1, help="Of the generator's moving average, in images.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="The same seed gives the same networks.")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")]
SaveEvery = Annotated[float, typer.Option("--save-every", min=0, metavar="SECONDS", help="Between two checkpoints.")]
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
    images: ImagesFile,
    out: RunFolder = Path("gan-run"),
    begin: Begin = None,
    steps: Steps = 20_000,
    batch: Batch = GanConfig.batch,
    rate: Rate = GanConfig.lr,
    generator_rate: GeneratorRate = GanConfig.generator_lr,
    r1: R1Weight = GanConfig.r1,
    path: PathWeight = GanConfig.path,
    rec_weight: RecWeight = GanConfig.rec_weight,
    half_life: HalfLife = GanConfig.half_life,
    ada: AdaTarget = GanConfig.ada_target,
    ada_images: AdaImages = GanConfig.ada_images,
    seed: Seed = GanConfig.seed,
    save_every: SaveEvery = 300.0,
    device: Device = "auto",
) -> None:
    """Train a GAN on rendered images. Killed, the same command goes on; with torchrun, processes share a batch."""
    config = GanConfig(
        batch=batch,
        lr=rate,
        generator_lr=generator_rate,
        r1=r1,
        path=path,
        rec_weight=rec_weight,
        half_life=half_life,
        ada_target=ada,
        ada_images=ada_images,
        seed=seed,
    )
    _train(images, out, begin, steps, config, save_every, device)
    if Group.from_environment().is_main:
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
    """Save the GAN of a run in half precision; prints the file and its SHA-256.

    Of several runs from one GAN: the mean of their generators, and the first one's discriminator.
    """
    _export(runs, out)


@app.command()
def make(
    face_model: FaceModelFile,
    out: RunFolder = Path("gan-run"),
    renders: Annotated[int, typer.Option("--renders", min=1, help="Number of training images.")] = 30_000,
    steps: Steps = 20_000,
    batch: Batch = GanConfig.batch,
    size: Size = 128,
    begin: Begin = EMBEDDED,
    fresh: Annotated[bool, typer.Option("--fresh", help="Begin with untrained networks.")] = False,
    device: Device = "auto",
) -> None:
    """All of it: render, train and export. Killed, the same command goes on."""
    images = out / "pictures.npy"
    _render(face_model, images, renders, size, FIRST_TRAINING_SEED, CPUS)
    _train(images, out / "run", None if fresh else begin, steps, GanConfig(batch=batch), 300.0, device)
    for suffix in (".pt", ".safetensors"):
        _export([out / "run"], out / f"gan{suffix}")


@app.command()
def judge(
    gan: Annotated[Path, typer.Argument(metavar="GAN", help="A GAN's file.")],
    images: ImagesFile,
    count: Count = 10_000,
    features: Annotated[list[str] | None, typer.Option(help="faces (needs dlib), colours; may be repeated.")] = None,
    seed: Seed = 0,
) -> None:
    """Fréchet distances between a GAN's images and rendered ones it was not trained on, as JSON."""
    extractors = {name: EXTRACTORS[name]() for name in features or EXTRACTORS}
    generator, _ = build_gan({name: tensor.float() for name, tensor in read_checkpoint(gan)[1].items()})
    real = feature_statistics(ImageDataset.of(images).batches(count), extractors)
    fake = feature_statistics(random_images(generator, count, seed), extractors)
    distances = {name: frechet_distance(real[name], fake[name]) for name in extractors}
    output.print_json({"gan": str(gan), "sha256": sha256_of(gan), "pictures": count, "frechet": distances})


def _render(face_model: Path, out: Path, count: int, size: int, first_seed: int, processes: int) -> None:
    with output.progress(brief=True) as progress:
        progress.begin("render", count)
        read = read_face_model(face_model)
        render_set(read, first_seed, count, size, out, processes, lambda done, _: progress.advance(done, 0.0))


def _train(
    images: Path, out: Path, begin: Path | None, steps: int, config: GanConfig, save_every_s: float, device: str
) -> None:
    group = Group.from_environment()
    output.set(quiet=not group.is_main, verbose=False)
    machine = Machine.named(group.device(device))
    dataset = ImageDataset.of(images)
    with ExitStack() as stack:
        if group.is_main:
            facts = {"pictures": len(dataset), "size": dataset.size, "from": sha256_of(begin) if begin else ""}
            stack.enter_context(open_run_folder(out, facts, VERB))
        stack.enter_context(group.connected(machine.device))
        progress = stack.enter_context(output.progress(brief=True))
        group.barrier()
        training = new_gan_training(begin, config, dataset, machine, group)
        train_gan(training, steps, out, progress, save_every_s=save_every_s)


def _export(runs: Sequence[Path], out: Path) -> None:
    export_gan(average_generators([trained_gan(run) for run in runs]), out)
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
