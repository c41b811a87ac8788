"""Rendering random heads for training: milliseconds of the processor a picture, on one thread.

    OMP_NUM_THREADS=1 python -m benchmarks.render_faces ict_face_model.npz [--reference synface.py] [--sizes 128 64]

Ours are many pictures at once, one by one, and one by one with depth. A reference is a Python file with
`grid_sample(seed, size, return_all=False)`, such as the renderer that SynFace-ICT was made with: it and ours take turns
with the same seeds, ratios are medians of rounds, and the pictures are compared.
"""

from __future__ import annotations

import argparse
import importlib.util
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from types import ModuleType

import numpy as np

from recipes.synface.face_model import FaceModel, read_face_model
from recipes.synface.render import images, render

Make = Callable[[range, int], object]
SEED = 10_000_000


def contenders(model: FaceModel, reference: ModuleType | None) -> dict[str, Make]:
    ours: dict[str, Make] = {
        "ours, many at once": lambda seeds, size: list(images(model, seeds, size)),
        "ours, one by one": lambda seeds, size: [list(images(model, [seed], size)) for seed in seeds],
        "ours, with depth": lambda seeds, size: [render(model, seed, size) for seed in seeds],
    }
    if reference is None:
        return ours
    theirs: dict[str, Make] = {
        "reference": lambda seeds, size: [reference.sample(seed, size) for seed in seeds],
        "reference, with depth": lambda seeds, size: [reference.sample(seed, size, return_all=True) for seed in seeds],
    }
    return theirs | ours


def milliseconds(make: Make, seeds: range, size: int) -> float:
    start = time.process_time()
    make(seeds, size)
    return 1000 * (time.process_time() - start) / len(seeds)


def module_of(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("reference", path)
    if spec is None or spec.loader is None:
        raise SystemExit(f"{path} is no Python file.")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def compare(model: FaceModel, reference: ModuleType, count: int, size: int) -> str:
    image, depth, changed = 0, 0.0, 0.0
    for seed in range(SEED, SEED + count):
        theirs, their_depth, _ = reference.sample(seed, size, return_all=True)
        ours = render(model, seed, size)
        difference = np.abs(theirs.astype(int) - ours.image)
        image, changed = max(image, int(difference.max())), changed + float((difference > 0).mean()) / count
        depth = max(depth, float(np.abs(their_depth - ours.depth).max()))
    return (
        f"{count} seeds at {size} px: images within {image}/255 ({changed:.1e} of the values differ), depth {depth:.1e}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Time the recipe's renderer, against another where one is given.")
    parser.add_argument("model", type=Path)
    parser.add_argument("--reference", type=Path)
    parser.add_argument("--sizes", type=int, nargs="+", default=[128, 64])
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=7)
    asked = parser.parse_args()
    model = read_face_model(asked.model)
    reference = module_of(asked.reference) if asked.reference else None
    makers = contenders(model, reference)
    for make in makers.values():
        make(range(2), asked.sizes[0])  # compiled
    first = next(iter(makers))
    print(f"{'':24} {'px':>4} {'ms':>7} {'times as fast':>14}")
    for size in asked.sizes:
        rounds = [range(SEED + asked.count * turn, SEED + asked.count * (turn + 1)) for turn in range(asked.rounds)]
        times = [{name: milliseconds(make, seeds, size) for name, make in makers.items()} for seeds in rounds]
        for name in makers:
            ratio = median(taken[first] / taken[name] for taken in times)
            print(f"{name:24} {size:4} {median(taken[name] for taken in times):7.1f} {ratio:14.2f}")
    if reference:
        for size in asked.sizes:
            print(compare(model, reference, asked.count, size))


if __name__ == "__main__":
    main()
