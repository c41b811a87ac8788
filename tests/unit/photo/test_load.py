"""open_photo on every kind of file: what comes out, and how unusable files are refused."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable
from dataclasses import astuple
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFilter

from g2s_cli.errors import ImageError
from g2s_cli.geometry.placement import Placement
from g2s_cli.photo import align, decode
from g2s_cli.photo.align import CropOptions
from g2s_cli.photo.detect import Face
from g2s_cli.photo.load import MAX_ALIGNED_PX, Photo, open_photo
from g2s_cli.weights.categories import load_category

PORTRAIT = Path(__file__).parents[2] / "data" / "portrait.jpg"
TEMPLATE = load_category("celeba").face_template

# One colour a quarter: top left, top right, bottom left, bottom right.
QUARTERS = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0))
# What was done to an image whose EXIF orientation, 2 to 8, undoes it.
STORED = [None, None, *(Image.Transpose(k) for k in (0, 3, 1, 5, 2, 6, 4))]


def quarters(size: int = 32) -> Image.Image:
    pixels = np.array(QUARTERS, dtype=np.uint8).reshape(2, 2, 3)
    return Image.fromarray(pixels.repeat(size // 2, axis=0).repeat(size // 2, axis=1))


def corners(image: torch.Tensor) -> list[tuple[int, ...]]:
    """The four corner pixels in 8 bits."""
    levels = ((image + 1) * 127.5).round().long()
    return [tuple(levels[:, i, j].tolist()) for i in (0, -1) for j in (0, -1)]


@pytest.fixture
def opened(tmp_path: Path) -> Callable[..., Photo]:
    """Opens an image saved as a.png, with a mask saved as mask.png."""

    def open_saved(
        image: Image.Image,
        size: int = 32,
        crop: tuple[float, ...] | None = None,
        mask: Image.Image | None = None,
        **save,
    ) -> Photo:
        image.save(tmp_path / "a.png", **save)
        if mask is not None:
            mask.save(tmp_path / "mask.png")
        options = CropOptions(crop=crop, mask=None if mask is None else tmp_path / "mask.png")
        return open_photo(tmp_path / "a.png", size, crop_options=options)

    return open_saved


def test_a_plain_photo_is_unchanged(opened: Callable[..., Photo]) -> None:
    photo = opened(quarters())
    assert (photo.name, photo.notes) == ("a.png", ())
    assert photo.image.shape == (3, 32, 32)
    assert corners(photo.image) == list(QUARTERS)


def test_whole_factors_are_area_averages(opened: Callable[..., Photo]) -> None:
    # Pillow rounds after each of its two passes: up to half a level each.
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    photo = opened(Image.fromarray(pixels), 16)
    expected = torch.from_numpy(pixels).double().view(16, 4, 16, 4, 3).mean(dim=(1, 3)).permute(2, 0, 1)
    assert torch.allclose((photo.image.double() + 1) * 127.5, expected, atol=1.0)
    assert photo.notes == ("resized from 64x64 to 16x16",)


def test_the_centre_square_of_a_wide_photo_is_taken(opened: Callable[..., Photo]) -> None:
    wide = Image.new("RGB", (96, 32))
    wide.paste(quarters(), (32, 0))
    photo = opened(wide)
    assert corners(photo.image) == list(QUARTERS)
    assert photo.notes == ("cropped to the centre square, 32x32 of 96x32",)


@pytest.mark.parametrize("orientation", range(9))
def test_exif_orientation_is_applied(opened: Callable[..., Photo], orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    photo = opened(quarters().transpose(STORED[orientation]) if orientation > 1 else quarters(), exif=exif)
    assert corners(photo.image) == list(QUARTERS)
    assert photo.notes == (() if orientation < 2 else ("turned by its EXIF orientation",))


def test_transparency_is_laid_on_white(opened: Callable[..., Photo]) -> None:
    image = quarters().convert("RGBA")
    image.paste((9, 9, 9, 0), (0, 0, 16, 16))
    photo = opened(image)
    assert corners(photo.image) == [(255, 255, 255), *QUARTERS[1:]]
    assert "laid on white" in photo.notes[0]
    palette = quarters().quantize(4)
    photo = opened(palette, transparency=palette.getpixel((0, 0)))
    assert corners(photo.image) == [(255, 255, 255), *QUARTERS[1:]]


@pytest.mark.parametrize("mode", ["P", "L", "1", "LA", "CMYK"])
def test_other_colour_modes_are_converted(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    quarters().convert(mode).save(path)
    expected = quarters().convert(mode).convert("RGB")
    assert corners(open_photo(path, 32).image) == [expected.getpixel(at) for at in ((0, 0), (31, 0), (0, 31), (31, 31))]


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bit_images_keep_their_brightness(tmp_path: Path, suffix: str) -> None:
    ramp = np.linspace(0, 65535, 32 * 32).reshape(32, 32).astype(np.uint16)
    Image.fromarray(ramp).save(tmp_path / f"a.{suffix}")
    image = open_photo(tmp_path / f"a.{suffix}", 32).image
    assert torch.allclose((image[0] + 1) / 2, torch.from_numpy(ramp / 65535).float(), atol=0.003)


def test_small_photos_are_enlarged_with_a_note(opened: Callable[..., Photo]) -> None:
    assert opened(quarters(16), 64).notes == ("enlarged from 16x16 to 64x64",)


@pytest.mark.parametrize(("width", "height", "side"), [(300, 200, 200), (40, 20, 32), (2500, 2100, MAX_ALIGNED_PX)])
def test_the_aligned_crop_has_the_photos_resolution(
    opened: Callable[..., Photo], width: int, height: int, side: int
) -> None:
    coarse = np.random.default_rng(0).integers(0, 256, (height // 20, width // 20, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BILINEAR)
    photo = opened(image)
    assert (photo.aligned.shape, photo.aligned.dtype) == ((side, side, 3), np.uint8)
    if side == height:
        left = (width - side) // 2
        assert np.array_equal(photo.aligned, np.asarray(image)[:, left : left + side])
    method = Image.Resampling.BICUBIC if side % 32 else Image.Resampling.BOX
    shrunk = np.asarray(Image.fromarray(photo.aligned).resize((32, 32), method)) / 127.5 - 1
    assert np.abs(shrunk - photo.image.permute(1, 2, 0).numpy()).mean() < 0.01


def test_the_photo_knows_its_file_and_its_alignment(opened: Callable[..., Photo], tmp_path: Path) -> None:
    photo = opened(quarters(96).resize((120, 96)))
    assert photo.placement == Placement.from_box(12, 0, 96)
    assert photo.original == (tmp_path / "a.png").read_bytes()
    report = photo.alignment
    assert (report["how"], report["photo_px"], report["aligned_px"], report["side_px"]) == ("middle", [120, 96], 96, 96)
    assert np.allclose(report["aligned_to_photo"], ((1, 0, 12), (0, 1, 0)))


def save_animation(path: Path) -> None:
    quarters().save(path, save_all=True, append_images=[quarters().rotate(90)])


def save_bomb(path: Path) -> None:
    """A header of 20 000 x 20 000 pixels: nothing may decode what follows."""
    quarters().save(path)
    data = bytearray(path.read_bytes())
    data[16:24] = (20_000).to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(bytes(data[12:29])).to_bytes(4, "big")
    path.write_bytes(data)


def save_truncated(path: Path) -> None:
    Image.effect_noise((64, 64), 90).save(path)
    path.write_bytes(path.read_bytes()[:1500])


UNUSABLE = {
    "missing.jpg": (lambda _: None, "There is no file"),
    "folder": (Path.mkdir, "is a folder"),
    "pipe.png": (os.mkfifo, "is not a regular file"),
    "text.jpg": (lambda path: path.write_text("dear diary"), "is not an image"),
    "empty.png": (Path.touch, "is not an image"),
    "truncated.jpg": (save_truncated, "is damaged or incomplete"),
    "dot.png": (lambda path: Image.new("RGB", (1, 1)).save(path), "1x1 pixels"),
    "bomb.png": (save_bomb, "too large"),
    "moving.gif": (save_animation, "holds several pictures"),
    "moving.webp": (save_animation, "holds several pictures"),
    "blank.png": (lambda path: Image.new("RGB", (64, 64), "black").save(path), "shows nothing"),
    "clear.png": (lambda path: Image.new("RGBA", (64, 64)).save(path), "shows nothing"),
    "float.tif": (lambda path: Image.new("F", (32, 32)).save(path), "floating-point"),
    f"{'x' * 300}.png": (lambda _: None, "cannot be opened"),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_unusable_files_are_refused_in_one_sentence(tmp_path: Path, name: str) -> None:
    make, reason = UNUSABLE[name]
    make(tmp_path / name)
    with pytest.raises(ImageError, match=reason) as refusal:
        open_photo(tmp_path / name, 32)
    assert name in refusal.value.what
    assert refusal.value.remedy
    assert "\n" not in str(refusal.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_files_are_refused(tmp_path: Path) -> None:
    quarters().save(tmp_path / "a.png")
    for locked in (tmp_path / "a.png", tmp_path):
        locked.chmod(0)
        with pytest.raises(ImageError, match="may not be read"):
            open_photo(tmp_path / "a.png", 32)
        locked.chmod(0o755)


def test_the_first_image_of_a_stereo_jpeg_is_taken(tmp_path: Path) -> None:
    first, second = Image.new("RGB", (32, 32), "red"), Image.new("RGB", (32, 32), "blue")
    first.paste("black", (16, 0, 32, 32))
    first.save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=[second])
    red, _, blue = open_photo(tmp_path / "a.jpg", 32).image[:, 0, 0].tolist()
    assert red > 0.9
    assert blue < -0.9


def test_a_crop_beyond_the_edges_is_mirrored_with_a_warning(opened: Callable[..., Photo]) -> None:
    photo = opened(quarters(64), crop=(-16.0, 0.0, 64.0, 64.0))
    assert photo.alignment["filled_share"] == pytest.approx(0.25, abs=0.01)
    assert "mirrored at its edges to fill 25.0 % of the crop" in photo.notes
    assert photo.warnings == ("25 % of the crop lies beyond the edges of a.png and is mirrored.",)


def test_unusual_files_are_read_with_a_warning(tmp_path: Path) -> None:
    quarters(64).save(tmp_path / "a.jpg")
    (tmp_path / "a.jpg").write_bytes((tmp_path / "a.jpg").read_bytes()[:-2])
    assert open_photo(tmp_path / "a.jpg", 32).warnings == (
        "a.jpg is read in spite of damage, all its pixels are there.",
    )
    Image.fromarray(np.linspace(0, 4095, 64 * 64).reshape(64, 64).astype(np.uint16)).save(tmp_path / "b.png")
    assert open_photo(tmp_path / "b.png", 32).warnings == ("b.png is stretched from 12 to 8 bits.",)


def test_a_crop_that_is_too_small_is_refused(opened: Callable[..., Photo]) -> None:
    with pytest.raises(ImageError, match="10 pixels a side"):
        opened(quarters(64), crop=(9.0, 9.0, 10.0, 10.0))


def test_masks_are_cropped_like_the_photo(opened: Callable[..., Photo]) -> None:
    mask = Image.new("L", (64, 64))
    mask.paste(255, (0, 0, 32, 64))
    photo = opened(quarters(64), 16, (16.0, 16.0, 32.0, 32.0), mask)
    assert (photo.mask.mask[:, :8] == 1).all()
    assert (photo.mask.mask[:, 8:] == 0).all()
    beyond = opened(quarters(64), 64, (-32.0, 0.0, 64.0, 64.0), Image.new("L", (64, 64), 255)).mask.mask
    assert (beyond[:, :32] == 0).all()
    assert (beyond[:, 32:] == 1).all()


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_pixels_of_a_mask_are_background(opened: Callable[..., Photo], tmp_path: Path, mode: str) -> None:
    mask = Image.new("LA", (64, 64), (255, 0))
    mask.paste((255, 255), (0, 0, 32, 64))
    mask.paste((255, 128), (0, 0, 32, 32))
    mask = mask.convert("RGBA" if mode == "P" else mode)
    if mode == "P":
        mask = Image.new("P", (64, 64), 1)
        mask.putpalette([255, 255, 255] * 2)
        mask.paste(0, (0, 0, 32, 64))
        mask.info["transparency"] = 1
    photo = opened(quarters(64), 64, mask=mask)
    assert (photo.mask.mask[32:, :32] == 1).all()
    assert (photo.mask.mask[:, 32:] == 0).all()
    assert torch.allclose(photo.mask.mask[:32, :32], torch.tensor(1.0 if mode == "P" else 128 / 255), atol=0.01)
    assert photo.warnings == ()


def test_a_mask_of_the_whole_crop_is_warned_of(opened: Callable[..., Photo]) -> None:
    photo = opened(quarters(64), mask=Image.new("L", (64, 64), 255))
    assert photo.warnings == ("mask.png covers the whole crop. White is the object, black is the rest.",)


@pytest.mark.parametrize(
    ("size", "white", "reason"), [((64, 32), 255, "is 64x32 pixels"), ((64, 64), 0, "leaves nothing of the crop")]
)
def test_unusable_masks_are_refused(
    opened: Callable[..., Photo], size: tuple[int, int], white: int, reason: str
) -> None:
    with pytest.raises(ImageError, match=reason) as refusal:
        opened(quarters(64), mask=Image.new("L", size, white))
    assert "mask.png" in refusal.value.what


def cutout(size: int = 64) -> Image.Image:
    """A dark and a light half on a transparent ground, as removers of backgrounds write it."""
    image = Image.new("RGBA", (size, size))
    image.paste((20, 20, 20, 255), (size // 4, size // 4, size // 2, 3 * size // 4))
    image.paste((230, 230, 230, 255), (size // 2, size // 4, 3 * size // 4, 3 * size // 4))
    return image


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_the_opacity_of_a_cutout_is_the_mask_whatever_its_colours(opened: Callable[..., Photo], mode: str) -> None:
    mask = cutout().quantize(8) if mode == "P" else cutout().convert(mode)
    photo = opened(quarters(64), 64, mask=mask)
    assert (photo.mask.mask[16:48, 16:48] == 1).all()
    assert photo.mask.mask.mean() == 0.25
    assert (photo.mask.source, photo.warnings) == ("the user", ())


def test_a_transparent_photo_brings_its_mask_along(opened: Callable[..., Photo]) -> None:
    photo = opened(cutout(), 64)
    assert (photo.mask.mask[16:48, 16:48] == 1).all()
    assert photo.mask.mask.mean() == 0.25
    assert photo.mask.source == "transparency of the photo"
    assert "cut out by its own transparency" in photo.notes
    users = opened(cutout(), 64, mask=Image.new("L", (64, 64), 255))
    assert (users.mask.mask == 1).all()
    assert users.mask.source == "the user"


@pytest.mark.parametrize("alpha", [255, 253])
def test_constant_opacity_is_no_mask(opened: Callable[..., Photo], alpha: int) -> None:
    opaque = quarters(64).convert("RGBA")
    opaque.putalpha(alpha)
    assert opened(opaque, 64).mask is None
    mask = Image.new("L", (64, 64))
    mask.paste(255, (0, 0, 32, 64))
    mask = mask.convert("RGBA")
    mask.putalpha(alpha)
    assert opened(quarters(64), 64, mask=mask).mask.mask.mean() == pytest.approx(0.5, abs=0.01)


def test_a_picture_given_as_the_mask_is_refused_or_warned_of(opened: Callable[..., Photo]) -> None:
    grey = Image.linear_gradient("L").resize((64, 64))
    with pytest.raises(ImageError, match=r"mask\.png is no mask: 80 % of its pixels are neither black nor white"):
        opened(quarters(64), 64, mask=grey)
    for ground in (0, 255):  # a cut-out without its transparency
        flat = Image.new("L", (64, 64), ground)
        flat.paste(grey.resize((32, 32)), (16, 16))
        [warning] = opened(quarters(64), 64, mask=flat).warnings
        assert warning.startswith("mask.png may be no mask: 20 % of its pixels")


def test_soft_edges_of_a_mask_are_not_warned_of(opened: Callable[..., Photo]) -> None:
    disc = Image.new("L", (64, 64))
    ImageDraw.Draw(disc).ellipse((12, 12, 52, 52), fill=255)
    assert opened(quarters(64), 64, mask=disc.filter(ImageFilter.GaussianBlur(1.5))).warnings == ()


def test_the_crop_of_a_large_picture_has_its_full_resolution(
    opened: Callable[..., Photo], monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = Image.fromarray(np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8))
    crops = ((101.0, 31.0, 100.0, 100.0), (-20.0, 0.0, 150.0, 150.0), (200.0, 100.0, 130.0, 90.0))
    before = [opened(pixels, 32, crop) for crop in crops]
    monkeypatch.setattr(decode, "MAX_WHOLE_PIXELS", 40_000)
    for crop, expected in zip(crops, before, strict=True):
        photo = opened(pixels, 32, crop)
        assert np.array_equal(photo.aligned, expected.aligned)
        assert photo.alignment == expected.alignment


def test_a_face_in_a_large_picture_is_aligned_as_in_a_small_one(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = open_photo(PORTRAIT, 128, TEMPLATE)
    monkeypatch.setattr(decode, "MAX_WHOLE_PIXELS", 40_000)
    photo = open_photo(PORTRAIT, 128, TEMPLATE)
    assert photo.alignment["photo_px"] == expected.alignment["photo_px"]
    assert astuple(photo.placement) == pytest.approx(astuple(expected.placement), abs=2)
    assert photo.aligned.shape == pytest.approx(expected.aligned.shape, abs=3)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_portrait_is_aligned_in_every_orientation(tmp_path: Path, orientation: int) -> None:
    with Image.open(PORTRAIT) as image:
        stored = image.transpose(STORED[orientation]) if orientation > 1 else image.copy()
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "a.png", exif=exif)
    expected, photo = open_photo(PORTRAIT, 128, TEMPLATE), open_photo(tmp_path / "a.png", 128, TEMPLATE)
    assert photo.alignment["how"] == "aligned"
    assert photo.placement == expected.placement
    assert torch.equal(photo.image, expected.image)


@pytest.mark.parametrize(("yaw_deg", "warned"), [(25, False), (-30, False), (45, True), (-45, True)])
def test_a_face_that_is_turned_far_to_a_side_is_warned_of(
    yaw_deg: float, warned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    template = load_category("portrait").face_template
    x, y, z = (np.array(template.points) - (0.5, 0.5, 0)).T
    yaw = np.radians(yaw_deg)
    landmarks = np.stack((x * np.cos(yaw) + z * np.sin(yaw), y), axis=1) * 200 + 180
    monkeypatch.setattr(align, "find_faces", lambda _: (Face(landmarks, 150.0, 0.99),))
    warnings = open_photo(PORTRAIT, 64, template).warnings
    assert any("is turned far to a side" in warning for warning in warnings) == warned
