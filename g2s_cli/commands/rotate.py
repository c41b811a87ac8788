"""g2s rotate: a result folder → the object from other sides."""

from __future__ import annotations

import math
from typing import Annotated

from g2s_cli.commands import options
from g2s_cli.commands.frames import write_and_print
from g2s_cli.console import output
from g2s_cli.errors import UsageError

DEFAULT_FRAMES = 9  # of a turn


def rotate(
    folder: options.ResultFolder,
    yaw: Annotated[
        str | None,
        options.method_option("--yaw", metavar="A:B", help="Degrees; positive turns to the crop's right."),
    ] = None,
    pitch: Annotated[
        str | None, options.method_option("--pitch", metavar="A:B", help="Degrees; positive turns up.")
    ] = None,
    renderer: options.Renderer = "mesh",
    frames: options.Frames = None,
    paste_back: options.PasteBack = False,
    size: options.PictureSize = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    device: options.Device = "auto",
) -> None:
    """Turn the object from the photo's view: pictures in OUT/rotate, and a GIF if there are several.

    One angle, such as --yaw 20, gives one picture; a range gives 9, or as many as --frames. Without --yaw and --pitch
    the yaw is -20:20. Pictures of an earlier rotate are replaced. Right and up are those of the aligned crop, in the
    whole photo (--paste-back) too: a head that leans there turns about its own neck.

    Example: g2s rotate out/ --yaw -20:20 --frames 15
    """
    output.set(quiet=quiet, verbose=verbose, as_json=as_json)
    if yaw is None:
        yaw = "-20:20" if pitch is None else "0"
    yaws, pitches = options.read_turn(yaw, "--yaw"), options.read_turn("0" if pitch is None else pitch, "--pitch")
    one_angle = yaws[0] == yaws[1] and pitches[0] == pitches[1]
    if one_angle and frames:
        raise UsageError("--frames turns from A to B, and there is one angle.", "Give a range, such as --yaw -20:20.")
    count = 1 if one_angle else frames or DEFAULT_FRAMES

    from g2s_cli.result import paste_back as whole_photo
    from g2s_cli.result import pictures
    from g2s_cli.result.read import read_result

    result = read_result(folder)
    shares = [index / max(count - 1, 1) for index in range(count)]
    turns = [(_between(yaws, share), _between(pitches, share)) for share in shares]
    images = pictures.rotate_each(result, turns, renderer=renderer, size=size, device=device)
    photos = whole_photo.rotate(result, turns, renderer=renderer, device=device) if paste_back else None
    facts = [{"yaw_deg": math.degrees(yaw), "pitch_deg": math.degrees(pitch)} for yaw, pitch in turns]
    write_and_print(images, photos, facts, folder / "rotate", renderer)


def _between(ends: tuple[float, float], share: float) -> float:
    return ends[0] + share * (ends[1] - ends[0])
