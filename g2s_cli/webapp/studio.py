"""What the jobs of the web app do: find faces, reconstruct a photo, film a result."""

from __future__ import annotations

import math
import zipfile
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from g2s_cli.errors import ImageError
from g2s_cli.loading import Plan
from g2s_cli.machine import Machine
from g2s_cli.mesh.options import Body, MeshOptions
from g2s_cli.options import ReconstructOptions
from g2s_cli.photo.align import CropOptions, find_faces, scale_face
from g2s_cli.photo.decode import read_image
from g2s_cli.photo.detect import Face
from g2s_cli.pipeline import Pipeline
from g2s_cli.progress import Progress
from g2s_cli.result.film import FilmOptions, write_film
from g2s_cli.result.pictures import rotate_each
from g2s_cli.result.read import read_result
from g2s_cli.result.schema import PAGE
from g2s_cli.result.write import save_image, write_result
from g2s_cli.weights.categories import load_category

OBJ_FILES = ("mesh.obj", "mesh.mtl", "texture.png")
OBJ_ZIP, FILMS = "mesh.zip", ("film.mp4", "film.gif")
SERVED_FILES = (PAGE, "mesh.glb", OBJ_ZIP, "mesh.stl", *FILMS)
FILM_YAW_RAD, FILM_FRAMES, FILM_FPS = math.radians(25), 48, 16.0
FACES_PX = 800  # longer side of the picture of the faces
CHOSEN, OTHER = "#f5b81c", "#ffffff"  # outlines of faces


@dataclass(frozen=True)
class Choice:
    """What a user chooses for a photo. face: its number by size, from 1; None is the category's own choice."""

    category: str
    preset: str
    face: int | None = None


@dataclass(frozen=True)
class FacesPicture:
    """A photo with its faces, the largest first, scaled down to be shown."""

    photo: Image.Image
    faces: tuple[Face, ...]  # in pixels of `photo`

    def draw(self, chosen: int) -> Image.Image:
        """The photo with numbered frames around the faces; chosen: number of the highlighted one, from 1."""
        picture = self.photo.copy()
        draw, unit = ImageDraw.Draw(picture), max(picture.size) / 200
        font = ImageFont.load_default(size=10 * unit)
        for number, face in enumerate(self.faces, start=1):
            left, top = face.landmarks.mean(axis=0) - face.size / 2
            box, colour = (left, top, left + face.size, top + face.size), CHOSEN if number == chosen else OTHER
            draw.rectangle(box, outline=colour, width=math.ceil(unit))
            at = (left + 2 * unit, top - 10 * unit)
            draw.text(at, str(number), fill=colour, font=font, stroke_width=math.ceil(unit / 2), stroke_fill="black")
        return picture

    def nearest(self, x: float, y: float) -> int:
        """Number of the face nearest to a point of the picture, from 1."""
        distances = [np.hypot(*(face.landmarks.mean(axis=0) - (x, y))) / face.size for face in self.faces]
        return int(np.argmin(distances)) + 1


@dataclass(frozen=True)
class PhotoLimits:
    """Limits on the photos that are taken. uploads: the folder that they lie in, links followed."""

    max_megapixels: float
    max_bytes: int
    uploads: Path

    def check(self, photo: Path) -> None:
        """Raise ImageError for a photo beyond the limits. What is no image passes: opening it has the sentence."""
        if not photo.resolve().is_relative_to(self.uploads.resolve()):  # a page may send any path
            raise ImageError(f"{photo.name} is no upload.", "Drop, paste or take the photo again.")
        size = photo.stat().st_size
        if size > self.max_bytes:
            what = f"{photo.name} is {size / 1e6:.0f} MB; this server takes up to {self.max_bytes / 1e6:.0f}."
            raise ImageError(what, "Save it smaller, or as JPEG.")
        megapixels = 0.0
        with suppress(Exception), Image.open(photo) as image:
            megapixels = image.width * image.height / 1e6
        if megapixels > self.max_megapixels:
            what = f"{photo.name} has {megapixels:.3g} megapixels; this server takes up to {self.max_megapixels:g}."
            raise ImageError(what, "Scale it down.")


class Studio:
    """Runs photos on one machine. It keeps the last category and preset loaded."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self._loaded: tuple[tuple[str, str], Pipeline] | None = None

    def reconstruct(self, photo: Path, choice: Choice, folder: Path, progress: Progress) -> None:
        """Write a photo's result folder, with the page and a ZIP of the OBJ. Raises G2SError."""
        progress.begin("load", 1)
        pipeline = self._pipeline(choice.category, choice.preset)
        progress.advance(1, 0.0)
        result = pipeline.with_crop(CropOptions(face=choice.face))(photo, progress)
        progress.begin("write", 1)
        write_result(result, folder, detail=MeshOptions(body=Body()), with_page=True)
        with zipfile.ZipFile(folder / OBJ_ZIP, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for name in OBJ_FILES:
                archive.write(folder / name, name)
        progress.advance(1, 0.0)

    def _pipeline(self, category: str, preset: str) -> Pipeline:
        if self._loaded is None or self._loaded[0] != (category, preset):
            self._loaded = None  # its memory is free before the next is loaded
            plan = Plan.of(ReconstructOptions(category, preset))
            self._loaded = (category, preset), Pipeline.of(plan, self.machine)
        return self._loaded[1]


def draw_faces(photo: Path, category: str) -> FacesPicture:
    """The faces of a photo; none in categories without faces. Raises ImageError."""
    picture = read_image(photo, [])
    faces = find_faces(picture) if load_category(category).face_template else ()
    scale = min(1.0, FACES_PX / max(picture.size))
    small = picture.colours.resize([max(1, round(side * scale)) for side in picture.size])
    return FacesPicture(small, tuple(scale_face(face, scale) for face in faces))


def film(source: Path, folder: Path, progress: Progress) -> None:
    """Write one of `FILMS` of the result in the folder `source`: it turns from side to side. Raises G2SError."""
    turns = [(FILM_YAW_RAD * math.sin(2 * math.pi * k / FILM_FRAMES), 0.0) for k in range(FILM_FRAMES)]
    progress.begin("film", FILM_FRAMES)
    pictures: list[Path] = []
    for image in rotate_each(read_result(source), turns):
        pictures.append(folder / f"{len(pictures):03d}.png")
        save_image(pictures[-1], image)
        progress.advance(len(pictures), 0.0)
    options = FilmOptions("mp4" if find_spec("av") else "gif", FILM_FPS, there_and_back=False)
    write_film(folder / f"film.{options.format}", pictures, options)
