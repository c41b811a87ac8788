"""Where an inversion starts: at the nearest of some random latents, or at what a regression on their pictures says.

    python benchmarks/inversion_start.py PHOTOS --count 8

The first photos of a folder, cut as the embedded category cuts faces, are inverted in both ways, in turn: seconds of
the processor a photo on one thread, and how near the start and the end are.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from statistics import mean

import torch
from machine import describe
from torch import Tensor

from g2s_cli.batch import find_photos
from g2s_cli.gan.inversion import STATISTICS_SAMPLES, InversionSettings, invert
from g2s_cli.gan.latents import random_latents
from g2s_cli.geometry.metrics import psnr
from g2s_cli.loading import Gan, Weights, load_gan
from g2s_cli.machine import Machine
from g2s_cli.photo.align import CropOptions
from g2s_cli.photo.load import open_photo
from g2s_cli.progress import SilentProgress
from g2s_cli.weights.categories import load_category
from g2s_cli.weights.registry import Sources


@torch.no_grad()
def nearest(photo: Tensor, gan: Gan, count: int) -> Tensor:
    """The random latent whose picture's features are nearest the photo's."""
    distance, crop_options = gan.inversion_distance, gan.inversion_distance.features(photo)
    latents = random_latents(gan.generator, max(STATISTICS_SAMPLES, count), torch.Generator().manual_seed(0))[:count]
    gaps = []
    for some in latents.split(64):
        maps = zip(distance.features(gan.generator(some)), crop_options, strict=True)
        gaps.append(sum((a - b).abs().flatten(1).float().mean(dim=1) for a, b in maps))
    return latents[torch.cat(gaps).argmin()][None]


def inverted(photo: Tensor, gan: Gan, updates: int, count: int, known: Tensor | None) -> tuple[float, float]:
    """Seconds of the processor, and the PSNR of G(w) to the photo."""
    start, rng = time.process_time(), torch.Generator().manual_seed(0)
    settings = InversionSettings(updates, candidates=count)
    [found] = invert(photo, gan.generator, gan.inversion_distance, settings, rng, SilentProgress(), known)
    return time.process_time() - start, psnr(found.image, photo[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--count", type=int, default=8)
    parser.add_argument("--updates", type=int, nargs="+", default=[100, 200, 400])
    parser.add_argument("--candidates", type=int, nargs="+", default=[64, 128, 512])
    given = parser.parse_args()
    torch.set_num_threads(1)
    category = load_category("synface")
    gan = load_gan(Weights.of(category, Sources(), networks=True), Machine.named("cpu"))
    files = find_photos([given.photos])[0][: given.count]
    photos = [
        open_photo(file, category.image_size, category.face_template, CropOptions()).image[None] for file in files
    ]
    gan.generator(random_latents(gan.generator, 64, torch.Generator().manual_seed(1)))  # kernels are made only once
    print(describe(torch.device("cpu")), f"{len(photos)} photos\n")
    print("| start | candidates | updates | s of search | s of updates | dB at the start | dB at the end |")
    print("|---|---|---|---|---|---|---|")
    for count in given.candidates:
        for how in ("nearest", "regression"):
            rows: dict[int, list[tuple[float, ...]]] = {updates: [] for updates in given.updates}
            for photo in photos:
                begun = time.process_time()
                known = nearest(photo, gan, count) if how == "nearest" else None
                searching = time.process_time() - begun
                start, at_start = inverted(photo, gan, 0, count, known)
                searching += start
                for updates, found in rows.items():
                    spent, at_end = inverted(photo, gan, updates, count, known)
                    found.append((searching, spent - start, at_start, at_end))
            for updates, found in rows.items():
                search, moving, first, last = (mean(column) for column in zip(*found, strict=True))
                print(f"| {how} | {count} | {updates} | {search:.2f} | {moving:.2f} | {first:.1f} | {last:.2f} |")


if __name__ == "__main__":
    main()
