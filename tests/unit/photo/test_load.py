"""Every kind of file a user may point at: what becomes of it, and how the others are refused."""

from __future__ import annotations

import os
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from g2s_cli.errors import ImageError
from g2s_cli.geometry.placement import Placement
from g2s_cli.photo.align import CropOptions
from g2s_cli.photo.load import MOST_ALIGNED, open_photo
from g2s_cli.weights.catalog import load_category

PORTRAIT = Path(__file__).parents[1] / "data" / "portrait.jpg"

# One colour a quarter: top left, top right, bottom left, bottom right.
QUARTERS = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0))


def quarters(size: int = 32) -> Image.Image:
    pixels = np.array(QUARTERS, dtype=np.uint8).reshape(2, 2, 3)
    return Image.fromarray(pixels.repeat(size // 2, axis=0).repeat(size // 2, axis=1))


def corners(image: torch.Tensor) -> list[tuple[int, ...]]:
    """The four corner pixels, as 8-bit colours."""
    rows = ((image + 1) * 127.5).round().long()
    return [tuple(rows[:, i, j].tolist()) for i in (0, -1) for j in (0, -1)]


def test_a_plain_photo_comes_through_unchanged(tmp_path: Path) -> None:
    quarters().save(tmp_path / "a.png")
    photo = open_photo(tmp_path / "a.png", 32)
    assert photo.name == "a.png"
    assert photo.notes == ()
    assert photo.image.shape == (3, 32, 32)
    assert corners(photo.image) == list(QUARTERS)


def test_whole_factors_are_area_averages(tmp_path: Path) -> None:
    # Pillow rounds after each of its two passes: up to half a level each.
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    photo = open_photo(tmp_path / "a.png", 16)
    expected = torch.from_numpy(pixels).double().view(16, 4, 16, 4, 3).mean(dim=(1, 3)).permute(2, 0, 1)
    assert torch.allclose((photo.image.double() + 1) * 127.5, expected, atol=1.0)
    assert photo.notes == ("resized from 64x64 to 16x16",)


def test_the_middle_square_of_a_wide_photo_is_kept(tmp_path: Path) -> None:
    wide = Image.new("RGB", (96, 32))
    wide.paste(quarters(), (32, 0))
    wide.save(tmp_path / "a.png")
    photo = open_photo(tmp_path / "a.png", 32)
    assert corners(photo.image) == list(QUARTERS)
    assert photo.notes == ("cropped to the middle square, 32x32 of 96x32",)


@pytest.mark.parametrize("orientation", range(9))
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int) -> None:
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,  # a viewer must turn it clockwise, so it lies turned anticlockwise
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = quarters().transpose(undo[orientation]) if orientation > 1 else quarters()
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "a.png", exif=exif)
    photo = open_photo(tmp_path / "a.png", 32)
    assert corners(photo.image) == list(QUARTERS)
    assert photo.notes == (() if orientation < 2 else ("turned by its EXIF orientation",))


def test_transparency_is_laid_on_white(tmp_path: Path) -> None:
    picture = quarters().convert("RGBA")
    picture.paste((9, 9, 9, 0), (0, 0, 16, 16))
    picture.save(tmp_path / "a.png")
    photo = open_photo(tmp_path / "a.png", 32)
    assert corners(photo.image) == [(255, 255, 255), *QUARTERS[1:]]
    assert "laid on white" in photo.notes[0]


def test_a_palette_with_a_transparent_entry_is_laid_on_white(tmp_path: Path) -> None:
    picture = quarters().quantize(4)
    hidden = picture.getpixel((0, 0))
    picture.save(tmp_path / "a.png", transparency=hidden)
    assert corners(open_photo(tmp_path / "a.png", 32).image) == [(255, 255, 255), *QUARTERS[1:]]


