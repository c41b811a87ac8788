"""A series of pictures in a folder: numbered PNGs, and a film if there are several."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
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
    from g2s_cli.result.film import FilmOptions


@dataclass(frozen=True)
class Series:
    """Where a series of pictures goes.

    name: the verb, which names the film.
    count: the number of pictures.
    overwrite: whether pictures of an earlier series are replaced.
    """

    folder: Path
    name: str
    count: int
    film: FilmOptions
    overwrite: bool = False

    def check(self, result: Path) -> Series:
        """This series, before the work starts. Raises UsageError and G2SError as `check_target` and `FilmOptions`."""
        from g2s_cli.atomic_folder import check_target, parent_folders
        from g2s_cli.result.schema import STATE

        check_target(self.folder, self.names("")[0], overwrite=self.overwrite, inputs=parent_folders([result / STATE]))
        if self.count > 1:
            self.film.check()
        return self

    def names(self, prefix: str) -> list[str]:
        """The pictures' names: 000.png, 001.png and so on, with as many digits as the count takes."""
        digits = max(3, len(str(self.count - 1)))
        return [f"{prefix}{index:0{digits}d}.png" for index in range(self.count)]


def eased(count: int, *, ease: bool) -> list[float]:
    """Shares of the way from 0 to 1, a picture each: evenly spaced, or closer together near the ends."""
    shares = [index / max(count - 1, 1) for index in range(count)]
    return [(1 - math.cos(math.pi * share)) / 2 for share in shares] if ease else shares


def write_frames(
    images: Iterable[Tensor], photos: Iterable[UInt8[np.ndarray, "h w 3"]] | None, series: Series, progress: Progress
) -> tuple[list[str], list[str]]:
    """Write the pictures of a folder; files in it that g2s did not write stay.

    Each picture is written before the next is taken. Several get a film: NAME.gif, or as its format says.

    Args:
        images: 3 h w in [-1, 1].
        photos: whole photos, one for each image; named in_place_000.png and so on, and in_place.gif.
        series: the folder, and how many images there are.
        progress: gets one step for the images, and one for the photos.

    Returns:
        The paths of the images' files, and of the photos'; the film's is the last.
    """
    from g2s_cli.atomic_folder import replace_folder
    from g2s_cli.geometry.image import to_uint8
    from g2s_cli.result.schema import FRAME_FILES

    with replace_folder(series.folder, FRAME_FILES, overwrite=series.overwrite) as building:
        names = _write_series(map(to_uint8, images), series, building, progress)
        pasted = _write_series(photos, series, building, progress, "in_place") if photos is not None else []
    return [str(series.folder / name) for name in names], [str(series.folder / name) for name in pasted]


def _write_series(
    images: Iterable[UInt8[np.ndarray, "h w 3"]], series: Series, folder: Path, progress: Progress, prefix: str = ""
) -> list[str]:
    """Write numbered pictures, and a film if there are several; returns the names, the film's last."""
    from g2s_cli.result.film import write_film

    names, name = series.names(prefix and f"{prefix}_"), prefix or series.name
    progress.begin(name, series.count)
    for index, (file, image) in enumerate(zip(names, images, strict=True)):
        Image.fromarray(image).save(folder / file)
        progress.advance(index + 1, 0.0)
    if series.count == 1:
        return names
    film = f"{name}.{series.film.format}"
    write_film(folder / film, [folder / file for file in names], series.film)
    return [*names, film]


def write_and_print(
    images: Iterable[Tensor],
    photos: Iterable[UInt8[np.ndarray, "h w 3"]] | None,
    facts: Sequence[dict[str, Any]],
    series: Series,
    renderer: Renderer,
) -> None:
    """Write a series, and print its paths or its JSON document. facts: what the document states of each picture."""
    with output.progress(brief=True) as progress:
        files, pasted = write_frames(images, photos, series, progress)
    frames = [fact | {"file": file} for fact, file in zip(facts, files, strict=False)]
    for frame, file in zip(frames, pasted, strict=False):
        frame["file_in_place"] = file
    files += pasted
    output.print_result(files, {"folder": str(series.folder), "by": renderer, "frames": frames, "files": files})
