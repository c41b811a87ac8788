"""Photos as cameras make them: found, aligned, cropped, masked or refused. One iteration a step is enough here."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import trimesh
from caches import COARSE, FACE
from installed import Command
from PIL import Image

PORTRAIT = FACE.with_name("portrait.jpg")
QUICK = ("--preset", "instant", "--iterations", 1, *COARSE)


def report(folder: Path) -> dict:
    return json.loads((folder / "report.json").read_text())


def test_a_turned_portrait_becomes_an_aligned_mesh(g2s: Command, tmp_path: Path) -> None:
    with Image.open(PORTRAIT) as picture:
        exif = Image.Exif()
        exif[0x0112] = 8
        picture.transpose(Image.Transpose.ROTATE_270).save(tmp_path / "IMG_1.JPG", exif=exif)
    messages = g2s.ok("reconstruct", "IMG_1.JPG", *QUICK, "-o", "made", "-v").stderr
    assert "The photo was turned by its EXIF orientation." in messages
    assert "The photo was aligned by the five points of a face" in messages
    result = tmp_path / "made"
    assert len(trimesh.load(result / "mesh.glb", force="mesh").faces) > 200
    facts = report(result)["alignment"]
    assert (facts["how"], facts["face"], len(facts["faces"])) == ("aligned", 1, 1)
    assert (result / "original.jpg").read_bytes() == (tmp_path / "IMG_1.JPG").read_bytes()
    # The transform in the report maps aligned.png to the photo.
    with Image.open(result / "aligned.png") as crop, Image.open(PORTRAIT) as photo:
        aligned, pixels = np.asarray(crop).astype(float), np.asarray(photo.convert("RGB")).astype(float)
    row, column = np.indices(aligned.shape[:2]).reshape(2, -1)
    places = np.array(facts["aligned_to_photo"]) @ (column, row, np.ones_like(row))
    shifted = [(places + shift).round().astype(int) for shift in (0, 2, -2)]
    errors = [np.abs(aligned[row, column] - pixels[y, x]).mean() for x, y in shifted]
    assert errors[0] < 0.6 * min(errors[1:])


def test_a_photo_without_a_face_is_refused_with_remedies(g2s: Command, tmp_path: Path) -> None:
    y, x = np.mgrid[:300, :400]
    hills = (y > 150 + 30 * np.sin(x / 50))[..., None]
    noise = np.random.default_rng(0).normal(size=(300, 400, 1)) * 9
    picture = np.where(hills, (70, 120, 40), (150, 190, 240)) + noise
    Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(tmp_path / "hills.jpg")
    message = g2s.fails(3, "reconstruct", "hills.jpg", "-o", "made")
    assert all(part in message for part in ("hills.jpg shows no face", "--crop", "--no-align"))
    assert not (tmp_path / "made").exists()
    messages = g2s.ok("reconstruct", "hills.jpg", *QUICK, "--no-align", "-o", "made").stderr
    assert "Note: hills.jpg shows no face" in messages


@pytest.mark.slow
def test_a_prepared_crop_is_not_aligned(g2s: Command, tmp_path: Path) -> None:
    for option, folder in (((), "a"), (("--no-align",), "b")):
        g2s.ok("reconstruct", FACE, *QUICK, *option, "-o", folder)
    assert report(tmp_path / "a")["alignment"]["how"] == "as it is"
    assert (tmp_path / "a" / "input.png").read_bytes() == (tmp_path / "b" / "input.png").read_bytes()


def test_the_users_crop_and_mask_are_used(g2s: Command, tmp_path: Path) -> None:
    with Image.open(PORTRAIT) as photo:
        mask = Image.new("L", photo.size)
    mask.paste(255, (100, 40, 200, 180))
    mask.save(tmp_path / "mask.png")
    g2s.ok("reconstruct", PORTRAIT, *QUICK, "--crop", "80,20,140,180", "--mask", "mask.png", "-o", "made")
    facts = report(tmp_path / "made")
    assert (facts["alignment"]["how"], facts["alignment"]["side_px"]) == ("crop", 180)
    assert facts["mask"] == "the user"
    with Image.open(tmp_path / "made" / "mask.png") as written:
        size = written.width
        columns, rows = (np.asarray(written).max(axis=axis) > 127 for axis in (0, 1))
    # The square about 80..220, 20..200 begins at column 60: the mask covers 40 to 140 and 20 to 160 of its 180.
    assert np.nonzero(columns)[0][[0, -1]] == pytest.approx([40 / 180 * size, 140 / 180 * size - 1], abs=1)
    assert np.nonzero(rows)[0][[0, -1]] == pytest.approx([20 / 180 * size, 160 / 180 * size - 1], abs=1)


def test_a_photo_from_stdin(g2s: Command, tmp_path: Path) -> None:
    replace(g2s, stdin=PORTRAIT).ok("reconstruct", "-", *QUICK, "-o", "made")
    assert report(tmp_path / "made")["photo"] == "stdin"
    assert (tmp_path / "made" / "original").read_bytes() == PORTRAIT.read_bytes()
    (tmp_path / "rubbish").write_bytes(b"?")
    message = replace(g2s, stdin=tmp_path / "rubbish").fails(3, "reconstruct", "-", *QUICK, "-o", "no")
    assert message == "g2s: stdin is not an image that g2s can read. Save it as JPEG or PNG.\n"
