"""What the jobs of the web app do."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from g2s_cli.errors import ImageError
from g2s_cli.machine import Machine
from g2s_cli.options import ReconstructOptions
from g2s_cli.photo.align import CropOptions, align
from g2s_cli.photo.decode import read_image
from g2s_cli.photo.detect import Face
from g2s_cli.pipeline import Pipeline
from g2s_cli.result.schema import Result
from g2s_cli.result.write import write_result
from g2s_cli.webapp import studio as module
from g2s_cli.webapp.jobs import JobProgress
from g2s_cli.webapp.studio import SERVED_FILES, Choice, FacesPicture, PhotoLimits, Studio, draw_faces, film
from g2s_cli.weights.categories import load_category

PORTRAIT = Path(__file__).parents[2] / "data" / "portrait.jpg"


def test_a_photo_beyond_the_limits_gets_a_sentence(tmp_path: Path) -> None:
    limits = PhotoLimits(max_megapixels=0.2, max_bytes=40_000_000, uploads=tmp_path)
    large, wide, fine = (tmp_path / name for name in ("large.jpg", "wide.png", "fine.png"))
    with large.open("wb") as file:
        file.truncate(50_000_000)
    Image.new("L", (1000, 250)).save(wide)
    Image.new("L", (400, 500)).save(fine)
    with pytest.raises(ImageError, match=r"large.jpg is 50 MB; this server takes up to 40\. Save it smaller"):
        limits.check(large)
    with pytest.raises(ImageError, match=r"wide.png has 0.25 megapixels; this server takes up to 0\.2"):
        limits.check(wide)
    limits.check(fine)


def test_a_text_file_gets_the_sentence_of_reconstruct(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("text")
    PhotoLimits(1.0, 1000, tmp_path).check(tmp_path / "text.png")
    with pytest.raises(ImageError, match="not an image that g2s can read"):
        draw_faces(tmp_path / "text.png", "synface")


def test_a_point_of_two_faces_picture_chooses_the_nearer_one(tmp_path: Path) -> None:
    with Image.open(PORTRAIT) as portrait:
        two = Image.new("RGB", (5 * portrait.width, 2 * portrait.height))
        two.paste(portrait.resize((2 * portrait.width, 2 * portrait.height)), (0, 0))
        two.paste(portrait, (3 * portrait.width, 0))
    two.save(tmp_path / "two.png")
    faces = draw_faces(tmp_path / "two.png", "synface")
    assert len(faces.faces) == 2
    assert max(faces.photo.size) == module.FACES_PX
    assert [faces.nearest(*face.landmarks[0]) for face in faces.faces] == [1, 2]
    assert faces.faces[0].landmarks[:, 0].max() < faces.faces[1].landmarks[:, 0].min()
    assert draw_faces(tmp_path / "two.png", "car").faces == ()


@pytest.mark.parametrize("width", [90, 128])
def test_the_faces_of_a_small_photo_are_numbered_as_reconstruct_numbers_them(tmp_path: Path, width: int) -> None:
    with Image.open(PORTRAIT) as portrait:
        two = Image.new("RGB", (2 * width, 2 * width))  # of at most 256 px: a square that may be a crop already
        for left, side in ((0, round(0.7 * width)), (width, width)):
            two.paste(portrait.resize((side, round(side * portrait.height / portrait.width))), (left, 0))
    two.save(tmp_path / "two.png")
    faces, template = draw_faces(tmp_path / "two.png", "synface"), load_category("synface").face_template
    for click, number in (((1.5 * width, 0.4 * width), 1), ((0.35 * width, 0.3 * width), 2)):
        assert faces.nearest(*click) == number
        photo = read_image(tmp_path / "two.png", [])
        placement = align(tmp_path / "two.png", photo, template, CropOptions(face=number)).placement
        assert np.hypot(placement.x - click[0], placement.y - click[1]) < 0.25 * width


def test_the_chosen_face_has_its_own_colour() -> None:
    faces = tuple(Face(np.full((5, 2), at), 40.0, 1.0) for at in (30.0, 90.0))
    pictures = [np.asarray(FacesPicture(Image.new("RGB", (200, 200)), faces).draw(number)) for number in (1, 2)]
    for picture, (chosen, other) in zip(pictures, ((50, 110), (110, 50)), strict=True):
        assert tuple(picture[chosen, chosen - 20]) == (245, 184, 28)
        assert tuple(picture[other, other - 20]) == (255, 255, 255)


class Prepared(Pipeline):
    """A pipeline that returns one result, and writes down how it is used."""

    def __init__(self, result: Result, crops: list[CropOptions | None]) -> None:
        vars(self).update(result=result, crops=crops)

    def with_crop(self, crop: CropOptions | None) -> Prepared:
        self.crops.append(crop)
        return self

    def __call__(self, _: Path, progress: JobProgress) -> Result:
        progress.picture("photo", self.result.photo)
        return self.result


def test_a_job_writes_all_that_is_served_and_loads_a_category_once(
    make: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    crops: list[CropOptions | None] = []
    loaded: list[ReconstructOptions] = []
    monkeypatch.setattr(module.Plan, "of", lambda options: loaded.append(options) or options)
    monkeypatch.setattr(module.Pipeline, "of", lambda *_: Prepared(make(), crops))
    studio, photo = Studio(Machine.named("cpu")), tmp_path / "photo.png"
    choices = [Choice("synface", "instant"), Choice("synface", "instant", 2), Choice("synface", "fast")]
    for number, choice in enumerate(choices):
        folder = tmp_path / str(number)
        folder.mkdir()
        studio.reconstruct(photo, choice, folder, progress := JobProgress())
        assert [(step.name, step.done) for step in progress.state.steps] == [("load", 1), ("write", 1)]
        assert all((folder / name).is_file() for name in SERVED_FILES if name not in module.FILMS)
    with zipfile.ZipFile(tmp_path / "0" / module.OBJ_ZIP) as archive:
        assert archive.namelist() == ["mesh.obj", "mesh.mtl", "texture.png"]
        assert archive.testzip() is None
    assert [options.preset for options in loaded] == ["instant", "fast"]
    assert [crop and crop.face for crop in crops] == [None, 2, None]


@pytest.mark.parametrize("pyav", [True, False])
def test_a_film_turns_the_object_from_side_to_side(
    result: Result, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, pyav: bool
) -> None:
    if pyav:
        pytest.importorskip("av")
    else:
        monkeypatch.setattr(module, "find_spec", lambda _: None)
    monkeypatch.setattr(module, "FILM_FRAMES", 4)
    write_result(result, tmp_path / "out")
    (folder := tmp_path / "film").mkdir()
    film(tmp_path / "out", folder, progress := JobProgress())
    assert progress.state.steps[0].done == 4
    first, second = (np.asarray(Image.open(folder / f"{k:03d}.png"), dtype=float) for k in (0, 1))
    assert np.abs(first - second).mean() > 1
    data = (folder / ("film.mp4" if pyav else "film.gif")).read_bytes()
    assert data[4:8] == b"ftyp" if pyav else data.startswith(b"GIF89a")
