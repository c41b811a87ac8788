"""g2s relight: a result folder → the object under other lights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from g2s_cli.commands import options
from g2s_cli.commands.frames import Series, eased, write_and_print
from g2s_cli.console import output
from g2s_cli.errors import UsageError

Light = tuple[float, float]
SAME_LIGHT = 0.2  # distance of a light from the photo's own, within which a note is printed


def relight(
    folder: options.ResultFolder,
    light: Annotated[
        list[str] | None,
        options.method_option(
            "--light", metavar="X,Y", help="Where the light stands: right, up; 0,0 is at the camera. Repeatable."
        ),
    ] = None,
    light_from: Annotated[
        list[Path] | None,
        options.method_option("--light-from", metavar="OTHER", help="The light of another result folder. Repeatable."),
    ] = None,
    strength: Annotated[
        float | None,
        options.method_option(
            "--strength",
            min=0,
            max=4,
            help="Of the light, as in light.json.",
            show_default="63 % of the photo's total light",
        ),
    ] = None,
    ambient: Annotated[
        float | None,
        options.method_option("--ambient", min=0, max=4, help="Light from all sides.", show_default="37 % of it"),
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
    """Light the object anew: pictures in RESULT/relight, and a film if there are several.

    With --frames the light moves from each --light to the next; the film runs there and back.

    X and Y are measured in the picture itself. --light 1,0 comes from the right edge of the aligned crop in 000.png,
    and from the right edge of the whole photo in in_place_000.png, also if the crop is turned in the photo. The light
    of --light-from stands where it stands in OTHER's crop, and in OTHER's whole photo.

    Example: g2s relight out/ --light -0.8,0.3 --light 0.8,0.3 --frames 12
    """
    output.set(quiet=quiet, verbose=verbose, as_json=as_json)
    lights = [options.read_light(text) for text in light or ()]
    count = len(lights) + len(light_from or ())
    if count == 0:
        raise UsageError("No light was named.", "Add --light X,Y or --light-from OTHER.")
    if frames and count == 1:
        raise UsageError("--frames moves between lights, and there is one.", "Add another --light X,Y.")
    if ease and not frames:
        raise UsageError("--ease is about the pictures between lights.", "Add --frames, or leave it out.")

    from g2s_cli.geometry.shading import position_from_light
    from g2s_cli.result import paste_back as whole_photo
    from g2s_cli.result import pictures
    from g2s_cli.result.film import FilmOptions
    from g2s_cli.result.read import read_result

    result, lights_in_photo = read_result(folder), lights.copy()
    series = Series(out or folder / "relight", "relight", frames or count, FilmOptions(film_format, fps), overwrite)
    series.check(folder)
    for other in map(read_result, light_from or ()):
        lights.append(position_from_light(other.factors.light, other.factors.view))
        lights_in_photo.append(other.placement.direction_to_photo(*lights[-1]))
    if frames:
        shares = eased(frames, ease=ease)
        lights, lights_in_photo = _path(lights, shares), _path(lights_in_photo, shares)
    facts = [{"light": list(position)} for position in lights]
    if any(result.factors.is_lit_from(x, y, SAME_LIGHT) for x, y in lights):
        own = position_from_light(result.factors.light, result.factors.view)
        output.info(f"Note: the photo's own light stands at {own[0]:.2f},{own[1]:.2f}: there little changes.")
    images = pictures.relight_each(
        result, lights, strength=strength, ambient=ambient, renderer=renderer, size=size, device=device
    )
    photos = None
    if paste_back:
        facts = [
            fact | {"light_in_place": list(position)} for fact, position in zip(facts, lights_in_photo, strict=True)
        ]
        photos = whole_photo.relight(
            result, lights_in_photo, strength=strength, ambient=ambient, renderer=renderer, device=device
        )
    write_and_print(images, photos, facts, series, renderer)


def _path(lights: Sequence[Light], shares: Sequence[float]) -> list[Light]:
    """Positions at shares of the polyline through the lights, each leg of which counts the same."""
    positions: list[Light] = []
    for share in shares:
        along = share * (len(lights) - 1)
        leg = min(int(along), len(lights) - 2)
        (x0, y0), (x1, y1), rest = lights[leg], lights[leg + 1], along - leg
        positions.append((x0 + rest * (x1 - x0), y0 + rest * (y1 - y0)))
    return positions
