"""Pairs of image and depth for photos of real people: python -m recipes.portrait --help, from the repository's root."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from g2s_cli.console import output
from g2s_cli.errors import UsageError
from g2s_cli.segmentation.person_net import PersonNet
from g2s_cli.weights.categories import load_category
from g2s_cli.weights.tensors import load_tensors
from recipes.command_line import run
from recipes.portrait.correspondence import match_landmarks, write_renders
from recipes.portrait.crops import read_list, write_crops
from recipes.portrait.fitting import crop_landmarks, fit
from recipes.portrait.sets import write_looks, write_pairs
from recipes.synface.face_model import read_face_model

VERB = "recipes.portrait"
RENDERS = 80  # that landmarks are matched to vertices by
LIKE = "synface"  # the category whose crops and person network are used

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)
FaceModelFile = Annotated[Path, typer.Argument(metavar="MODEL", help="ict_face_model.npz.")]
Out = Annotated[Path, typer.Option("--out", "-o", help="The file or folder to write.")]
Crops = Annotated[Path, typer.Option("--crops", help="The .npz of `crops`.")]
Processes = Annotated[int, typer.Option("--processes", min=1, help="That work in parallel.")]
CPUS = os.cpu_count() or 1


@app.command()
def crops(
    portraits: Annotated[Path, typer.Argument(metavar="FOLDER", help="With portraits.csv and train/.")],
    out: Out = Path("crops.npz"),
    size: Annotated[int, typer.Option("--size", help="Width and height in pixels.")] = 128,
) -> None:
    """Crop and align portraits, and find the person in each."""
    category = load_category(LIKE)
    net = PersonNet.from_state(load_tensors(category.folder / "person.safetensors"))
    listed = read_list(portraits / "portraits.csv", "train")
    with output.progress(brief=True) as progress:
        progress.begin("crop", len(listed), "")
        if category.face_template is None:
            raise UsageError(f"{LIKE} has no landmarks.", "Take a category of faces.")
        write_crops(listed, portraits / "train", category.face_template, net, size, out, progress.advance)
    output.print(out)


@app.command()
def renders(face_model: FaceModelFile, out: Out = Path("renders")) -> None:
    """Render heads for the landmark network."""
    write_renders(read_face_model(face_model), RENDERS, out)
    output.print(out)


@app.command()
def looks(
    face_model: FaceModelFile,
    landmarks: Annotated[Path, typer.Option("--landmarks", help="Of the portraits, by landmarks.py.")],
    render_landmarks: Annotated[Path, typer.Option("--render-landmarks", help="Of `renders`.")],
    crops: Crops = Path("crops.npz"),
    out: Out = Path("looks.npz"),
    processes: Processes = CPUS,
) -> None:
    """Fit the face model to portraits, and take their colours off them."""
    model = read_face_model(face_model)
    points, vertices = match_landmarks(model, render_landmarks, RENDERS)
    with np.load(landmarks) as file, np.load(crops) as cropped:
        places = dict(zip(cropped["files"], cropped["placements"], strict=True))
        found = [(name, every) for name, every in zip(file["files"], file["points"], strict=True) if name in places]
    observed = np.stack([crop_landmarks(every[points], places[name]) for name, every in found])
    fits = fit(model, vertices, np.array([name for name, _ in found]), observed)
    with output.progress(brief=True) as progress:
        progress.begin("looks", len(found), "")
        write_looks(model, fits, crops, out, processes, progress.advance)
    output.print(out)


@app.command()
def pairs(
    face_model: FaceModelFile,
    looks: Annotated[Path, typer.Option("--looks", help="The .npz of `looks`.")] = Path("looks.npz"),
    out: Out = Path("pairs.npy"),
    count: Annotated[int, typer.Option("--count", min=1, help="Number of pairs.")] = 20_000,
    size: Annotated[int, typer.Option("--size", help="Width and height in pixels.")] = 128,
    processes: Processes = CPUS,
) -> None:
    """Render pairs of image and depth, for g2s train --pairs."""
    with output.progress(brief=True) as progress:
        progress.begin("render", count, "")
        write_pairs(read_face_model(face_model), looks, count, size, out, processes, progress.advance)
    output.print(out)


if __name__ == "__main__":
    run(app, VERB)
