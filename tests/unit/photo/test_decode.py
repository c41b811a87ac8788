"""Colour profiles, bit depths and HEIC; orientation, transparency and damage are in test_load.py."""

from __future__ import annotations

import io
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin

from g2s_cli.errors import ImageError
from g2s_cli.photo import decode
from g2s_cli.photo.damaged import MAX_MISSING_SHARE
from g2s_cli.photo.decode import MAX_BYTES, MAX_METADATA_BYTES, notable, read_image

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
    return read_image(tmp_path / "a.png", notes).colours, notes


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
    upright = read_image(tmp_path / "a.heic", []).colours
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


def png_chunk(name: bytes, body: bytes, checksum: int | None = None) -> bytes:
    checksum = zlib.crc32(name + body) if checksum is None else checksum
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", checksum)


def encoded(format_: str, **save: object) -> bytes:
    """A file of 320 x 240 random pixels on a slope, which fills every row."""
    noise = np.random.default_rng(0).integers(0, 40, (240, 320, 3)) + np.linspace(60, 200, 320)[None, :, None]
    file = io.BytesIO()
    Image.fromarray(noise.astype(np.uint8)).save(file, format_, **save)
    return file.getvalue()


def with_chunk(chunk: bytes) -> bytes:
    """A PNG with a chunk before its pixels."""
    data = encoded("PNG")
    return data[:33] + chunk + data[33:]


METADATA = {
    b"zTXt": b"Comment\0\0" + zlib.compress(bytes(9_000_000)),
    b"iTXt": b"Comment\0\1\0\0\0" + zlib.compress(b"a" * 9_000_000),
    b"iCCP": b"profile\0\0" + zlib.compress(SRGB + bytes(9_000_000)),
}


@pytest.mark.parametrize("name", METADATA)
def test_large_metadata_are_read(name: bytes) -> None:
    before = PngImagePlugin.MAX_TEXT_CHUNK, Image.MAX_IMAGE_PIXELS
    assert read_image(Path("a.png"), [], with_chunk(png_chunk(name, METADATA[name]))).size == (320, 240)
    assert before == (PngImagePlugin.MAX_TEXT_CHUNK, Image.MAX_IMAGE_PIXELS)


def test_metadata_beyond_the_limit_are_left_out_or_named_as_such() -> None:
    chunk = png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(MAX_METADATA_BYTES + 1)))
    notes: list[str] = []
    assert read_image(Path("a.png"), notes, with_chunk(chunk)).missing == 0
    assert notes == ["read in spite of metadata above 64 MiB, all its pixels are there"]
    chunk = png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(MAX_METADATA_BYTES - 1)))
    with pytest.raises(ImageError, match="more than 64 MiB of metadata") as refusal:
        read_image(Path("a.png"), [], with_chunk(3 * chunk))
    assert "damaged" not in str(refusal.value)


@pytest.mark.parametrize("name", [b"tEXt", b"gAMA", b"eXIf", b"iCCP"])
def test_wrong_checksums_of_metadata_are_read_with_a_note(name: bytes) -> None:
    notes: list[str] = []
    picture = read_image(
        Path("a.png"), notes, with_chunk(png_chunk(name, b"Comment\0\0" + zlib.compress(b"hello"), checksum=1))
    )
    assert np.array_equal(np.asarray(picture.colours), np.asarray(Image.open(io.BytesIO(encoded("PNG")))))
    assert picture.missing == 0
    assert notable(notes) == ["read in spite of damage, all its pixels are there"]


