"""g2s rotate: a result folder → the object from other sides."""

from __future__ import annotations

import math
from typing import Annotated

from g2s_cli.commands import options
from g2s_cli.commands.frames import Series, eased, write_and_print
from g2s_cli.console import output
from g2s_cli.errors import UsageError

GIF_FRAMES, FILM_FRAMES, ORBIT_FRAMES = 9, 25, 36  # of a turn, by default
PASTE_BACK_DEG = 10.0
HONEST_DEG = (30.0, 20.0)  # yaw and pitch; the page fades beyond them
Turn = tuple[float, float]  # yaw and pitch, radians


def rotate(
    folder: options.ResultFolder,
    yaw: Annotated[
        str | None,
        options.method_option("--yaw", metavar="A:B", help="Degrees; positive turns to the crop's right."),
    ] = None,
    pitch: Annotated[
        str | None, options.method_option("--pitch", metavar="A:B", help="Degrees; positive turns up.")
    ] = None,
    orbit: Annotated[
        float | None,
        options.method_option(
            "--orbit",
            metavar="DEGREES",
            min=1,
            max=45,
            help="A circle of yaw and pitch around the photo's view, of this radius.",
        ),
    ] = None,
    renderer: options.Renderer = "mesh",
    out: options.PicturesOut = None,
    overwrite: options.Overwrite = False,
    frames: options.Frames = None,
    ease: options.Ease = False,
    film_format: options.FilmFormat = "gif",
    fps: options.Fps = None,
    paste_back: options.PasteBack = False,
    size: options.PictureSize = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    device: options.Device = "auto",
) -> None:
    """Turn the object from the photo's view: pictures in RESULT/rotate, and a film if there are several.

    One angle, such as --yaw 20, gives one picture. A range gives 9 (a GIF) or 25 (another format), a circle 36, or as
    many as --frames. Without --yaw, --pitch and --orbit the yaw is -20:20. A film of a range runs there and back.

    Right and up are those of the aligned crop, in the whole photo (--paste-back) too: a head that leans there turns
    about its own neck.

    Example: g2s rotate out/ --yaw -20:20 --frames 15
    """
    output.set(quiet=quiet, verbose=verbose, as_json=as_json)
    if orbit is None:
        default = GIF_FRAMES if film_format == "gif" else FILM_FRAMES
        turns = _turns(yaw, pitch, frames, default, ease=ease)
    elif yaw or pitch or ease:
        raise UsageError("--orbit is a circle of its own.", "Leave --yaw, --pitch and --ease out, or --orbit.")
    else:
        turns = _circle(math.radians(orbit), frames or ORBIT_FRAMES)

    from g2s_cli.result import paste_back as whole_photo
    from g2s_cli.result import pictures
    from g2s_cli.result.film import FilmOptions
    from g2s_cli.result.read import read_result

    film = FilmOptions(film_format, fps, there_and_back=orbit is None)
    result = read_result(folder)
    series = Series(out or folder / "rotate", "rotate", len(turns), film, overwrite).check(folder)
    images = pictures.rotate_each(result, turns, renderer=renderer, size=size, device=device)
    photos = whole_photo.rotate(result, turns, renderer=renderer, device=device) if paste_back else None
    facts = [
        {"yaw_deg": round(math.degrees(yaw), 6), "pitch_deg": round(math.degrees(pitch), 6)} for yaw, pitch in turns
    ]
    write_and_print(images, photos, facts, series, renderer)
    if any(abs(math.degrees(angle)) > most for turn in turns for angle, most in zip(turn, HONEST_DEG, strict=True)):
        yaw_deg, pitch_deg = HONEST_DEG
        output.info(f"Note: beyond {yaw_deg:g}° to a side, {pitch_deg:g}° up or down, the shape is a guess.")
    elif paste_back and any(abs(math.degrees(angle)) > PASTE_BACK_DEG for turn in turns for angle in turn):
        output.info(f"Note: beyond {PASTE_BACK_DEG:g}° seams may show around a head that is pasted back.")


def _turns(yaw: str | None, pitch: str | None, frames: int | None, default: int, *, ease: bool) -> list[Turn]:
    """The turns between the first and the last angles. Raises UsageError."""
    if yaw is None:
        yaw = "-20:20" if pitch is None else "0"
    yaws, pitches = options.read_turn(yaw, "--yaw"), options.read_turn("0" if pitch is None else pitch, "--pitch")
    one_angle = yaws[0] == yaws[1] and pitches[0] == pitches[1]
    if one_angle and frames:
        raise UsageError("--frames turns from A to B, and there is one angle.", "Give a range, such as --yaw -20:20.")
    shares = eased(1 if one_angle else frames or default, ease=ease)
    return [(_between(yaws, share), _between(pitches, share)) for share in shares]


def _between(ends: tuple[float, float], share: float) -> float:
    return ends[0] + share * (ends[1] - ends[0])


def _circle(radius: float, frames: int) -> list[Turn]:
    """Evenly spaced turns on a circle around the photo's view."""
    angles = [2 * math.pi * index / frames for index in range(frames)]
    return [(radius * math.sin(angle), radius * math.cos(angle)) for angle in angles]
