"""open_photo of a category of faces: turned, small, several and absent faces."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from g2s_cli.errors import ImageError
from g2s_cli.photo.align import CropOptions
from g2s_cli.photo.load import open_photo
from g2s_cli.weights.categories import load_category

PORTRAIT = Path(__file__).parents[2] / "data" / "portrait.jpg"
TEMPLATE = load_category("celeba").face_template


@pytest.mark.parametrize("turn", [Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_180, Image.Transpose.ROTATE_270])
@pytest.mark.parametrize("side", [None, 200])
def test_a_face_on_its_side_is_found(tmp_path: Path, turn: Image.Transpose, side: int | None) -> None:
    with Image.open(PORTRAIT) as image:
        upright = image.resize((side, side)) if side else image.copy()
    upright.save(tmp_path / "upright.png")
    upright.transpose(turn).save(tmp_path / "turned.png")
    expected = open_photo(tmp_path / "upright.png", 128, TEMPLATE, CropOptions(face=1))
    photo = open_photo(tmp_path / "turned.png", 128, TEMPLATE)
    assert photo.alignment["how"] == "aligned"
    assert (photo.image - expected.image).abs().mean() < 0.05


@pytest.mark.parametrize("side", [16, 100, 220, 256, 300])
def test_a_picture_without_a_face_is_refused_at_every_size(tmp_path: Path, side: int) -> None:
    logo = Image.new("RGB", (side, side), "white")
    ImageDraw.Draw(logo).rectangle((side // 4, side // 4, side // 2, 3 * side // 4), fill="navy")
    logo.save(tmp_path / "logo.png")
    with pytest.raises(ImageError, match="shows no face"):
        open_photo(tmp_path / "logo.png", 128, TEMPLATE)


def test_a_face_of_few_pixels_draws_a_warning(tmp_path: Path) -> None:
    with Image.open(PORTRAIT) as image:
        image.resize((60, 80), Image.Resampling.BOX).save(tmp_path / "small.png")
    [warning] = open_photo(tmp_path / "small.png", 128, TEMPLATE).warnings
    assert warning.startswith("The face in small.png has ")
    assert open_photo(PORTRAIT, 128, TEMPLATE).warnings == ()


def test_the_larger_of_two_faces_is_taken_with_a_warning(tmp_path: Path) -> None:
    with Image.open(PORTRAIT) as image:
        both = Image.new("RGB", (580, 400), "grey")
        both.paste(image.resize((180, 200)), (10, 100))
        both.paste(image, (200, 0))
    both.save(tmp_path / "two.png")
    photo = open_photo(tmp_path / "two.png", 128, TEMPLATE)
    assert photo.placement.x > 200
    assert photo.warnings == ("two.png shows 2 faces; this is the largest. --face 2 takes the next one.",)
    second = open_photo(tmp_path / "two.png", 128, TEMPLATE, CropOptions(face=2))
    assert second.placement.x < 200
    assert second.alignment["face"] == 2
    assert second.warnings == ()