@pytest.mark.parametrize(
    ("format_", "cut"), [("JPEG", 1), ("JPEG", 2), ("PNG", 4), ("PNG", 12), ("PNG", 16), ("GIF", 1)]
)
@pytest.mark.parametrize("progressive", [False, True])
def test_a_missing_end_without_pixels_is_read(format_: str, cut: int, progressive: bool) -> None:
    data = encoded(format_, **({"progressive": True} if format_ == "JPEG" and progressive else {}))
    picture = read_image(Path("a"), [], data[:-cut])
    assert np.array_equal(np.asarray(picture.colours), np.asarray(read_image(Path("a"), [], data).colours))
    assert picture.missing == 0


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "BMP", "TIFF"])
def test_missing_pixels_are_counted_and_refused_above_a_share(format_: str) -> None:
    data, notes = encoded(format_), []
    picture = read_image(Path("a"), notes, data[: -8 if format_ == "JPEG" else -40])
    assert 0 < picture.missing <= MAX_MISSING_SHARE
    assert f"without {100 * picture.missing:.1f} % of its pixels" in notes[0]
    with pytest.raises(ImageError, match="damaged or incomplete"):
        read_image(Path("a"), [], data[: len(data) * 2 // 3])


def test_pixels_with_a_wrong_checksum_are_refused() -> None:
    data = bytearray(encoded("PNG"))
    data[len(data) // 2] ^= 255
    with pytest.raises(ImageError, match="damaged or incomplete"):
        read_image(Path("a.png"), [], bytes(data))


def test_a_shortage_of_memory_is_no_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(Image.Image, "convert", fail)
    with pytest.raises(MemoryError):
        read_image(Path("a.gif"), [], encoded("GIF"))


def save_pages(path: Path, *sizes: int, tags: tuple[int, ...] = ()) -> None:
    """A TIFF of white squares; tags: each page's NewSubfileType."""
    pages = []
    for index, size in enumerate(sizes):
        page = Image.new("L", (size, size), 255 - index)
        page.encoderinfo = {"tiffinfo": {254: tags[index] if tags else 0}}
        pages.append(page)
    pages[0].save(path, save_all=True, append_images=pages[1:], tiffinfo=pages[0].encoderinfo["tiffinfo"])


@pytest.mark.parametrize(
    ("sizes", "tags", "page"),
    [((80, 20), (), 0), ((20, 80), (), 1), ((80, 60, 40), (0, 1, 1), 0), ((80, 80), (0, 4), 0), ((30, 60, 10), (), 1)],
)
def test_the_picture_of_a_tiff_with_thumbnails_is_taken(
    tmp_path: Path, sizes: tuple[int, ...], tags: tuple[int, ...], page: int
) -> None:
    save_pages(tmp_path / "a.tif", *sizes, tags=tags)
    notes: list[str] = []
    picture = read_image(tmp_path / "a.tif", notes)
    assert picture.size == (sizes[page],) * 2
    assert picture.colours.getpixel((3, 3)) == (255 - page,) * 3
    assert notable(notes)[0] == f"taken from page {page + 1} of {len(sizes)}, the largest"


def test_a_tiff_of_several_pictures_is_refused(tmp_path: Path) -> None:
    save_pages(tmp_path / "a.tif", 80, 80)
    with pytest.raises(ImageError, match="holds several pictures"):
        read_image(tmp_path / "a.tif", [])


@pytest.mark.parametrize(("bits", "suffix"), [(10, "png"), (12, "png"), (12, "tif")])
def test_grey_of_few_bits_is_stretched(tmp_path: Path, bits: int, suffix: str) -> None:
    ramp = np.linspace(0, 2**bits - 1, 64 * 64).reshape(64, 64)
    Image.fromarray(ramp.astype(np.uint16)).save(tmp_path / f"a.{suffix}")
    notes: list[str] = []
    levels = np.asarray(read_image(tmp_path / f"a.{suffix}", notes).colours)[..., 0]
    assert np.abs(levels - ramp / (2**bits - 1) * 255).max() < 1
    assert notable(notes) == notes == [f"stretched from {bits} to 8 bits"]


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "1", "RGBA", "I;16"])
@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
def test_large_pictures_are_halved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str, suffix: str) -> None:
    if suffix == "jpg" and mode not in ("RGB", "L"):
        pytest.skip("JPEG has no such mode")
    ramp = Image.linear_gradient("L").resize((301, 201))
    image = Image.fromarray(np.asarray(ramp).astype(np.uint16) * 257) if mode == "I;16" else ramp.convert(mode)
    image.save(tmp_path / f"a.{suffix}")
    whole = read_image(tmp_path / f"a.{suffix}", []).colours
    monkeypatch.setattr(decode, "MAX_WHOLE_PIXELS", 300 * 200)
    picture = read_image(tmp_path / f"a.{suffix}", [])
    assert (picture.size, picture.reduction, picture.colours.size) == ((301, 201), 2, (151, 101))
    shrunk = whole.reduce(2)
    assert np.abs(np.asarray(picture.colours, dtype=float) - np.asarray(shrunk)).mean() < 3


def test_pictures_above_the_limit_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "MAX_PIXELS", 76_000)
    with pytest.raises(ImageError, match="takes up to"):
        read_image(Path("a.png"), [], encoded("PNG"))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
def test_a_part_is_that_of_the_upright_picture(tmp_path: Path, orientation: int, suffix: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (5, 8, 3), dtype=np.uint8)).resize((80, 50), 0)
    image.save(tmp_path / f"a.{suffix}", exif=exif)
    box = (12, 3, 41, 36)
    part = read_image(tmp_path / f"a.{suffix}", [], box=box).colours
    expected = read_image(tmp_path / f"a.{suffix}", []).colours.crop(box)
    assert np.array_equal(np.asarray(part), np.asarray(expected))
