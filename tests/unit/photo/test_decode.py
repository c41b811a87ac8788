"""Colour profiles and HEIC; orientation, transparency and damage are in test_photo.py."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from g2s_cli.errors import ImageError
from g2s_cli.photo.decode import MOST_BYTES, read_image

HEIC_HEADER = b"\x00\x00\x00\x1cftypheic\x00\x00\x00\x00mif1heicmiaf"


def swapped_profile() -> bytes:
    """A profile like sRGB's whose red and green primaries have changed places, and with another name."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    tags = {
        bytes(profile[at : at + 4]): at for at in range(132, 132 + 12 * int.from_bytes(profile[128:132], "big"), 12)
    }
    red, green = tags[b"rXYZ"], tags[b"gXYZ"]
    profile[red : red + 4], profile[green : green + 4] = b"gXYZ", b"rXYZ"
    return bytes(profile).replace("sRGB".encode("utf-16-be"), "xGRB".encode("utf-16-be")).replace(b"sRGB b", b"xGRB b")


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_a_colour_profile_is_applied(tmp_path: Path, mode: str) -> None:
    picture = Image.new("RGB", (20, 20), (255, 0, 0)).convert(mode)
    picture.save(tmp_path / "a.png", icc_profile=swapped_profile())
    notes: list[str] = []
    red, green, blue = read_image(tmp_path / "a.png", notes).getpixel((5, 5))
    assert green > 240
    assert max(red, blue) < 30
    assert notes == ["converted from its colour profile to sRGB"]


def test_what_is_srgb_already_keeps_its_very_pixels(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 20, 3), dtype=np.uint8)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(pixels).save(tmp_path / "a.png", icc_profile=profile)
    notes: list[str] = []
    assert np.array_equal(np.asarray(read_image(tmp_path / "a.png", notes)), pixels)
    assert notes == []


def linear_profile() -> bytes:
    """A profile that is called sRGB, but whose values are shares of light, as GIMP has one."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    at = profile.index(b"para")
    one, none = (1 << 16).to_bytes(4, "big"), bytes(4)
    # y = (a x + b) ** g where x >= d, else c x: g, a, b, c, d.
    return profile[: at + 12] + one + one + none + one + none + profile[at + 32 :]


def test_a_linear_profile_is_applied_though_it_is_called_srgb(tmp_path: Path) -> None:
    Image.new("RGB", (20, 20), (55, 55, 55)).save(tmp_path / "a.png", icc_profile=linear_profile())
    notes: list[str] = []
    grey = read_image(tmp_path / "a.png", notes).getpixel((5, 5))
    assert grey == pytest.approx((128, 128, 128), abs=2)  # 12.92 x, or 1.055 x ** (1 / 2.4) - 0.055
    assert notes == ["converted from its colour profile to sRGB"]


def grey_profile(gamma: float) -> bytes:
    """A profile of greys alone: ICC.1:2001, 8.2.1, with its three required tags."""
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


@pytest.mark.parametrize("mode", ["L", "I;16"])
def test_a_profile_of_greys_is_applied_to_eight_bits_and_to_sixteen(tmp_path: Path, mode: str) -> None:
    grey = Image.new("L", (20, 20), 55) if mode == "L" else Image.new("I;16", (20, 20), 55 * 257)
    grey.save(tmp_path / "a.png", icc_profile=grey_profile(1.0))
    notes: list[str] = []
    assert read_image(tmp_path / "a.png", notes).getpixel((5, 5)) == pytest.approx((128, 128, 128), abs=2)
    converted = "converted from its colour profile to sRGB"
    assert notes == [converted] if mode == "L" else ["brought from 16 to 8 bits", converted]


def test_profiles_are_applied_to_all_sixteen_bits(tmp_path: Path) -> None:
    """Dark greys of linear light lie close together: of 8 bits there would be 183 levels left."""
    ramp = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
    Image.fromarray(ramp).save(tmp_path / "a.png", icc_profile=grey_profile(1.0))
    assert len(np.unique(np.asarray(read_image(tmp_path / "a.png", [])))) > 250


def test_greys_of_sixteen_bits_say_nothing_else(tmp_path: Path) -> None:
    Image.new("I;16", (20, 20), 55 * 257).save(tmp_path / "a.png")
    notes: list[str] = []
    assert read_image(tmp_path / "a.png", notes).getpixel((5, 5)) == (55, 55, 55)
    assert notes == ["brought from 16 to 8 bits"]


@pytest.mark.parametrize("mode", ["L", "I;16"])
def test_a_profile_that_is_not_meant_for_greys_is_passed_over(tmp_path: Path, mode: str) -> None:
    Image.new(mode, (20, 20), 55 if mode == "L" else 55 * 257).save(tmp_path / "a.png", icc_profile=swapped_profile())
    notes: list[str] = []
    assert read_image(tmp_path / "a.png", notes).getpixel((5, 5)) == (55, 55, 55)
    assert "taken without its colour profile, which is not meant for it" in notes


@pytest.mark.parametrize("profile", [b"not a profile", swapped_profile()[:200]])
def test_a_broken_profile_is_passed_over_and_it_is_said(tmp_path: Path, profile: bytes) -> None:
    Image.new("RGB", (20, 20), (10, 200, 30)).save(tmp_path / "a.png", icc_profile=profile)
    notes: list[str] = []
    assert read_image(tmp_path / "a.png", notes).getpixel((3, 3)) == (10, 200, 30)
    assert notes == ["taken without its colour profile, which is broken"]


def test_transparency_outlives_the_profile(tmp_path: Path) -> None:
    Image.new("RGBA", (20, 20), (255, 0, 0, 0)).save(tmp_path / "a.png", icc_profile=swapped_profile())
    assert read_image(tmp_path / "a.png", []).getpixel((3, 3)) == (255, 255, 255)


def test_heic_without_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    (tmp_path / "a.heic").write_bytes(HEIC_HEADER)
    with pytest.raises(ImageError, match=r"pip install 'g2s-cli\[heic\]'"):
        read_image(tmp_path / "a.heic", [])


def test_heic(tmp_path: Path) -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    pillow_heif.register_heif_opener()
    picture = Image.new("RGB", (64, 32), (200, 40, 40))
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.save(tmp_path / "a.heic", exif=exif)
    upright = read_image(tmp_path / "a.heic", [])
    assert upright.size == (64, 32)  # HEIC says otherwise how it lies; EXIF repeats that and must not turn it again
    assert np.abs(np.asarray(upright).mean(axis=(0, 1)) - (200, 40, 40)).max() < 6
    (tmp_path / "a.heic").write_bytes((tmp_path / "a.heic").read_bytes()[:200])
    with pytest.raises(ImageError, match=r"damaged|not an image"):
        read_image(tmp_path / "a.heic", [])


def test_bytes_at_hand_are_read_instead_of_the_file(tmp_path: Path) -> None:
    file = io.BytesIO()
    Image.new("RGB", (20, 30), "blue").save(file, format="PNG")
    assert read_image(tmp_path / "gone.png", [], file.getvalue()).size == (20, 30)


def test_a_file_that_is_no_picture_at_all_is_not_read_into_memory(tmp_path: Path) -> None:
    with (tmp_path / "film.mp4").open("wb") as file:
        file.truncate(MOST_BYTES + 1)
    with pytest.raises(ImageError, match="too large, 512 MiB"):
        read_image(tmp_path / "film.mp4", [])
