"""Films of a series of pictures: GIF and WebP by Pillow, MP4 and WebM by PyAV."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

from g2s_cli.errors import G2SError, UsageError
from g2s_cli.options import FilmFormat

VIDEO_CODECS = {"mp4": ("libx264", "16"), "webm": ("libvpx-vp9", "24")}  # and their constant rate factors
BT_709, LIMITED_RANGE = 1, 1  # ffmpeg's numbers of the colours that players assume
WEBP_QUALITY = 95  # at 90 skin shows blocks
GIF_FPS, FPS = 12.5, 25.0  # by default
MIN_FPS, MAX_FPS = 1.0, 60.0
MIN_GIF_CS = 2  # centiseconds a picture: browsers slow faster ones down
MAX_PX = {"gif": 800, "webp": 1024, "mp4": 2048, "webm": 2048}  # a side, at most
MAX_PIXELS = 2**26  # of all pictures of a GIF or WebP, which is built in memory: many pictures become smaller
PALETTE_PX = 1024  # a side of the mosaic from which a GIF's palette is taken
COLOURS = 255  # of the palette, beside white
WHITE = 255


@dataclass(frozen=True)
class FilmOptions:
    """What a film is like.

    format: "gif" and "webp" need Pillow alone, "mp4" and "webm" PyAV.
    fps: pictures a second; None is 12.5 in a GIF, else 25.
    there_and_back: whether the pictures run back from the last to the first; without it they are a loop.
    """

    format: FilmFormat = "gif"
    fps: float | None = None
    there_and_back: bool = True

    @property
    def pictures_per_second(self) -> float:
        """`fps`, or its default."""
        return self.fps or (GIF_FPS if self.format == "gif" else FPS)

    def check(self) -> FilmOptions:
        """These options. Raises UsageError for a rate out of range, G2SError if PyAV is needed and missing."""
        if self.fps is not None and not MIN_FPS <= self.fps <= MAX_FPS:
            raise UsageError(f"--fps {self.fps:g} is out of range.", f"Give {MIN_FPS:g} to {MAX_FPS:g}.")
        if self.format in VIDEO_CODECS and find_spec("av") is None:
            raise G2SError(
                f"--format {self.format} needs PyAV, which is not installed.",
                "pip install 'g2s-cli[film]', or use --format gif or webp.",
            )
        return self


def write_film(path: Path, pictures: Sequence[Path], options: FilmOptions) -> None:
    """Write a film of pictures of one size, which loops where the format and its player can."""
    order = list(range(len(pictures)))
    if options.there_and_back:
        order += order[-2:0:-1]
    side = MAX_PX[options.format]
    if options.format in VIDEO_CODECS:
        _write_video(path, pictures, order, options, side)
        return
    side = min(side, math.isqrt(MAX_PIXELS // len(pictures)))
    frames = [_read(picture, side) for picture in pictures]
    save = _save_gif if options.format == "gif" else _save_webp
    save(path, frames, order, options.pictures_per_second)


def _read(path: Path, side: int) -> Image.Image:
    with Image.open(path) as file:
        picture = file.convert("RGB")
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    return picture


def _save_gif(path: Path, frames: Sequence[Image.Image], order: Sequence[int], fps: float) -> None:
    palette = film_palette(frames)
    indexed = [dither(frame, palette) for frame in frames]
    first, *others = [indexed[index] for index in order]
    duration = 10 * max(MIN_GIF_CS, round(100 / fps))
    first.save(path, save_all=True, append_images=others, duration=duration, loop=0, optimize=False)


def _save_webp(path: Path, frames: Sequence[Image.Image], order: Sequence[int], fps: float) -> None:
    first, *others = [frames[index] for index in order]
    first.save(
        path, save_all=True, append_images=others, duration=round(1000 / fps), loop=0, quality=WEBP_QUALITY, method=4
    )


def film_palette(frames: Sequence[Image.Image]) -> Image.Image:
    """One palette of 256 colours for all frames; its last colour is white, the background."""
    columns = math.isqrt(len(frames) - 1) + 1
    tile = PALETTE_PX // columns
    mosaic = Image.new("RGB", (columns * tile, columns * tile), "white")
    for index, frame in enumerate(frames):
        mosaic.paste(frame.resize((tile, tile)), (index % columns * tile, index // columns * tile))
    pixels = np.asarray(mosaic).reshape(-1, 3)
    coloured = pixels[(pixels < WHITE).any(axis=1)]
    if len(coloured) == 0:
        coloured = pixels
    colours = Image.fromarray(coloured[None]).quantize(COLOURS, Image.Quantize.MEDIANCUT, kmeans=2).getpalette()
    palette = Image.new("P", (1, 1))
    palette.putpalette((colours or []) + [WHITE] * (3 * (COLOURS + 1) - len(colours or [])))
    return palette


def dither(frame: Image.Image, palette: Image.Image) -> Image.Image:
    """A frame in the colours of a palette of `film_palette`, by error diffusion (Floyd and Steinberg 1976).

    Errors do not spread into the white background, which would speckle.
    """
    indexed = np.array(frame.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG))
    indexed[(np.asarray(frame) == WHITE).all(axis=2)] = COLOURS
    image = Image.fromarray(indexed).convert("P")
    image.putpalette(palette.getpalette() or [])
    return image


def _write_video(path: Path, pictures: Sequence[Path], order: Sequence[int], options: FilmOptions, side: int) -> None:
    """Encode pictures one by one, in the colours of BT.709."""
    import av  # noqa: PLC0415  an optional dependency

    codec, quality = VIDEO_CODECS[options.format]
    rate = Fraction(options.pictures_per_second).limit_denominator(1000)
    with path.open("wb") as file, av.open(file, "w", format=options.format) as container:
        stream = container.add_stream(codec, rate=rate, options={"crf": quality, "b": "0"})
        width, height = (2 * (length // 2) for length in _read(pictures[0], side).size)  # 4:2:0 needs even sides
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        context = stream.codec_context
        context.color_range = LIMITED_RANGE
        context.colorspace = context.color_primaries = context.color_trc = BT_709
        for index in order:
            picture = _read(pictures[index], side).crop((0, 0, width, height))
            frame = av.VideoFrame.from_image(picture).reformat(
                format="yuv420p", dst_colorspace=BT_709, dst_color_range=LIMITED_RANGE
            )
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
