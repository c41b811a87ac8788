"""Writing a series of pictures into a result folder: numbered PNGs, and a GIF when there are several."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import UInt8
    from torch import Tensor

    from g2s_cli.progress import Progress

FRAME_MS = 80
MOST_GIF_PX = 800  # a side: a photo's GIF would take minutes
# Of all pictures of a GIF together, which is put together in memory: from 105 pictures on they are smaller.
MOST_GIF_PIXELS = 2**26


@dataclass(frozen=True)
class Written:
    """The paths of a series, in the order of what the pictures show.

    frames: a picture each. in_place: the whole photo for each, or none. files: all, GIFs too, as they were written.
    """

    frames: list[str]
    in_place: list[str]
    files: list[str]


def write_frames(
    images: Iterable[Tensor],
    photos: Iterable[UInt8[np.ndarray, "h w 3"]] | None,
    count: int,
    result: Path,
    name: str,
    progress: Progress,
) -> Written:
    """Replace the pictures in RESULT/name by 000.png, 001.png, ... and name.gif, which swings back; other files stay.

    Each is written before the next is asked for. photos: the whole photo for each image; they become in_place_000.png,
    ... and in_place.gif. count: how many of each there are; numbers have as many digits as that takes.
    """
    from g2s_cli.atomic_folder import replace_folder
    from g2s_cli.geometry.image import to_uint8
    from g2s_cli.result.schema import FRAME_FILES

    folder = result / name
    with replace_folder(folder, FRAME_FILES) as building:
        frames = _write_series(map(to_uint8, images), count, building, "", name, progress)
        whole = [] if photos is None else _write_series(photos, count, building, "in_place_", "in_place", progress)
    paths, in_place = ([str(folder / file) for file in written] for written in (frames, whole))
    return Written(paths[:count], in_place[:count], paths + in_place)


def _write_series(
    images: Iterable[UInt8[np.ndarray, "h w 3"]], count: int, folder: Path, prefix: str, name: str, progress: Progress
) -> list[str]:
    """Write numbered pictures, and their GIF if there are several; returns the names, that of the GIF last."""
    digits, side = max(3, len(str(count - 1))), min(MOST_GIF_PX, math.isqrt(MOST_GIF_PIXELS // count))
    names, small = [f"{prefix}{index:0{digits}d}.png" for index in range(count)], []
    progress.begin(name, count)
    for file, image in zip(names, images, strict=True):
        center_crop = Image.fromarray(image)
        center_crop.save(folder / file)
        center_crop.thumbnail((side, side))
        small.append(center_crop)
        progress.advance(len(small), 0.0)
    if count == 1:
        return names
    swing = small + small[-2:0:-1]
    swing[0].save(folder / f"{name}.gif", save_all=True, append_images=swing[1:], duration=FRAME_MS, loop=0)
    return [*names, f"{name}.gif"]