@pytest.mark.parametrize("mode", ["P", "L", "1", "LA", "CMYK"])
def test_other_colour_modes_work(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    quarters().convert(mode).save(path)
    expected = quarters().convert(mode).convert("RGB")
    assert corners(open_photo(path, 32).image) == [expected.getpixel(at) for at in ((0, 0), (31, 0), (0, 31), (31, 31))]


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_keep_their_brightness(tmp_path: Path, suffix: str) -> None:
    ramp = np.linspace(0, 65535, 32 * 32).reshape(32, 32).astype(np.uint16)
    Image.fromarray(ramp).save(tmp_path / f"a.{suffix}")
    image = open_photo(tmp_path / f"a.{suffix}", 32).image
    assert torch.allclose((image[0] + 1) / 2, torch.from_numpy(ramp / 65535).float(), atol=0.003)


def test_small_photos_are_enlarged_and_it_is_said(tmp_path: Path) -> None:
    quarters(16).save(tmp_path / "a.png")
    assert open_photo(tmp_path / "a.png", 64).notes == ("enlarged from 16x16 to 64x64",)


@pytest.mark.parametrize(("width", "height", "side"), [(300, 200, 200), (40, 20, 32), (2500, 2100, 2048)])
def test_the_aligned_crop_keeps_the_photo_s_own_pixels(tmp_path: Path, width: int, height: int, side: int) -> None:
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (height // 20, width // 20, 3), dtype=np.uint8)
    photo = Image.fromarray(coarse).resize((width, height), Image.Resampling.BILINEAR)
    photo.save(tmp_path / "photo.png")
    opened = open_photo(tmp_path / "photo.png", 32)
    assert opened.aligned.shape == (side, side, 3)
    assert opened.aligned.dtype == np.uint8
    if side == height:
        left = (width - side) // 2
        assert np.array_equal(opened.aligned, np.asarray(photo)[:, left : left + side])
    method = Image.Resampling.BICUBIC if side % 32 else Image.Resampling.BOX
    shrunk = np.asarray(Image.fromarray(opened.aligned).resize((32, 32), method)) / 127.5 - 1
    assert np.abs(shrunk - opened.image.permute(1, 2, 0).numpy()).mean() < 0.01


def two_frames(path: Path) -> None:
    quarters().save(path, save_all=True, append_images=[quarters().rotate(90)])


def too_large(path: Path) -> None:
    # The header alone says 20 000 x 20 000: nothing may try to decode what follows.
    quarters().save(path)
    data = bytearray(path.read_bytes())
    data[16:24] = (20_000).to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(bytes(data[12:29])).to_bytes(4, "big")
    path.write_bytes(data)


def truncated(path: Path) -> None:
    Image.effect_noise((64, 64), 90).save(path)
    path.write_bytes(path.read_bytes()[:1500])


BAD = {
    "missing.jpg": (lambda _: None, "There is no file"),
    "folder": (Path.mkdir, "is a folder"),
    "pipe.png": (os.mkfifo, "is not a regular file"),
    "text.jpg": (lambda path: path.write_text("dear diary"), "is not an image"),
    "empty.png": (Path.touch, "is not an image"),
    "truncated.jpg": (truncated, "is damaged or incomplete"),
    "dot.png": (lambda path: Image.new("RGB", (1, 1)).save(path), "1x1 pixels"),
    "wide.png": (lambda path: Image.new("1", (9000, 20)).save(path), "too large, 9000x20"),
    "bomb.png": (too_large, "too large"),
    "moving.gif": (two_frames, "holds several pictures"),
    "moving.webp": (two_frames, "holds several pictures"),
    "blank.png": (lambda path: Image.new("RGB", (64, 64), "black").save(path), "shows nothing"),
    "clear.png": (lambda path: Image.new("RGBA", (64, 64)).save(path), "shows nothing"),
    "float.tif": (lambda path: Image.new("F", (32, 32)).save(path), "floating-point"),
    f"{'x' * 300}.png": (lambda _: None, "cannot be opened"),
}


@pytest.mark.parametrize("name", BAD)
def test_unusable_files_are_refused_in_one_sentence(tmp_path: Path, name: str) -> None:
    make, reason = BAD[name]
    make(tmp_path / name)
    with pytest.raises(ImageError, match=reason) as refusal:
        open_photo(tmp_path / name, 32)
    assert name in refusal.value.what
    assert refusal.value.remedy
    assert "\n" not in str(refusal.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_files_that_may_not_be_read(tmp_path: Path) -> None:
    quarters().save(tmp_path / "a.png")
    for locked in (tmp_path / "a.png", tmp_path):
        locked.chmod(0)
        with pytest.raises(ImageError, match="may not be read"):
            open_photo(tmp_path / "a.png", 32)
        locked.chmod(0o755)


def test_a_stereo_jpeg_is_its_first_picture(tmp_path: Path) -> None:
    first, second = Image.new("RGB", (32, 32), "red"), Image.new("RGB", (32, 32), "blue")
    first.paste("black", (16, 0, 32, 32))
    first.save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=[second])
    red, _, blue = open_photo(tmp_path / "a.jpg", 32).image[:, 0, 0].tolist()
    assert red > 0.9
    assert blue < -0.9


def test_the_aligned_crop_has_the_photos_own_resolution(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (96, 120, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    photo = open_photo(tmp_path / "a.png", 32)
    assert np.array_equal(photo.aligned, pixels[:, 12:108])
    assert photo.placement == Placement.from_box(12, 0, 96)
    assert photo.original == (tmp_path / "a.png").read_bytes()
    facts = photo.alignment
    assert (facts["how"], facts["photo_px"], facts["aligned_px"], facts["side_px"]) == ("middle", [120, 96], 96, 96)
    assert np.allclose(facts["aligned_to_photo"], ((1, 0, 12), (0, 1, 0)))


@pytest.mark.parametrize(("side", "aligned"), [(20, 64), (100, 100), (2500, MOST_ALIGNED)])
def test_it_is_neither_smaller_than_the_gans_pictures_nor_huge(tmp_path: Path, side: int, aligned: int) -> None:
    quarters(side).save(tmp_path / "a.png")
    assert open_photo(tmp_path / "a.png", 64).aligned.shape == (aligned, aligned, 3)


def test_a_crop_beyond_the_edges_is_filled_and_it_is_said(tmp_path: Path) -> None:
    quarters(64).save(tmp_path / "a.png")
    photo = open_photo(tmp_path / "a.png", 32, crop_options=CropOptions(crop=(-16.0, 0.0, 64.0, 64.0)))
    assert photo.alignment["filled_share"] == pytest.approx(0.25, abs=0.01)
    assert "mirrored at its edges to fill 25.0 % of the crop" in photo.notes
    assert photo.warnings == ("25 % of the crop lies beyond the edges of a.png and had to be made up.",)


def test_a_mask_is_cut_out_as_the_photo_is(tmp_path: Path) -> None:
    quarters(64).save(tmp_path / "a.png")
    mask = Image.new("L", (64, 64))
    mask.paste(255, (0, 0, 32, 64))
    mask.save(tmp_path / "mask.png")
    crop_options = CropOptions(crop=(16.0, 16.0, 32.0, 32.0), mask=tmp_path / "mask.png")
    photo = open_photo(tmp_path / "a.png", 16, crop_options=crop_options)
    assert photo.mask is not None
    assert (photo.mask[:, :8] == 1).all()
    assert (photo.mask[:, 8:] == 0).all()


def test_a_mask_beyond_the_edges_is_black(tmp_path: Path) -> None:
    quarters(64).save(tmp_path / "a.png")
    Image.new("L", (64, 64), 255).save(tmp_path / "mask.png")
    crop_options = CropOptions(crop=(-32.0, 0.0, 64.0, 64.0), mask=tmp_path / "mask.png")
    mask = open_photo(tmp_path / "a.png", 64, crop_options=crop_options).mask
    assert mask is not None
    assert (mask[:, :32] == 0).all()
    assert (mask[:, 32:] == 1).all()


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_in_a_mask_is_no_object(tmp_path: Path, mode: str) -> None:
    quarters(64).save(tmp_path / "a.png")
    mask = Image.new("LA", (64, 64), (255, 0))
    mask.paste((255, 255), (0, 0, 32, 64))
    mask.paste((255, 128), (0, 0, 32, 32))
    if mode == "P":
        hard = Image.new("P", (64, 64), 1)
        hard.putpalette([255, 255, 255] * 2)
        hard.paste(0, (0, 0, 32, 64))
        hard.save(tmp_path / "mask.png", transparency=1)
    else:
        mask.convert(mode).save(tmp_path / "mask.png")
    photo = open_photo(tmp_path / "a.png", 64, crop_options=CropOptions(mask=tmp_path / "mask.png"))
    assert photo.mask is not None
    assert (photo.mask[32:, :32] == 1).all()
    assert (photo.mask[:, 32:] == 0).all()
    assert torch.allclose(photo.mask[:32, :32], torch.tensor(1.0 if mode == "P" else 128 / 255), atol=0.01)
    assert photo.warnings == ()


def test_a_mask_that_leaves_nothing_out_is_said(tmp_path: Path) -> None:
    quarters(64).save(tmp_path / "a.png")
    Image.new("L", (64, 64), 255).save(tmp_path / "mask.png")
    photo = open_photo(tmp_path / "a.png", 32, crop_options=CropOptions(mask=tmp_path / "mask.png"))
    assert photo.warnings == ("mask.png leaves nothing of the crop out. White is the object, black is the rest.",)


@pytest.mark.parametrize(
    ("size", "white", "reason"), [((64, 32), 255, "is 64x32 pixels"), ((64, 64), 0, "leaves nothing of the crop")]
)
def test_masks_that_cannot_be_used(tmp_path: Path, size: tuple[int, int], white: int, reason: str) -> None:
    quarters(64).save(tmp_path / "a.png")
    Image.new("L", size, white).save(tmp_path / "mask.png")
    with pytest.raises(ImageError, match=reason) as refusal:
        open_photo(tmp_path / "a.png", 32, crop_options=CropOptions(mask=tmp_path / "mask.png"))
    assert "mask.png" in refusal.value.what


def test_a_crop_that_is_too_small(tmp_path: Path) -> None:
    quarters(64).save(tmp_path / "a.png")
    with pytest.raises(ImageError, match="10 pixels a side"):
        open_photo(tmp_path / "a.png", 32, crop_options=CropOptions(crop=(9.0, 9.0, 10.0, 10.0)))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_portrait_is_aligned_however_its_camera_was_held(tmp_path: Path, orientation: int) -> None:
    undo = [None, *(Image.Transpose(k) for k in (0, 3, 1, 5, 2, 6, 4))]  # what EXIF 2 to 8 will be undone by
    with Image.open(PORTRAIT) as picture:
        stored = picture.transpose(undo[orientation - 1]) if orientation > 1 else picture.copy()
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "a.png", exif=exif)
    template = load_category("celeba").align
    expected, photo = open_photo(PORTRAIT, 128, template), open_photo(tmp_path / "a.png", 128, template)
    assert photo.alignment["how"] == "aligned"
    assert photo.placement == expected.placement
    assert torch.equal(photo.image, expected.image)


def test_the_larger_of_two_faces_is_taken_and_it_is_said(tmp_path: Path) -> None:
    with Image.open(PORTRAIT) as picture:
        both = Image.new("RGB", (580, 400), "grey")
        both.paste(picture.resize((180, 200)), (10, 100))
        both.paste(picture, (200, 0))
    both.save(tmp_path / "two.png")
    template = load_category("celeba").align
    photo = open_photo(tmp_path / "two.png", 128, template)
    assert photo.placement.x > 200
    assert photo.warnings == ("two.png shows 2 faces; this is the largest. --face 2 takes the next one.",)
    second = open_photo(tmp_path / "two.png", 128, template, CropOptions(face=2))
    assert second.placement.x < 200
    assert second.alignment["face"] == 2
    assert second.warnings == ()
