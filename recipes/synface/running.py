"""A training run in a folder: log.jsonl, sheets of samples, learner.pt to go on from, and what is exported of it."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path

import torch
from PIL import Image

from g2s_cli.errors import UsageError
from g2s_cli.files import atomic_write
from g2s_cli.geometry.image import to_uint8
from g2s_cli.loading import Machine
from g2s_cli.progress import Progress
from g2s_cli.result.contact_sheet import contact_sheet
from g2s_cli.training.distributed import Group
from g2s_cli.weights.importers import build_gan, read_checkpoint
from g2s_cli.weights.tensors import submodule_state, write_weights
from recipes.synface.pictures import Pictures
from recipes.synface.quality import result
from recipes.synface.states import Pair, State, as_checkpoint, fresh, from_checkpoint, generator_of, grown
from recipes.synface.training import Learner, Losses, Settings

LEARNER, LOG = "learner.pt", "log.jsonl"
WIDTHS = {4: 256, 8: 256, 16: 128, 32: 64, 64: 32, 128: 32}  # channels of a fresh network, at each size
SHOWN = 32  # samples on a sheet


def first_pair(checkpoint: Path | None, size: int, seed: int) -> Pair:
    """The networks to begin with: fresh ones, a checkpoint's, or a checkpoint's grown to twice the size.

    Raises UsageError for a checkpoint, or pictures, of another size; WeightsError for a file that is no GAN.
    """
    if checkpoint is None:
        if size not in WIDTHS or size < 8:
            raise UsageError(f"There is no network for pictures of {size} pixels.", "Render them 8, 16, ... 128 wide.")
        return fresh([width for level, width in WIDTHS.items() if level <= size], seed)
    _, tensors = read_checkpoint(checkpoint)
    begun, _ = build_gan(tensors)
    if begun.size not in (size, size // 2):
        what = f"{checkpoint} makes pictures of {begun.size} pixels; those to learn from have {size}."
        raise UsageError(what, f"Render them {begun.size} or {2 * begun.size} wide.")
    pair = from_checkpoint(tensors)
    return pair if begun.size == size else grown(pair, seed)


def train(
    folder: Path,
    pictures: Pictures,
    checkpoint: Path | None,
    settings: Settings,
    steps: int,
    group: Group,
    machine: Machine,
    progress: Progress,
    *,
    save_every: float = 300.0,
) -> Learner:
    """Train until so many steps were made since the beginning; go on where an earlier run of the folder ended.

    save_every: seconds between two savings; a kill costs what came after the last. Raises UsageError
    for other settings than the folder was begun with, and what `first_pair` and `Learner.read` do.
    """
    if settings.batch % (4 * group.size):
        what = f"A batch of {settings.batch} cannot be shared by {group.size} processes in multiples of four."
        raise UsageError(what, f"Use --batch {4 * group.size * max(1, settings.batch // (4 * group.size))}.")
    place = folder / LEARNER
    if place.exists():
        learner = Learner.read(place, machine.device)
        if learner.settings != settings:
            raise UsageError(f"{place} was begun with {learner.settings}.", "Name another folder with -o.")
    else:
        learner = Learner.of(first_pair(checkpoint, pictures.size, settings.seed), settings, machine.device)
    progress.begin("train", steps)
    saved = logged = time.monotonic()
    since = learner.step
    while learner.step < steps:
        losses = learner.advance(pictures, group, machine.dtype)
        progress.advance(learner.step, losses.of_the_generator)
        now = time.monotonic()
        last = learner.step == steps
        if group.leads and (learner.step % 50 == 0 or last):
            _log(folder, learner, losses, (learner.step - since) * settings.batch / (now - logged))
            logged, since = now, learner.step
        if group.leads and (last or now - saved > save_every):
            learner.write(place)
            show(learner.average, folder / f"samples-{learner.seen:08d}.png")
            saved = time.monotonic()
    group.wait()
    return learner


def show(generator: State, path: Path) -> None:
    """A sheet of pictures of the same latents as ever, at truncation 1."""
    pictures = torch.cat(list(result(generator_of(generator, torch.float32).cpu(), SHOWN, seed=0)))
    contact_sheet([Image.fromarray(to_uint8(picture)) for picture in pictures], columns=8).save(path)


def export(pair: Pair, path: Path) -> None:
    """Save a GAN: as g2s keeps it (.safetensors), or in the rosinality layout (.pt)."""
    tensors = as_checkpoint(pair)
    if path.suffix == ".safetensors":
        write_weights(tensors, path)
        return
    if path.suffix != ".pt":
        raise UsageError(f"{path} is neither *.safetensors nor *.pt.", "Name the file so.")
    nested = {
        "g_ema": submodule_state(tensors, "g_ema"),
        "d": submodule_state(tensors, "d"),
        "latent_avg": tensors["latent_avg"],
    }
    with atomic_write(path) as temporary:
        torch.save(nested, temporary)


def _log(folder: Path, learner: Learner, losses: Losses, rate: float) -> None:
    line = {"step": learner.step, "seen": learner.seen, "images_a_second": round(rate, 1)} | asdict(losses)
    with (folder / LOG).open("a") as log:
        log.write(json.dumps(line) + "\n")
