"""Writing a series of pictures into a result folder: numbered PNGs, and a GIF when there are several."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import UInt8
    from torch import Tensor

FRAME_MS = 80
MOST_GIF_PX = 800  # a side: a photo's GIF would take minutes


def write_frames(
    images: list[Tensor], photos: Iterable[UInt8[np.ndarray, "h w 3"]], result: Path, name: str
) -> list[str]:
    """Replace RESULT/name by the images as 000.png, 001.png, ... and name.gif, which swings back. Returns paths.

    photos: the whole photo for each image, or none; they become in_place_000.png, ... and in_place.gif.
    """
    from g2s_cli.scene.mesh import to_bytes
    from g2s_cli.target import built_beside

    folder = result / name
    with built_beside(folder) as building:
        _write_series(map(to_bytes, images), building, "", name)
        _write_series(photos, building, "in_place_", "in_place")
    return [str(path) for path in sorted(folder.iterdir())]


def _write_series(images: Iterable[UInt8[np.ndarray, "h w 3"]], folder: Path, prefix: str, name: str) -> None:
    frames = []
    for index, image in enumerate(images):
        frame = Image.fromarray(image)
        frame.save(folder / f"{prefix}{index:03d}.png")
        frame.thumbnail((MOST_GIF_PX, MOST_GIF_PX))
        frames.append(frame)
    if len(frames) > 1:
        swing = frames + frames[-2:0:-1]
        swing[0].save(folder / f"{name}.gif", save_all=True, append_images=swing[1:], duration=FRAME_MS, loop=0)
