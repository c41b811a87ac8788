"""Colour profiles, bit depths and HEIC; orientation, transparency and damage are in test_load.py."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from g2s_cli.errors import ImageError
from g2s_cli.photo.decode import MAX_BYTES, read_image

HEIC_HEADER = b"\x00\x00\x00\x1cftypheic\x00\x00\x00\x00mif1heicmiaf"
CONVERTED, TO_8_BITS = "converted from its colour profile to sRGB", "brought from 16 to 8 bits"
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def swapped_profile() -> bytes:
    """sRGB with red and green primaries exchanged, and another name."""
    profile = bytearray(SRGB)
    tags = {
        bytes(profile[at : at + 4]): at for at in range(132, 132 + 12 * int.from_bytes(profile[128:132], "big"), 12)
    }
    red, green = tags[b"rXYZ"], tags[b"gXYZ"]
    profile[red : red + 4], profile[green : green + 4] = b"gXYZ", b"rXYZ"
    return bytes(profile).replace("sRGB".encode("utf-16-be"), "xGRB".encode("utf-16-be")).replace(b"sRGB b", b"xGRB b")


def linear_profile() -> bytes:
    """A linear profile named sRGB, as GIMP has one."""
    at, one, zero = SRGB.index(b"para"), (1 << 16).to_bytes(4, "big"), bytes(4)
    # y = (a x + b) ** g where x >= d, else c x: g, a, b, c, d.
    return SRGB[: at + 12] + one + one + zero + one + zero + SRGB[at + 32 :]


def grey_profile(gamma: float) -> bytes:
    """A profile of greys: ICC.1:2001, 8.2.1, with its three required tags."""
    curve = b"curv" + bytes(4) + (1).to_bytes(4, "big") + round(gamma * 256).to_bytes(2, "big") + bytes(2)
    white = b"XYZ " + bytes(4) + b"".join(round(65536 * c).to_bytes(4, "big") for c in (0.9642, 1.0, 0.8249))
    name = b"desc" + bytes(4) + (5).to_bytes(4, "big") + b"grey\0" + bytes(79)
    tags, body = b"", b""
    for sign, content in ((b"kTRC", curve), (b"wtpt", white), (b"desc", name)):
        tags += sign + (128 + 4 + 36 + len(body)).to_bytes(4, "big") + len(content).to_bytes(4, "big")
        body += content
    size = 128 + 4 + len(tags) + len(body)
    header = size.to_bytes(4, "big") + bytes(4) + bytes.fromhex("02400000") + b"mntrGRAYXYZ " + bytes(12) + b"acsp"
    header += bytes(28) + white[8:] + bytes(48)
    return header + (3).to_bytes(4, "big") + tags + body


def flat(mode: str, colour: int | tuple[int, ...]) -> Image.Image:
    """One colour, given in 8 bits."""
    return Image.new(mode, (20, 20), colour * 257 if mode == "I;16" else colour)


def decoded(tmp_path: Path, image: Image.Image, profile: bytes | None = None) -> tuple[Image.Image, list[str]]:
    """The image after saving and reading it, and the notes."""
    image.save(tmp_path / "a.png", icc_profile=profile)
    notes: list[str] = []
    return read_image(tmp_path / "a.png", notes), notes


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_colour_profiles_are_applied(tmp_path: Path, mode: str) -> None:
    image, notes = decoded(tmp_path, flat("RGB", (255, 0, 0)).convert(mode), swapped_profile())
    red, green, blue = image.getpixel((5, 5))
    assert green > 240
    assert max(red, blue) < 30
    assert notes == [CONVERTED]


def test_srgb_pixels_are_unchanged(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 20, 3), dtype=np.uint8)
    image, notes = decoded(tmp_path, Image.fromarray(pixels), SRGB)
    assert np.array_equal(np.asarray(image), pixels)
    assert notes == []


@pytest.mark.parametrize(
    ("image", "profile", "notes"),
    [
        (flat("RGB", (55, 55, 55)), linear_profile(), [CONVERTED]),
        (flat("L", 55), grey_profile(1.0), [CONVERTED]),
        (flat("I;16", 55), grey_profile(1.0), [TO_8_BITS, CONVERTED]),
    ],
)
def test_linear_profiles_are_applied(tmp_path: Path, image: Image.Image, profile: bytes, notes: list[str]) -> None:
    converted, found = decoded(tmp_path, image, profile)
    assert converted.getpixel((5, 5)) == pytest.approx((128, 128, 128), abs=2)  # 1.055 x ** (1 / 2.4) - 0.055
    assert found == notes


def test_profiles_are_applied_to_all_sixteen_bits(tmp_path: Path) -> None:
    """Dark greys of linear light lie close together: 8 bits would leave 183 levels."""
    ramp = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
    assert len(np.unique(np.asarray(decoded(tmp_path, Image.fromarray(ramp), grey_profile(1.0))[0]))) > 250


@pytest.mark.parametrize(
    ("image", "profile", "notes"),
    [
        (flat("I;16", 55), None, [TO_8_BITS]),
        (
            flat("I;16", 55),
            swapped_profile(),
            [TO_8_BITS, "taken without its colour profile, which is not meant for it"],
        ),
        (
            flat("L", 55),
            swapped_profile(),
            ["taken without its colour profile, which is not meant for it", "converted from L to RGB"],
        ),
        (flat("RGB", (55, 55, 55)), b"not a profile", ["taken without its colour profile, which is broken"]),
        (flat("RGB", (55, 55, 55)), swapped_profile()[:200], ["taken without its colour profile, which is broken"]),
    ],
)
def test_unusable_profiles_are_ignored_with_a_note(
    tmp_path: Path, image: Image.Image, profile: bytes | None, notes: list[str]
) -> None:
    unchanged, found = decoded(tmp_path, image, profile)
    assert unchanged.getpixel((5, 5)) == (55, 55, 55)
    assert found == notes


def test_transparency_survives_profile_conversion(tmp_path: Path) -> None:
    assert decoded(tmp_path, flat("RGBA", (255, 0, 0, 0)), swapped_profile())[0].getpixel((3, 3)) == (255, 255, 255)


def test_heic_without_its_extra_is_refused_with_a_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    (tmp_path / "a.heic").write_bytes(HEIC_HEADER)
    with pytest.raises(ImageError, match=r"pip install 'g2s-cli\[heic\]'"):
        read_image(tmp_path / "a.heic", [])


def test_heic_is_decoded_upright(tmp_path: Path) -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    pillow_heif.register_heif_opener()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (64, 32), (200, 40, 40)).save(tmp_path / "a.heic", exif=exif)
    upright = read_image(tmp_path / "a.heic", [])
    assert upright.size == (64, 32)  # HEIC has its own orientation; EXIF repeats it and must not apply again
    assert np.abs(np.asarray(upright).mean(axis=(0, 1)) - (200, 40, 40)).max() < 6
    (tmp_path / "a.heic").write_bytes((tmp_path / "a.heic").read_bytes()[:200])
    with pytest.raises(ImageError, match=r"damaged|not an image"):
        read_image(tmp_path / "a.heic", [])


def test_bytes_in_memory_are_read_instead_of_the_file(tmp_path: Path) -> None:
    file = io.BytesIO()
    Image.new("RGB", (20, 30), "blue").save(file, format="PNG")
    assert read_image(tmp_path / "gone.png", [], file.getvalue()).size == (20, 30)


def test_huge_files_are_refused_before_they_are_read(tmp_path: Path) -> None:
    with (tmp_path / "film.mp4").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(ImageError, match="too large, 512 MiB"):
        read_image(tmp_path / "film.mp4", [])
