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
from pathlib import Path
from statistics import mean, median
from tempfile import TemporaryDirectory

import numpy as np
import torch
from machine import describe

from g2s_cli.batch import find_photos
from g2s_cli.geometry.metrics import psnr, side_error
from g2s_cli.geometry.render import render
from g2s_cli.loading import Weights, load_gan
from g2s_cli.machine import Machine
from g2s_cli.result.read import read_result
from g2s_cli.result.schema import Result
from g2s_cli.result.surface import render_on_white
from g2s_cli.result.write import save_image
from g2s_cli.weights.categories import load_category
from g2s_cli.weights.registry import Sources


def draw_photos(folder: Path, count: int) -> None:
    category = load_category("synface")
    generator = load_gan(Weights.of(category, Sources(), networks=True), Machine.named("cpu")).generator
    z = torch.randn(count, generator.latent_size, generator=torch.Generator().manual_seed(0))
    for number, image in enumerate(generator(generator.mapping(z)).clamp(-1, 1)):
        save_image(folder / f"{number}.png", image)


def seconds(photos: list[Path], out: Path, options: list[str]) -> np.ndarray:
    """What a run takes: by the clock, and of the processor, which other programs change little."""
    command = [Path(sys.executable).with_name("g2s"), "reconstruct", *photos, "-o", out, "-q", *options]
    start = now()
    subprocess.run([str(part) for part in command], check=True, stdout=subprocess.DEVNULL)
    return now() - start


def now() -> np.ndarray:
    """The clock, and the processor time of all runs so far."""
    spent = os.times()
    return np.array([spent.elapsed, spent.children_user + spent.children_system])


def apart(one: Result, other: Result) -> tuple[float, float, float]:
    """PSNR of G(w) and of the pictures, in dB, and SIDE x 100 of the depths, of two results of one photo."""
    masks = (one.mask >= 0.5) & (other.mask >= 0.5)
    depths = [render(result.factors, result.camera).depth[None] for result in (one, other)]
    pictures = [render_on_white(result, result.factors) for result in (one, other)]
    return psnr(one.inverted, other.inverted), psnr(*pictures), 100 * side_error(*depths, masks[None]).item()


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
        photos = find_photos([asked.folder or place])[0][: asked.count]
        alone, together = [], []
        for turn in range(asked.rounds):
            spent = [seconds([photo], place / "alone" / f"{turn}-{photo.stem}", options) for photo in photos]
            alone.append(np.sum(spent, axis=0))
            together.append(seconds(photos, place / f"together-{turn}", options))
        found = [
            apart(read_result(place / "alone" / f"0-{one.stem}"), read_result(place / "together-0" / one.stem))
            for one in photos
        ]
    print(describe(torch.device("cpu")))
    print(f"{f'{len(photos)} photos':20} {'alone':>8} {'together':>9} {'ratio':>6} {'least':>6} {'most':>6}")
    ratios = np.array(alone) / together
    for column, name in enumerate(("seconds a photo", "of the processor")):
        each = [median(run[column] for run in runs) / len(photos) for runs in (alone, together)]
        some = ratios[:, column]
        row = f"{each[0]:8.2f} {each[1]:9.2f} {median(some):6.2f} {min(some):6.2f} {max(some):6.2f}"
        print(f"{name:20} {row}")
    print(f"{'':28} {'mean':>8} {'worst':>8}")
    names = ("G(w), dB", "picture of the shape, dB", "depth, SIDE x 100")
    for name, values, worst in zip(names, zip(*found, strict=True), (min, min, max), strict=True):
        print(f"{name:28} {mean(values):8.3f} {worst(values):8.3f}")


if __name__ == "__main__":
    main()
