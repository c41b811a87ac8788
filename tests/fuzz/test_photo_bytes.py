"""Damaged image files: whatever the bytes, a Photo or an ImageError comes out."""

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
WRITTEN = {"JPEG": "RGB", "PNG": "RGBA", "WEBP": "RGB", "TIFF": "CMYK", "BMP": "RGB", "GIF": "P", "PPM": "L"}


@functools.cache
def encoded(category: str) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    options = {"exif": exif} if category in ("JPEG", "PNG", "WEBP") else {}
    stream = io.BytesIO()
    Image.radial_gradient("L").resize((24, 20)).convert(WRITTEN[category]).save(stream, format=category, **options)
    return stream.getvalue()


def opens_or_refuses(path: Path, data: bytes) -> None:
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


@pytest.mark.parametrize("category", WRITTEN)
@lenient
@given(data=st.data())
def test_truncated(tmp_path: Path, category: str, data: st.DataObject) -> None:
    whole = encoded(category)
    opens_or_refuses(tmp_path / "photo", whole[: data.draw(st.integers(0, len(whole) - 1))])


@pytest.mark.parametrize("category", WRITTEN)
@lenient
@given(data=st.data())
def test_garbled(tmp_path: Path, category: str, data: st.DataObject) -> None:
    garbled = bytearray(encoded(category))
    # Half of the damage goes to the headers, where it hurts most.
    place = st.integers(0, len(garbled) - 1) | st.integers(0, min(64, len(garbled)) - 1)
    for at, value in data.draw(st.lists(st.tuples(place, st.integers(0, 255)), min_size=1, max_size=8)):
        garbled[at] = value
    opens_or_refuses(tmp_path / "photo", bytes(garbled))


@lenient
@given(noise=st.binary(max_size=200))
def test_noise(tmp_path: Path, noise: bytes) -> None:
    opens_or_refuses(tmp_path / "photo", noise)
