"""Many photos in one run against as many runs of one: the ratio of the times, and how far their results are apart.

    python benchmarks/many_photos.py FOLDER --count 20

The installed g2s is timed, with all that a run costs, in turn: a round runs each photo alone and then all together.
Without FOLDER, the photos are random pictures of the embedded GAN.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import mean, median
from tempfile import TemporaryDirectory

import torch
from machine import describe

from g2s_cli.loading import Machine, Weights, load_gan
from g2s_cli.many import photos_named
from g2s_cli.method.metrics import psnr, side
from g2s_cli.result import Reconstruction, picture, read_result, save_image
from g2s_cli.scene.render import render
from g2s_cli.zoo.catalog import load_category
from g2s_cli.zoo.sources import Sources


def draw_photos(folder: Path, count: int) -> None:
    kind = load_category("synface")
    generator = load_gan(Weights.of(kind, kind.preset("fast"), Sources()), Machine.named("cpu")).generator
    z = torch.randn(count, generator.latent_size, generator=torch.Generator().manual_seed(0))
    for number, image in enumerate(generator(generator.mapping(z)).clamp(-1, 1)):
        save_image(folder / f"{number}.png", image)


def seconds(photos: list[Path], out: Path, options: list[str]) -> float:
    command = [Path(sys.executable).with_name("g2s"), "reconstruct", *photos, "-o", out, "-q", *options]
    start = time.perf_counter()
    subprocess.run([str(part) for part in command], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def apart(one: Reconstruction, other: Reconstruction) -> tuple[float, float, float]:
    """PSNR of G(w) and of the pictures, in dB, and SIDE x 100 of the depths, of two results of one photo."""
    masks = (one.mask >= 0.5) & (other.mask >= 0.5)
    depths = [render(made.factors, made.camera).depth[None] for made in (one, other)]
    pictures = [picture(made, made.factors) for made in (one, other)]
    return psnr(one.inverted, other.inverted), psnr(*pictures), 100 * side(*depths, masks[None]).item()


def main() -> None:
    parser = argparse.ArgumentParser(description="Time many photos in one run against as many runs of one.")
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--iterations", type=int, help="at most so many a step, to try this script")
    asked = parser.parse_args()
    options = [] if asked.iterations is None else ["--iterations", str(asked.iterations)]
    os.environ["OMP_NUM_THREADS"] = str(asked.threads)
    torch.set_num_threads(asked.threads)
    with TemporaryDirectory() as scratch:
        place = Path(scratch)
        if asked.folder is None:
            draw_photos(place, asked.count)
        photos = photos_named([asked.folder or place])[0][: asked.count]
        alone, together = [], []
        for turn in range(asked.rounds):
            spent = [seconds([photo], place / "alone" / f"{turn}-{photo.stem}", options) for photo in photos]
            alone.append(sum(spent))
            together.append(seconds(photos, place / f"together-{turn}", options))
        found = [
            apart(read_result(place / "alone" / f"0-{one.stem}"), read_result(place / "together-0" / one.stem))
            for one in photos
        ]
    ratios = [one / other for one, other in zip(alone, together, strict=True)]
    print(describe(torch.device("cpu")))
    print(f"{len(photos)} photos, seconds a photo: alone {median(alone) / len(photos):.2f}, ", end="")
    print(f"together {median(together) / len(photos):.2f}; ratio {median(ratios):.2f} ({min(ratios):.2f}", end="")
    print(f" to {max(ratios):.2f}, {asked.rounds} rounds)")
    print(f"{'':28} {'mean':>8} {'worst':>8}")
    names = ("G(w), dB", "picture of the shape, dB", "depth, SIDE x 100")
    for name, values, worst in zip(names, zip(*found, strict=True), (min, min, max), strict=True):
        print(f"{name:28} {mean(values):8.3f} {worst(values):8.3f}")


if __name__ == "__main__":
    main()
