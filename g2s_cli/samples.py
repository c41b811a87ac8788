"""Random images of a GAN: a contact sheet, and optionally a folder with every image and their latents."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from PIL import Image
from safetensors.torch import save
from torch import Tensor

from g2s_cli import __version__
from g2s_cli.atomic_folder import check_file_target, check_target, parent_folders, replace_folder
from g2s_cli.config import Category
from g2s_cli.errors import UsageError
from g2s_cli.files import atomic_write
from g2s_cli.gan.latents import truncated_latents
from g2s_cli.gan.stylegan2 import Generator
from g2s_cli.geometry.image import to_uint8
from g2s_cli.loading import Weights, load_gan
from g2s_cli.machine import Machine
from g2s_cli.progress import Progress
from g2s_cli.result.contact_sheet import contact_sheet

LATENTS, FACTS = "latents.safetensors", "samples.json"
OWNED_PATHS = rf"seed\d+-\d+\.png|{re.escape(LATENTS)}|{re.escape(FACTS)}"
MAX_COUNT = 100_000
MAX_SHEET_PX = 4096  # a side; images are shrunk to fit


@dataclass(frozen=True)
class SampleOptions:
    """The first `count` images of a seed.

    truncation: ψ of the truncation trick, from 0 (the mean latent) to 1 (latents as drawn).
    """

    count: int
    truncation: float = 0.7
    seed: int = 0

    def check(self) -> SampleOptions:
        """Return self. Raises UsageError for values out of range."""
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
        """File names of the images."""
        return [f"seed{self.seed}-{number:04}.png" for number in range(self.count)]


@dataclass(frozen=True)
class SampleOutput:
    """The path of the contact sheet, and the folder of the single images and latents (None: not written)."""

    sheet: Path
    folder: Path | None

    @classmethod
    def of(cls, sheet: Path, *, save: bool, overwrite: bool, gan: Path | None = None) -> SampleOutput:
        """A sheet and, with `save`, the folder of its stem.

        Args:
            sheet: A .png file.
            save: Whether to write the folder.
            overwrite: Replace what is there, but not the folder of `gan`, the user's own GAN.

        Raises:
            UsageError: They cannot be written there.
        """
        if sheet.suffix != ".png":
            raise UsageError(f"{sheet} is no name for a sheet.", "Name a .png file with -o.")
        if sheet.is_dir():
            raise UsageError(f"{sheet} is a folder.", "Name a .png file with -o.")
        if sheet.exists() and not overwrite:
            raise UsageError(f"{sheet} exists.", "Add --overwrite to replace it, or name another with -o.")
        check_file_target(sheet)
        folder = sheet.with_suffix("") if save else None
        if folder:
            check_target(folder, FACTS, overwrite=overwrite, inputs=parent_folders([gan] if gan else []))
        return cls(sheet, folder)


def sample(
    category: Category,
    weights: Weights,
    options: SampleOptions,
    machine: Machine,
    output: SampleOutput,
    progress: Progress,
) -> dict[str, Any]:
    """Write random images of a GAN, all or nothing. The images of a seed do not depend on their count.

    Returns:
        The contents of samples.json.

    Raises:
        WeightsError: The GAN cannot be read.
        G2SError: The disk refuses.
    """
    # Always in float32: the images are those of the GAN's file on every machine.
    generator = load_gan(weights, replace(machine, dtype=torch.float32)).generator
    latents = truncated_latents(generator, options.count, options.truncation, options.seed)
    facts = {
        "g2s": __version__,
        "category": category.name,
        "gan_file": str(weights.gan_file) if weights.gan_file else None,
        "weights": weights.hashes(),
        **asdict(options),
        "size_px": generator.size,
        "pictures": options.names,
    }
    columns = math.ceil(math.sqrt(options.count))
    side = min(generator.size, MAX_SHEET_PX // columns)
    tiles = []
    with replace_folder(output.folder, OWNED_PATHS) if output.folder else nullcontext() as temporary:
        for name, image in zip(options.names, _images(generator, latents, progress), strict=True):
            if temporary:
                image.save(temporary / name)
            tiles.append(image.resize((side, side), Image.Resampling.LANCZOS))
        if temporary:
            (temporary / LATENTS).write_bytes(save({"w": latents.cpu()}))
            (temporary / FACTS).write_text(json.dumps(facts, indent=2) + "\n")
        sheet = contact_sheet(tiles, columns)
        with atomic_write(output.sheet, "Name another with -o.") as path:
            sheet.save(path, format="PNG")
    return facts


@torch.no_grad()
def _images(generator: Generator, latents: Float[Tensor, "n d"], progress: Progress) -> Iterator[Image.Image]:
    """The images of latents, generated in batches."""
    progress.begin("sample", len(latents))
    done = 0
    for batch in latents.split(generator.max_batch):
        for image in generator(batch):
            yield Image.fromarray(to_uint8(image))
        done += len(batch)
        progress.advance(done, 0.0)
