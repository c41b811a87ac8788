"""Image files whose pixels are sound, but not their end or their metadata."""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from PIL import Image, ImageFile

MAX_MISSING_SHARE = 0.01  # of the pixels of a truncated file that is read
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def read_damaged(data: bytes, formats: tuple[str, ...], max_pixels: int) -> tuple[Image.Image | None, float]:
    """The image of a file with damaged metadata or a missing end, and the share of pixels that are missing.

    It is decoded twice with different values for what is missing, and compared: Pillow does not tell. A JPEG's missing
    end is replaced by the end marker, and by other bits before it. None if more than 1 % of the pixels is missing,
    or the image has more than `max_pixels`.
    """
    if _has_damaged_pixels(data):
        return None, 1.0
    images = []
    noise = np.random.default_rng(0).integers(0, 255, 2**16, dtype=np.uint8).tobytes()  # without 255, a marker
    for tail, colour in ((b"\xff\xd9", 0), (noise + b"\xff\xd9", 255)):
        try:
            whole = data.rstrip(b"\xff") + tail if data.startswith(b"\xff\xd8") else data
            with _loading_truncated():
                image = Image.open(io.BytesIO(whole), formats=formats)
                if image.width * image.height > max_pixels:
                    return None, 1.0
                image.im = Image.new(image.mode, image.size, colour).im
                image.load()
        except Exception:  # Pillow's decoders raise anything on damaged files
            return None, 1.0
        images.append(image)
    first, second = (np.asarray(image) for image in images)
    different = first != second
    missing = different.reshape(*different.shape[:2], -1).any(axis=-1).mean().item()
    return (images[0], missing) if missing <= MAX_MISSING_SHARE else (None, missing)


def _has_damaged_pixels(data: bytes) -> bool:
    """Whether a PNG's pixels have a wrong checksum."""
    at = len(PNG_SIGNATURE)
    while data.startswith(PNG_SIGNATURE) and at + 8 <= len(data):
        end = at + 8 + int.from_bytes(data[at : at + 4], "big")
        checksum = data[end : end + 4]
        if (
            data[at + 4 : at + 8] == b"IDAT"
            and len(checksum) == 4
            and zlib.crc32(data[at + 4 : end]) != int.from_bytes(checksum, "big")
        ):
            return True
        at = end + 4
    return False


@contextmanager
def _loading_truncated() -> Iterator[None]:
    """Pillow with files whose end is missing, or whose metadata have wrong checksums."""
    before, ImageFile.LOAD_TRUNCATED_IMAGES = ImageFile.LOAD_TRUNCATED_IMAGES, True
    try:
        yield
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = before
