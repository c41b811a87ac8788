"""The data of the embedded category: python -m recipes.synface --help, from the repository's root."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from g2s_cli.console import output
from g2s_cli.files import sha256_of
from g2s_cli.training.dataset import ImageDataset
from g2s_cli.training.fid import (
    Extractor,
    colour_features,
    face_extractor,
    feature_statistics,
    frechet_distance,
    random_images,
)
from g2s_cli.weights.importers import build_gan, read_checkpoint
from recipes.command_line import run
from recipes.synface.face_model import read_face_model
from recipes.synface.facekit import write_face_model
from recipes.synface.sets import FIRST_TRAINING_SEED, render_set, write_benchmark

VERB = "recipes.synface"
EXTRACTORS: dict[str, Callable[[], Extractor]] = {"faces": face_extractor, "colours": lambda: colour_features}

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)
FaceModelFile = Annotated[Path, typer.Argument(metavar="MODEL", help="ict_face_model.npz.")]
ImagesFile = Annotated[Path, typer.Argument(metavar="PICTURES", help="A .npy file of `render`.")]
Count = Annotated[int, typer.Option("--count", min=1, help="Number of images.")]
Size = Annotated[int, typer.Option("--size", help="Width and height in pixels.")]
FirstSeed = Annotated[int, typer.Option("--first-seed", min=0, help="The first image's seed; the others follow.")]
Processes = Annotated[int, typer.Option("--processes", min=1, help="That render in parallel.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Of the GAN's random images.")]
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
    with output.progress(brief=True) as progress:
        progress.begin("render", count, "")
        read = read_face_model(face_model)
        render_set(read, first_seed, count, size, out, processes, lambda done, _: progress.advance(done, 0.0))
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


if __name__ == "__main__":
    run(app, VERB)
