"""g2s relight: a result folder → the object under other lights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from g2s_cli.commands import options
from g2s_cli.commands.frames import write_and_print
from g2s_cli.console import output
from g2s_cli.errors import UsageError

Light = tuple[float, float]


def relight(
    folder: options.ResultFolder,
    light: Annotated[
        list[str] | None,
        options.method_option(
            "--light", metavar="X,Y", help="Where it stands: right, up in the picture made. Repeatable; 0,0 is frontal."
        ),
    ] = None,
    light_from: Annotated[
        list[Path] | None,
        options.method_option("--light-from", metavar="OTHER", help="The light of another result folder. Repeatable."),
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
    """Light the object anew: pictures in OUT/relight, and a GIF if there are several.

    Pictures of an earlier relight are replaced. With --frames the light moves from each --light to the next.

    Right and up are those of the picture that is made: of the aligned crop in 000.png and so on, of the whole photo in
    in_place_000.png and so on. They differ if the face leans in the photo. OTHER's light is where it stands in OTHER's
    crop, and in OTHER's whole photo.

    Example: g2s relight out/ --light -0.8,0.3 --light 0.8,0.3 --frames 12
    """
    output.set(quiet=quiet, verbose=verbose, as_json=as_json)
    lights = [options.read_light(text) for text in light or ()]
    count = len(lights) + len(light_from or ())
    if count == 0:
        raise UsageError("No light was named.", "Add --light X,Y or --light-from OTHER.")
    if frames and count == 1:
        raise UsageError("--frames moves between lights, and there is one.", "Add another --light X,Y.")

    from g2s_cli.geometry.shading import position_from_light
    from g2s_cli.result import paste_back as whole_photo
    from g2s_cli.result import pictures
    from g2s_cli.result.read import read_result

    result, lights_in_photo = read_result(folder), lights.copy()
    for other in map(read_result, light_from or ()):
        lights.append(position_from_light(other.factors.light, other.factors.view))
        lights_in_photo.append(other.placement.direction_to_photo(*lights[-1]))
    if frames:
        lights, lights_in_photo = _path(lights, frames), _path(lights_in_photo, frames)
    facts = [{"light": list(position)} for position in lights]
    images = pictures.relight_each(result, lights, renderer=renderer, size=size, device=device)
    photos = None
    if paste_back:
        facts = [
            fact | {"light_in_place": list(position)} for fact, position in zip(facts, lights_in_photo, strict=True)
        ]
        photos = whole_photo.relight(result, lights_in_photo, renderer=renderer, device=device)
    write_and_print(images, photos, facts, folder / "relight", renderer)


def _path(lights: Sequence[Light], frames: int) -> list[Light]:
    """Evenly spaced positions on the polyline through the lights, each leg of it taking the same time."""
    positions: list[Light] = []
    for frame in range(frames):
        along = frame * (len(lights) - 1) / (frames - 1)
        leg = min(int(along), len(lights) - 2)
        (x0, y0), (x1, y1), share = lights[leg], lights[leg + 1], along - leg
        positions.append((x0 + share * (x1 - x0), y0 + share * (y1 - y0)))
    return positions
