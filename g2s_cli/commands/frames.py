"""Writing a series of pictures into a result folder: numbered PNGs, and a GIF when there are several."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

if TYPE_CHECKING:
    from torch import Tensor

FRAME_MS = 80


def write_frames(images: list[Tensor], result: Path, name: str) -> list[str]:
    """Replace RESULT/name by the images as 000.png, 001.png, ... and name.gif, which swings back. Returns paths."""
    from g2s_cli.result import built_beside, save_image
    from g2s_cli.scene.mesh import to_bytes

    folder = result / name
    with built_beside(folder) as building:
        for index, image in enumerate(images):
            save_image(building / f"{index:03d}.png", image)
        if len(images) > 1:
            frames = [Image.fromarray(to_bytes(image)) for image in images]
            swing = frames + frames[-2:0:-1]
            swing[0].save(building / f"{name}.gif", save_all=True, append_images=swing[1:], duration=FRAME_MS, loop=0)
    return [str(path) for path in sorted(folder.iterdir())]
