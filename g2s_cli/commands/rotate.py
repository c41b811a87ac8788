"""g2s rotate: a result folder → the object from other sides."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

from g2s_cli.commands.frames import write_frames
from g2s_cli.commands.options import (
    MOST_FRAMES,
    Device,
    InPlace,
    Json,
    PictureSize,
    Quiet,
    ShownBy,
    Verbose,
    read_turn,
)
from g2s_cli.console import output
from g2s_cli.errors import UsageError

USUAL_FRAMES = 9  # of a turn, unless said otherwise


def rotate(
    folder: Annotated[Path, typer.Argument(metavar="OUT", help="A folder that g2s reconstruct made.")],
    yaw: Annotated[
        str | None,
        typer.Option("--yaw", metavar="A:B", help="Degrees; positive turns to the crop's right."),
    ] = None,
    pitch: Annotated[str | None, typer.Option("--pitch", metavar="A:B", help="Degrees; positive turns up.")] = None,
    frames: Annotated[
        int | None,
        typer.Option("--frames", min=2, max=MOST_FRAMES, help="Pictures from A to B.", show_default=str(USUAL_FRAMES)),
    ] = None,
    by: ShownBy = "mesh",
    in_place: InPlace = False,
    size: PictureSize = None,
    device: Device = "auto",
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Turn the object from where the photo saw it: pictures in OUT/rotate, and a GIF if there are several.

    One angle, such as --yaw 20, is one picture; without --yaw and --pitch the yaw is -20:20. Pictures of an
    earlier rotate are replaced. Right and up are those of the aligned crop, in the whole photo (--in-place), too:
    a head that leans there turns about its own neck.

    Example: g2s rotate out/ --yaw -20:20 --frames 15
    """
    output.set(quiet=quiet, verbose=verbose)
    if yaw is None:
        yaw = "-20:20" if pitch is None else "0"
    yaws, pitches = read_turn(yaw, "--yaw"), read_turn("0" if pitch is None else pitch, "--pitch")
    still = yaws[0] == yaws[1] and pitches[0] == pitches[1]
    if still and frames:
        raise UsageError("--frames turns from A to B, and there is one angle.", "Give a range, such as --yaw -20:20.")
    count = 1 if still else frames or USUAL_FRAMES

    from g2s_cli import pipeline
    from g2s_cli.result import paste_back as whole_photo
    from g2s_cli.result.folder import read_result

    result = read_result(folder)
    shares = [center_crop / max(count - 1, 1) for center_crop in range(count)]
    turns = [(_between(yaws, share), _between(pitches, share)) for share in shares]
    images = pipeline.rotate_each(result, turns, by=by, size=size, device=device)
    photos = whole_photo.rotate(result, turns, by=by, device=device) if in_place else None
    with output.progress(brief=True) as progress:
        written = write_frames(images, photos, len(turns), folder, "rotate", progress)
    if as_json:
        shown: list[dict[str, float | str]] = [
            {"yaw_deg": math.degrees(turn[0]), "pitch_deg": math.degrees(turn[1]), "file": file}
            for turn, file in zip(turns, written.frames, strict=True)
        ]
        for center_crop, file in zip(shown, written.in_place, strict=True) if in_place else ():
            center_crop["file_in_place"] = file
        output.print_json({"folder": str(folder / "rotate"), "by": by, "frames": shown, "files": written.files})
        return
    for file in written.files:
        output.print(file)


def _between(ends: tuple[float, float], share: float) -> float:
    return ends[0] + share * (ends[1] - ends[0])
