"""The recipe of the person network: python -m recipes.person --help, from the repository's root."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from PIL import Image

from g2s_cli.console import output
from g2s_cli.errors import ImageError
from g2s_cli.files import sha256_of
from g2s_cli.geometry.placement import Placement
from g2s_cli.machine import Machine
from g2s_cli.photo.align import CropOptions, align
from g2s_cli.photo.crop import crop_photo
from g2s_cli.photo.decode import read_image
from g2s_cli.run_folder import open_run_folder
from g2s_cli.segmentation.person_net import PersonNet
from g2s_cli.training.distributed import Group
from g2s_cli.training.person_net import MaskedPhoto, train_person_net, training_batch
from g2s_cli.training.trainer import CHECKPOINT, Trainer
from g2s_cli.weights.categories import load_category
from g2s_cli.weights.tensors import load_tensors, save_weights
from recipes.command_line import run
from recipes.person.mediapipe_weights import read_selfie_segmentation

VERB = "recipes.person"
CATEGORY = "synface"  # whose crops the frames surround
FACE = slice(20, 44)  # of 64 pixels a side: the middle of a crop, which a usable mask covers
MIN_FACE = 0.9

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)
Folder = Annotated[Path, typer.Argument(metavar="FOLDER")]
OutFolder = Annotated[Path, typer.Option("--out", "-o", metavar="FOLDER", help="Masks, and sets.json that lists them.")]
OutFile = Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="*.safetensors.")]


@app.command()
def start(tflite: Annotated[Path, typer.Argument(metavar="TFLITE")], out: OutFile = Path("start.safetensors")) -> None:
    """Convert selfie_segmentation.tflite of the wheel mediapipe. Needs the package tflite."""
    names = PersonNet().state_dict()
    arrays = [torch.from_numpy(array.copy()) for array in read_selfie_segmentation(tflite.read_bytes())]
    save_weights(dict(zip(names, arrays, strict=True)), out)
    output.print(out)


@app.command()
def label(photos: Folder, out: OutFolder) -> None:
    """Mask the photos of a folder with MediaPipe's selfie segmentation. Needs the package mediapipe.

    Photos without a face are left out, and those whose mask does not cover it.
    """
    import mediapipe  # type: ignore[import-not-found,unused-ignore]  # noqa: PLC0415

    selfies = mediapipe.solutions.selfie_segmentation.SelfieSegmentation(model_selection=0)
    template = load_category(CATEGORY).face_template
    entries = []
    for path in sorted(photos.iterdir()):
        try:
            image = read_image(path, [])
            crop = align(path, image, template, CropOptions(face=1)).placement
        except ImageError:
            continue
        mask = Image.fromarray((selfies.process(np.array(image)).segmentation_mask * 255 + 0.5).astype(np.uint8))
        if np.array(crop_photo(mask, crop, 64))[FACE, FACE].mean() > MIN_FACE * 255:
            entries.append(_entry(path, out, mask, crop))
    _write(entries, out)


@app.command()
def renders(benchmark: Folder, out: OutFolder) -> None:
    """Mask the renders that `recipes.synface benchmark` made, by their depth."""
    entries = []
    for path in sorted((benchmark / "image").iterdir()):
        depth = np.array(Image.open(benchmark / "depth" / path.name.replace("_image", "_depth")))
        mask = Image.fromarray(np.where(depth > 0, 255, 0).astype(np.uint8))
        entries.append(_entry(path, out, mask, Placement.from_box(0, 0, mask.width)))
    _write(entries, out)


@app.command()
def train(
    photos: Folder,
    rendered: Folder,
    begin: Annotated[Path, typer.Option("--from", metavar="FILE", help="Of `start`.")],
    out: OutFile = Path("person.safetensors"),
    updates: Annotated[int, typer.Option("--updates", min=1)] = 800,
    seed: Annotated[int, typer.Option("--seed", min=0)] = 0,
) -> None:
    """Fine-tune on the folders of `label` and `renders`. Killed, the same command goes on. Prints file and SHA-256."""
    folder = out.with_name(f"{out.stem}-run")
    facts: dict[str, object] = {"from": sha256_of(begin), "updates": updates, "seed": seed}
    with open_run_folder(folder, facts, VERB), output.progress(brief=True) as progress:
        machine, group = Machine.named("cpu"), Group()
        net = PersonNet.from_state(load_tensors(begin)).train().requires_grad_(True).to(machine.device)
        batch = partial(training_batch, _read(photos), _read(rendered), seed)
        trainer = Trainer({"net": net}, folder / CHECKPOINT, group, progress, settings=facts)
        train_person_net(net, batch, updates, trainer)
    save_weights({name: tensor.half() for name, tensor in net.state_dict().items()}, out)
    output.print_json({"file": str(out), "sha256": sha256_of(out)})


def _entry(photo: Path, out: Path, mask: Image.Image, crop: Placement) -> dict[str, object]:
    """Save a mask, and say where it belongs."""
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{photo.stem}.png"
    mask.save(path)
    return {"photo": str(photo.resolve()), "mask": path.name, "crop": [crop.x, crop.y, crop.side, crop.turn_rad]}


def _write(entries: list[dict[str, object]], out: Path) -> None:
    (out / "sets.json").write_text(json.dumps(entries, indent=0))
    output.print(out)


def _read(folder: Path) -> list[MaskedPhoto]:
    entries = json.loads((folder / "sets.json").read_text())
    return [MaskedPhoto(Path(one["photo"]), folder / one["mask"], Placement(*one["crop"])) for one in entries]


if __name__ == "__main__":
    run(app, VERB)
