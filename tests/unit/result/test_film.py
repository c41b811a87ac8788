"""Films: their pictures, order and colours."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter, ImageSequence

from g2s_cli.errors import G2SError, UsageError
from g2s_cli.options import FilmFormat
from g2s_cli.result.film import FilmOptions, write_film

needs_av = pytest.mark.skipif(find_spec("av") is None, reason="PyAV is not installed")
VIDEOS = ["mp4", "webm"]


def skin(index: int, size: tuple[int, int] = (120, 90)) -> Image.Image:
    """A smooth ramp of skin tones on white, with a green iris, which moves to the right."""
    rows, columns = np.indices(size[::-1]) / size[1]
    ramp = np.stack([200 + 30 * rows - 20 * columns, 150 + 25 * rows - 25 * columns, 125 + 20 * rows], axis=-1)
    inside = ((rows - 0.5) ** 2 + (columns - 0.6 - 0.02 * index) ** 2 < 0.16)[..., None]
    iris = ((rows - 0.4) ** 2 + (columns - 0.5 - 0.02 * index) ** 2 < 0.002)[..., None]
    image = np.where(iris, np.array([60, 90, 60]), np.where(inside, ramp, 255.0))
    return Image.fromarray(image.round().astype(np.uint8))


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{index:03d}.png" for index in range(5)]
    for index, path in enumerate(paths):
        skin(index).save(path)
    return paths


def decoded(path: Path) -> list[np.ndarray]:
    """A film's pictures."""
    if path.suffix[1:] in VIDEOS:
        import av

        with av.open(str(path)) as container:
            return [frame.to_ndarray(format="rgb24").astype(float) for frame in container.decode(video=0)]
    with Image.open(path) as film:
        return [np.asarray(frame.convert("RGB")).astype(float) for frame in ImageSequence.Iterator(film)]


@pytest.mark.parametrize("film", ["gif", "webp", *(pytest.param(name, marks=needs_av) for name in VIDEOS)])
@pytest.mark.parametrize("there_and_back", [True, False])
def test_the_pictures_run_there_and_back_or_once(pictures: list[Path], film: FilmFormat, there_and_back: bool) -> None:
    path = pictures[0].with_name(f"film.{film}")
    write_film(path, pictures, FilmOptions(film, there_and_back=there_and_back))
    shown = decoded(path)
    order = [0, 1, 2, 3, 4, 3, 2, 1] if there_and_back else [0, 1, 2, 3, 4]
    assert len(shown) == len(order)
    for index, frame in zip(order, shown, strict=True):
        errors = [np.abs(frame - np.asarray(skin(other)).astype(float)).mean() for other in range(5)]
        assert np.argmin(errors) == index
        assert errors[index] < 3


def test_a_gif_keeps_skin_smooth_small_parts_coloured_and_white_white(pictures: list[Path]) -> None:
    path = pictures[0].with_name("film.gif")
    write_film(path, pictures, FilmOptions())
    with Image.open(path) as film:
        assert film.info["duration"] == 80
    for index, frame in enumerate(decoded(path)[:5]):
        original = np.asarray(skin(index)).astype(float)
        white = (original == 255).all(axis=2)
        assert (frame[white] == 255).all()
        green = (original == (60, 90, 60)).all(axis=2)
        assert np.abs(frame[green].mean(axis=0) - (60, 90, 60)).max() < 4
        blurred, smooth = (
            np.asarray(Image.fromarray(image.astype(np.uint8)).filter(ImageFilter.BoxBlur(2))).astype(float)
            for image in (frame, original)
        )
        assert np.abs(blurred - smooth).mean() < 0.5  # levels, of 256: no bands


@pytest.mark.parametrize(("fps", "duration"), [(None, 80), (30.0, 30), (60.0, 20)])
def test_a_gifs_rate_is_one_that_browsers_keep(pictures: list[Path], fps: float | None, duration: int) -> None:
    path = pictures[0].with_name("film.gif")
    write_film(path, pictures, FilmOptions(fps=fps))
    with Image.open(path) as film:
        assert film.info["duration"] == duration


@needs_av
@pytest.mark.parametrize("film", VIDEOS)
def test_a_video_has_its_rate_and_even_sides(tmp_path: Path, film: FilmFormat) -> None:
    import av

    paths = [tmp_path / "0.png", tmp_path / "1.png"]
    for index, path in enumerate(paths):
        skin(index, (61, 43)).save(path)
    write_film(tmp_path / f"film.{film}", paths, FilmOptions(film, fps=30.0))
    with av.open(str(tmp_path / f"film.{film}")) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height, stream.average_rate, stream.pix_fmt) == (60, 42, 30, "yuv420p")


@pytest.mark.parametrize("film", VIDEOS)
def test_without_pyav_a_video_is_refused_and_others_are_not(monkeypatch: pytest.MonkeyPatch, film: FilmFormat) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    monkeypatch.setattr("g2s_cli.result.film.find_spec", lambda _: None)
    with pytest.raises(G2SError, match=rf"--format {film} needs PyAV.* pip install 'g2s-cli\[film\]', or use"):
        FilmOptions(film).check()
    assert FilmOptions("webp").check()


@pytest.mark.parametrize("fps", [0.0, -1.0, 61.0, float("nan")])
def test_a_rate_out_of_range_is_refused(fps: float) -> None:
    with pytest.raises(UsageError, match="--fps"):
        FilmOptions(fps=fps).check()
