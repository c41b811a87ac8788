"""The recipe's long steps, over several processes: looks of portraits, and a file of pairs."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8

from g2s_cli.training.pair_file import pair_type
from recipes.portrait.fitting import Fits
from recipes.portrait.pairs import Looks, draw_pairs, stand
from recipes.portrait.texture import Surface, texture
from recipes.synface.face_model import FaceModel
from recipes.synface.heads import bare_heads
from recipes.synface.parallel import parallel_map

FIRST_SEED = 40_000_000
BLOCK = 16
MOST_ERROR_CM = 0.15  # of a fit

Report = Callable[[int, float], None]


def write_looks(model: FaceModel, fits: Fits, crops: Path, path: Path, processes: int, report: Report) -> None:
    """Write the looks of the portraits that fit well, and their fits, to PATH and PATH with -fits."""
    fits = fits.pick((fits.errors < MOST_ERROR_CM).nonzero()[0])
    with np.load(crops) as file:
        places = {name: place for place, name in enumerate(file["files"])}
        index = [places[name] for name in fits.files]
        images, mattes = file["images"][index], file["mattes"][index]
    job = functools.partial(_look, model, Surface.of(model), fits)
    albedo = []
    for each in parallel_map(job, list(zip(range(len(images)), images, mattes, strict=True)), processes):
        albedo.append(each)
        report(len(albedo), 0.0)
    np.savez(path, images=images, mattes=mattes, albedo=np.stack(albedo))
    fits.save(path.with_name(f"{path.stem}-fits.npz"))


def _look(
    model: FaceModel, surface: Surface, fits: Fits, portrait: tuple[int, np.ndarray, np.ndarray]
) -> UInt8[np.ndarray, "3 v"]:
    torch.set_num_threads(1)
    number, image, matte = portrait
    head = stand(bare_heads(model, [fits.shape(number, model)])[0], fits.pose(number)).astype(np.float32)
    return (texture(model, surface, head, image, matte) * 255 + 0.5).astype(np.uint8)


def read_looks(path: Path) -> tuple[Fits, Looks]:
    """The fits and looks that `write_looks` wrote."""
    with np.load(path) as file:
        looks = Looks(**{name: file[name] for name in Looks.__dataclass_fields__})
    return Fits.load(path.with_name(f"{path.stem}-fits.npz")), looks


def write_pairs(
    model: FaceModel, looks: Path, count: int, size: int, path: Path, processes: int, report: Report
) -> None:
    """Write a file of pairs; PATH.partial while it is being made."""
    partial = path.with_name(f"{path.name}.partial")
    np.lib.format.open_memmap(partial, mode="w+", dtype=pair_type(size), shape=(count,)).flush()
    blocks = [range(start, min(start + BLOCK, count)) for start in range(0, count, BLOCK)]
    job = functools.partial(_block, model, *read_looks(looks), size, partial)
    for done in parallel_map(job, blocks, processes):
        report(done, 0.0)
    partial.replace(path)


def _block(model: FaceModel, fits: Fits, looks: Looks, size: int, partial: Path, block: range) -> int:
    torch.set_num_threads(1)
    pairs = np.load(partial, mmap_mode="r+")
    pairs[block.start : block.stop] = draw_pairs(model, fits, looks, [FIRST_SEED + number for number in block], size)
    pairs.flush()
    return block.stop
