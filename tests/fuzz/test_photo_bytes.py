"""open_photo returns a Photo or raises an ImageError for any bytes."""

from __future__ import annotations

import functools
import io
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from g2s_cli.errors import ImageError
from g2s_cli.photo.load import open_photo

SIZE = 16
MODES = {"JPEG": "RGB", "PNG": "RGBA", "WEBP": "RGB", "TIFF": "CMYK", "BMP": "RGB", "GIF": "P", "PPM": "L"}


@functools.cache
def encoded(image_format: str) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    options = {"exif": exif} if image_format in ("JPEG", "PNG", "WEBP") else {}
    stream = io.BytesIO()
    Image.radial_gradient("L").resize((24, 20)).convert(MODES[image_format]).save(
        stream, format=image_format, **options
    )
    return stream.getvalue()


def open_or_refuse(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    try:
        photo = open_photo(path, SIZE)
    except ImageError as refusal:
        assert path.name in refusal.what
        assert "\n" not in str(refusal)
    else:
        assert photo.image.shape == (3, SIZE, SIZE)
        assert photo.image.abs().max() <= 1


lenient = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.mark.parametrize("image_format", MODES)
@lenient
@given(data=st.data())
def test_truncated_files(tmp_path: Path, image_format: str, data: st.DataObject) -> None:
    whole = encoded(image_format)
    open_or_refuse(tmp_path / "photo", whole[: data.draw(st.integers(0, len(whole) - 1))])


@pytest.mark.parametrize("image_format", MODES)
@lenient
@given(data=st.data())
def test_garbled_files(tmp_path: Path, image_format: str, data: st.DataObject) -> None:
    garbled = bytearray(encoded(image_format))
    # Half of the damage goes to the headers.
    index = st.integers(0, len(garbled) - 1) | st.integers(0, min(64, len(garbled)) - 1)
    for at, value in data.draw(st.lists(st.tuples(index, st.integers(0, 255)), min_size=1, max_size=8)):
        garbled[at] = value
    open_or_refuse(tmp_path / "photo", bytes(garbled))


@lenient
@given(noise=st.binary(max_size=200))
def test_random_bytes(tmp_path: Path, noise: bytes) -> None:
    open_or_refuse(tmp_path / "photo", noise)
