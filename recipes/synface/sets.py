"""Many pictures: one array to train on, or a folder with depth to be measured on.

Seeds keep them apart: training from 10 000 000, the benchmark's test split from 20 000 000 and its training split
from 25 000 000.
"""

from __future__ import annotations

import functools
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image

from g2s_cli.atomic_folder import replace_folder
from g2s_cli.errors import G2SError, UsageError
from g2s_cli.files import atomic_write
from g2s_cli.result.write import encode_depth
from recipes.synface.face_model import FaceModel
from recipes.synface.parallel import parallel_map
from recipes.synface.render import Rendered, images, render

FIRST_TRAINING_SEED = 10_000_000
BLOCK = 32  # pictures that one process makes at a time, and that a kill can cost
SMALLEST, LARGEST = 8, 1024


def render_set(
    model: FaceModel,
    first_seed: int,
    count: int,
    size: int,
    path: Path,
    processes: int = 1,
    report: Callable[[int, int], None] | None = None,
) -> UInt8[np.ndarray, "count size size 3"]:
    """The pictures of `count` seeds as one .npy, as a memory map; `path` exists only when it is whole.

    Beside it lie, until then, NAME.npy.partial and, for good, NAME.json: which pictures they are and how many
    are done. The same call goes on where one was killed, with the same bytes in the end; of a finished set
    nothing is rendered again. report: called with how many are done, and `count`.
    Raises UsageError for another set's path, G2SError if the disk is full or the set damaged.
    """
    _check_order(count, size)
    if path.suffix != ".npy":
        raise UsageError(f"{path} cannot hold pictures.", "Name a .npy file.")
    facts: dict[str, int | str] = {"first_seed": first_seed, "count": count, "size": size, "model": model.sha256}
    shape = (count, size, size, 3)
    stated, partial = path.with_suffix(".json"), path.with_name(f"{path.name}.partial")
    done = _begun(path, stated, facts)
    if not path.exists():
        if not partial.exists():
            done = 0
            _reserve(partial, shape)
        _open(partial, shape)  # damaged? Then say so before the work
        blocks = [range(start, min(start + BLOCK, count)) for start in range(done, count, BLOCK)]
        for done in parallel_map(functools.partial(_render_block, model, first_seed, size, partial), blocks, processes):
            _state(stated, facts, done)
            if report:
                report(done, count)
        partial.replace(path)
    return _open(path, shape)


def _render_block(model: FaceModel, first_seed: int, size: int, partial: Path, block: range) -> int:
    """Put a block of pictures into its place; how many are done when all before it are."""
    torch.set_num_threads(1)  # processes share the cores
    pictures = np.load(partial, mmap_mode="r+")
    for number, image in zip(block, images(model, [first_seed + number for number in block], size), strict=True):
        pictures[number] = image
    pictures.flush()
    return block.stop


def _check_order(count: int, size: int) -> None:
    if count < 1 or not SMALLEST <= size <= LARGEST:
        remedy = f"Ask for one or more, of {SMALLEST} to {LARGEST} pixels."
        raise UsageError(f"{count} pictures of {size} pixels cannot be made.", remedy)


def _begun(path: Path, stated: Path, facts: dict[str, int | str]) -> int:
    """How many pictures of a set are done. Raises if it is another one, or nobody knows which."""
    if not stated.exists():
        if path.exists():
            raise UsageError(
                f"{path} is there, but no {stated.name} says what it holds.", "Delete it, or name another."
            )
        return 0
    try:
        said = json.loads(stated.read_text())
        done, differing = int(said["rendered"]), [name for name in facts if said[name] != facts[name]]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise G2SError(f"{stated} is damaged.", f"Delete it and {path.name}.partial, and render again.") from error
    if differing:
        raise UsageError(
            f"{stated} is of other pictures: {', '.join(differing).replace('_', ' ')} differs.",
            "Name another file, or delete that set.",
        )
    return done


def _state(stated: Path, facts: dict[str, int | str], done: int) -> None:
    with atomic_write(stated) as temporary:
        temporary.write_text(json.dumps({**facts, "rendered": done}, indent=2) + "\n")


def _reserve(partial: Path, shape: tuple[int, ...]) -> None:
    """An empty array of bytes on the disk. Raises G2SError if there is too little room, or none to write."""
    try:
        with atomic_write(partial) as temporary:
            needed, free = int(np.prod(shape)), shutil.disk_usage(partial.parent).free
            if needed > free:
                raise G2SError(
                    f"{partial} needs {needed / 1e9:.2f} GB, and {free / 1e9:.2f} are free.",
                    "Free space, or go elsewhere.",
                )
            np.lib.format.open_memmap(temporary, mode="w+", dtype=np.uint8, shape=shape)
    except OSError as error:
        raise G2SError(f"{partial} cannot be written: {error.strerror or error}.", "Name another place.") from error


def _open(path: Path, shape: tuple[int, ...]) -> UInt8[np.ndarray, "count size size 3"]:
    """A set to read, as a memory map. Raises G2SError if it is damaged."""
    try:
        pictures = np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise G2SError(f"{path} is damaged.", "Delete it, and render again.") from error
    if pictures.shape != shape or pictures.dtype != np.uint8:
        raise G2SError(f"{path} holds {pictures.shape}, not {shape}.", "Delete it, and render again.")
    return pictures


def write_benchmark(model: FaceModel, first_seed: int, count: int, size: int, folder: Path) -> None:
    """Pictures with depth in the layout of the BFM benchmark, and views.json with each one's view and light.

    image/NNNNNN_image.png and depth/NNNNNN_depth.png, as `evaluation.ground_truth` reads them. Angles in degrees; the
    light's x points right and its y down. Raises UsageError if the folder is in use, G2SError if the disk is full.
    """
    _check_order(count, size)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} is there already.", "Name a new folder, or delete that one.")
    with replace_folder(folder) as building:
        for part in ("image", "depth"):
            (building / part).mkdir()
        views = []
        for number in range(count):
            result = render(model, first_seed + number, size)
            name = f"{number:06d}_image.png"
            Image.fromarray(result.image).save(building / "image" / name)
            Image.fromarray(encode_depth(np.where(result.mask, result.depth, np.nan))).save(
                building / "depth" / f"{number:06d}_depth.png"
            )
            views.append({"file": name, **_view(result)})
        (building / "views.json").write_text(json.dumps(views, indent=0))


def _view(result: Rendered) -> dict[str, float | list[float]]:
    angles = {"yaw_deg": result.pose.yaw_rad, "pitch_deg": result.pose.pitch_rad, "roll_deg": result.pose.roll_rad}
    return {
        **{name: round(math.degrees(angle), 3) for name, angle in angles.items()},
        "light_xy": [round(along, 4) for along in result.light.xy],
        "ambient": round(result.light.ambient, 4),
        "diffuse": round(result.light.diffuse, 4),
    }
