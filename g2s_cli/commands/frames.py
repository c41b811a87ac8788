"""A series of pictures in a result folder: numbered PNGs, and a GIF if there are several."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from g2s_cli.console import output

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import UInt8
    from torch import Tensor

    from g2s_cli.options import Renderer
    from g2s_cli.progress import Progress

FRAME_MS = 80
MAX_GIF_PX = 800  # a side: a photo's GIF would take minutes
MAX_GIF_PIXELS = 2**26  # of all pictures of a GIF, which is built in memory: more than 105 pictures become smaller


def write_frames(
    images: Iterable[Tensor],
    photos: Iterable[UInt8[np.ndarray, "h w 3"]] | None,
    count: int,
    folder: Path,
    progress: Progress,
) -> tuple[list[str], list[str]]:
    """Replace the pictures of a folder; its other files stay. Each picture is written before the next is taken.

    Args:
        images: 3 h w in [-1, 1]; named 000.png, 001.png and so on, with as many digits as `count` takes. If there are
            several, a GIF, FOLDER.gif, shows them forth and back.
        photos: whole photos, one for each image; named in_place_000.png and so on, and in_place.gif.
        count: the number of images.
        folder: RESULT/relight or RESULT/rotate.
        progress: gets one step for the images, and one for the photos.

    Returns:
        The paths of the images' files, and of the photos'; the GIF's is the last.
    """
    from g2s_cli.atomic_folder import replace_folder
    from g2s_cli.geometry.image import to_uint8
    from g2s_cli.result.schema import FRAME_FILES

    with replace_folder(folder, FRAME_FILES) as building:
        names = _write_series(map(to_uint8, images), count, building, "", folder.name, progress)
        pasted = _write_series(photos, count, building, "in_place_", "in_place", progress) if photos is not None else []
    return [str(folder / name) for name in names], [str(folder / name) for name in pasted]


def _write_series(
    images: Iterable[UInt8[np.ndarray, "h w 3"]], count: int, folder: Path, prefix: str, name: str, progress: Progress
) -> list[str]:
    """Write numbered pictures, and a GIF if there are several; returns the names, the GIF's last."""
    digits, side = max(3, len(str(count - 1))), min(MAX_GIF_PX, math.isqrt(MAX_GIF_PIXELS // count))
    names, small = [f"{prefix}{index:0{digits}d}.png" for index in range(count)], []
    progress.begin(name, count)
    for file, image in zip(names, images, strict=True):
        picture = Image.fromarray(image)
        picture.save(folder / file)
        picture.thumbnail((side, side))
        small.append(picture)
        progress.advance(len(small), 0.0)
    if count == 1:
        return names
    forth_and_back = small + small[-2:0:-1]
    first, *others = forth_and_back
    first.save(folder / f"{name}.gif", save_all=True, append_images=others, duration=FRAME_MS, loop=0)
    return [*names, f"{name}.gif"]


def write_and_print(
    images: Iterable[Tensor],
    photos: Iterable[UInt8[np.ndarray, "h w 3"]] | None,
    facts: Sequence[dict[str, Any]],
    folder: Path,
    renderer: Renderer,
) -> None:
    """Write a series, and print its paths or its JSON document. facts: what the document states of each picture."""
    with output.progress(brief=True) as progress:
        files, pasted = write_frames(images, photos, len(facts), folder, progress)
    frames = [fact | {"file": file} for fact, file in zip(facts, files, strict=False)]
    for frame, file in zip(frames, pasted, strict=False):
        frame["file_in_place"] = file
    files += pasted
    output.print_result(files, {"folder": str(folder), "by": renderer, "frames": frames, "files": files})
