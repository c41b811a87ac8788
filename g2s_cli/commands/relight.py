"""g2s relight: a result folder → the object under other lights."""

from __future__ import annotations

from collections.abc import Sequence
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
    read_light,
)
from g2s_cli.console import output
from g2s_cli.errors import UsageError

Light = tuple[float, float]


def relight(
    folder: Annotated[Path, typer.Argument(metavar="OUT", help="A folder that g2s reconstruct made.")],
    light: Annotated[
        list[str] | None,
        typer.Option(
            "--light", metavar="X,Y", help="Where it stands: right, up in the picture made. Repeatable; 0,0 is frontal."
        ),
    ] = None,
    light_from: Annotated[
        list[Path] | None,
        typer.Option("--light-from", metavar="OTHER", help="The light of another result folder. Repeatable."),
    ] = None,
    frames: Annotated[
        int | None,
        typer.Option("--frames", min=2, max=MOST_FRAMES, help="Move through the lights in this many pictures."),
    ] = None,
    by: ShownBy = "mesh",
    in_place: InPlace = False,
    size: PictureSize = None,
    device: Device = "auto",
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Light the object anew: pictures in OUT/relight, and a GIF if there are several.

    Pictures of an earlier relight are replaced.

    Right and up are those of the picture that is made: of the aligned crop, which 000.png and so on show, and of the
    whole photo in in_place_000.png and so on. Where a face leans in the photo the two differ. OTHER's light comes from
    where it stands in OTHER's crop and in OTHER's whole photo.

    Example: g2s relight out/ --light -0.8,0.3 --light 0.8,0.3 --frames 12
    """
    output.set(quiet=quiet, verbose=verbose)
    lights = [read_light(text) for text in light or ()]
    asked = len(lights) + len(light_from or ())
    if asked == 0:
        raise UsageError("No light was named.", "Add --light X,Y or --light-from OTHER.")
    if frames and asked == 1:
        raise UsageError("--frames moves between lights, and there is one.", "Add another --light X,Y.")

    from g2s_cli import pipeline
    from g2s_cli.geometry.shading import user_from_light
    from g2s_cli.result import paste_back as whole_photo
    from g2s_cli.result.folder import read_result

    result, lights_in_place = read_result(folder), lights.copy()
    for other in map(read_result, light_from or ()):
        lights.append(user_from_light(other.factors.light, other.factors.view))
        lights_in_place.append(other.placement.as_in_photo(*lights[-1]))
    path, path_in_place = (_path(places, frames) if frames else places for places in (lights, lights_in_place))
    images = pipeline.relight_each(result, path, by=by, size=size, device=device)
    photos = whole_photo.relight(result, path_in_place, by=by, device=device) if in_place else None
    with output.progress(brief=True) as progress:
        written = write_frames(images, photos, len(path), folder, "relight", progress)
    if as_json:
        shown = [{"light": list(at), "file": file} for at, file in zip(path, written.frames, strict=True)]
        for center_crop, at, file in zip(shown, path_in_place, written.in_place, strict=True) if in_place else ():
            center_crop |= {"light_in_place": list(at), "file_in_place": file}
        output.print_json({"folder": str(folder / "relight"), "by": by, "frames": shown, "files": written.files})
        return
    for file in written.files:
        output.print(file)


def _path(lights: Sequence[Light], frames: int) -> list[Light]:
    """Evenly timed places on the straight lines from light to light."""
    places: list[Light] = []
    for center_crop in range(frames):
        along = center_crop * (len(lights) - 1) / (frames - 1)
        leg = min(int(along), len(lights) - 2)
        (x0, y0), (x1, y1), share = lights[leg], lights[leg + 1], along - leg
        places.append((x0 + share * (x1 - x0), y0 + share * (y1 - y0)))
    return places
