"""What a GAN knows: pictures of random latents as a contact sheet, and one by one as photos to try.

seed ─ method.latents ─▶ w ─ G ─▶ pictures ─▶ sheet.png, and a folder with all of them and their latents
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from PIL import Image
from safetensors.torch import save
from torch import Tensor

from g2s_cli import __version__
from g2s_cli.atomic_folder import check_target, parent_folders, replace_folder
from g2s_cli.errors import UsageError
from g2s_cli.files import atomic_write
from g2s_cli.gan.latents import truncated_latents
from g2s_cli.gan.stylegan2 import Generator
from g2s_cli.loading import Machine, Weights, load_gan
from g2s_cli.mesh.extract import to_bytes
from g2s_cli.progress import Progress
from g2s_cli.result.contact_sheet import contact_sheet
from g2s_cli.weights.catalog import Category

LATENTS, FACTS = "latents.safetensors", "samples.json"
OURS = rf"seed\d+-\d+\.png|{re.escape(LATENTS)}|{re.escape(FACTS)}"  # what g2s writes into a folder of pictures
MAX_COUNT = 100_000  # pictures of a run
MOST_SHEET_PX = 4096  # a side; larger sheets show their pictures smaller


@dataclass(frozen=True)
class SampleOptions:
    """Which pictures: the first `count` of a seed.

    truncation: ψ of the truncation trick, how far latents keep from the mean one: 1 as drawn, 0 all alike.
    """

    count: int
    truncation: float = 0.7
    seed: int = 0

    def check(self) -> SampleOptions:
        """The same. Raises UsageError if it cannot be meant."""
        if not 1 <= self.count <= MAX_COUNT:
            raise UsageError(f"--count {self.count} is out of range.", f"Give 1 to {MAX_COUNT}.")
        if not 0 <= self.truncation <= 1:
            raise UsageError(
                f"--truncation {self.truncation:g} is out of range.",
                "Give 0 (all pictures alike, the mean) to 1 (as random as the GAN was trained).",
            )
        return self

    @property
    def names(self) -> list[str]:
        """What the pictures are called, without an ending."""
        return [f"seed{self.seed}-{number:04}" for number in range(self.count)]


@dataclass(frozen=True)
class SampleOutput:
    """Where pictures go. sheet: all of them in one. folder: each by itself, and their latents; None is nowhere."""

    sheet: Path
    folder: Path | None

    @classmethod
    def of(cls, sheet: Path, *, save: bool, overwrite: bool, gan: Path | None = None) -> SampleOutput:
        """A sheet, and beside it the folder of its name if asked. Raises UsageError if they could not go there.

        gan: the file that the pictures come from, if it is the user's own; it is not to be replaced by them.
        """
        if sheet.suffix != ".png":
            raise UsageError(f"{sheet} is no name for a sheet.", "Name a .png file with -o.")
        if sheet.is_dir():
            raise UsageError(f"{sheet} is a folder.", "Name a .png file with -o.")
        if sheet.exists() and not overwrite:
            raise UsageError(f"{sheet} exists.", "Add --overwrite to replace it, or name another with -o.")
        target = cls(sheet, sheet.with_suffix("") if save else None)
        if target.folder:
            check_target(target.folder, FACTS, overwrite=overwrite, inputs=parent_folders([gan] if gan else []))
        return target


def sample(
    category: Category,
    weights: Weights,
    draw: SampleOptions,
    machine: Machine,
    target: SampleOutput,
    progress: Progress,
) -> dict[str, Any]:
    """Make a GAN's pictures and write them; the facts about them, those of samples.json.

    The same seed gives the same pictures, however many are asked for. All or nothing is written. Raises WeightsError
    for a GAN that cannot be read, G2SError if the disk refuses.
    """
    # In full precision, whatever is fast here: the pictures are to be those of the GAN's file on every machine.
    generator = load_gan(weights, replace(machine, dtype=torch.float32)).generator
    latents = truncated_latents(generator, draw.count, draw.truncation, draw.seed)
    facts = {
        "g2s": __version__,
        "category": category.name,
        "gan_file": str(weights.gan_file) if weights.gan_file else None,
        "weights": weights.hashes(),
        **asdict(draw),
        "size_px": generator.size,
        "pictures": [f"{name}.png" for name in draw.names],
    }
    columns = math.ceil(math.sqrt(draw.count))
    side = min(generator.size, MOST_SHEET_PX // columns)
    tiles = []
    with ExitStack() as stack:
        building = stack.enter_context(replace_folder(target.folder, OURS)) if target.folder else None
        for name, picture in zip(facts["pictures"], _pictures(generator, latents, progress), strict=True):
            if building:
                picture.save(building / name)
            tiles.append(picture.resize((side, side), Image.Resampling.LANCZOS))
        if building:
            (building / LATENTS).write_bytes(save({"w": latents.cpu()}))
            (building / FACTS).write_text(json.dumps(facts, indent=2) + "\n")
        _write(contact_sheet(tiles, columns), target.sheet)
    return facts


@torch.no_grad()
def _pictures(generator: Generator, latents: Float[Tensor, "n d"], progress: Progress) -> Iterator[Image.Image]:
    """The pictures of latents, made some at a time."""
    progress.begin("sample", len(latents))
    done = 0
    for some in latents.split(generator.at_once):
        for image in generator(some):
            yield Image.fromarray(to_bytes(image))
        done += len(some)
        progress.advance(done, 0.0)


def _write(picture: Image.Image, path: Path) -> None:
    with atomic_write(path, "Name another with -o.") as temporary:
        picture.save(temporary, format="PNG")
