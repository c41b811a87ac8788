"""Options that several verbs share, and how the values people type are read."""

from __future__ import annotations

import inspect
import math
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from g2s_cli.errors import G2SError, UsageError

if TYPE_CHECKING:
    from g2s_cli.mesh.export import MeshOptions

By = Literal["mesh", "gan"]
Symmetry = Literal["on", "off", "first-stage"]
Background = Literal["keep", "remove"]

Device = Annotated[
    str, typer.Option("--device", metavar="NAME", help="auto, cpu, cuda or cuda:N; auto takes the GPU if any.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of paths.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but the result and errors.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Say more, and show where an error comes from.")]
HubRepo = Annotated[
    str,
    typer.Option("--hub-repo", metavar="OWNER/NAME", help="A Hub repository with the weights; @REVISION pins it."),
]
ShownBy = Annotated[
    By, typer.Option("--by", help="Render the shape (mesh), or project the rendering through the GAN (gan).")
]
PictureSize = Annotated[
    int | None,
    typer.Option("--size", min=16, max=2048, help="Pixels a side.", show_default="the photo's, 512 at most"),
]
MeshSize = Annotated[
    int | None,
    typer.Option("--mesh-size", min=16, max=1024, help="Points of the relief a side.", show_default="320 at most"),
]
TextureSize = Annotated[
    int | None,
    typer.Option("--texture-size", min=16, max=4096, help="Pixels a side.", show_default="what the photo is worth"),
]
MaxFaces = Annotated[
    int | None, typer.Option("--max-faces", min=100, help="No more triangles; needs fast-simplification.")
]
Solid = Annotated[
    bool, typer.Option("--solid", help="Close the relief for 3D printing: mesh.stl, and mesh.ply with colours.")
]
HeightMm = Annotated[
    float | None,
    typer.Option("--height-mm", min=1, max=10_000, help="How tall all of --solid is; 100 if not said."),
]
ThicknessMm = Annotated[
    float | None,
    typer.Option(
        "--thickness-mm", min=0.1, max=10_000, help="How thick it is at its thinnest: no more than tall; 3 if not said."
    ),
]
Seed = Annotated[int, typer.Option("--seed", min=0, max=2**64 - 1, help="The same seed gives the same result.")]

InPlace = Annotated[
    bool, typer.Option("--in-place", help="Show it in the whole photo as well: in_place_000.png and so on.")
]

Preset = Annotated[
    str,
    typer.Option(
        "--preset", help="How much work: instant, fast, paper or ellipsoid; g2s weights list says who has which."
    ),
]

WIDEST_TURN_DEG = 90.0
MOST_FRAMES = 1000  # of one series: over a minute of GIF, and up to an hour of rendering


def flowing(text: str) -> str:
    """A docstring with a line a paragraph: Typer keeps a docstring's own breaks, and the terminal adds its own."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in inspect.cleandoc(text).split("\n\n"))


def read_detail(
    mesh_size: int | None,
    texture_size: int | None,
    max_faces: int | None,
    solid: bool,
    height_mm: float | None,
    thickness_mm: float | None,
) -> MeshOptions:
    """How fine meshes are to be. Raises UsageError for sizes of no body, G2SError if this machine cannot make such."""
    from g2s_cli.mesh.export import Body, MeshOptions

    given = {"height_mm": height_mm, "thickness_mm": thickness_mm}
    sizes = {name: size for name, size in given.items() if size is not None}
    if sizes and not solid:
        option = "--" + next(iter(sizes)).replace("_", "-")
        raise UsageError(f"{option} is of a body for printing.", "Add --solid, or leave it out.")
    detail = MeshOptions(mesh_size, texture_size, max_faces, Body(**sizes) if solid else None)
    detail.check()
    return detail


def read_light(text: str) -> tuple[float, float]:
    """ "X,Y" as two finite numbers: where a light stands, x to the right, y up, in the picture made."""
    x, y = _numbers(text, ",", "--light", "two numbers X,Y, such as 0.5,0.2")
    return x, y


def read_turn(text: str, option: str) -> tuple[float, float]:
    """ "A:B" or "A", degrees within ±90, as first and last angle in radians."""
    form = "an angle in degrees or a range A:B, such as -20:20"
    numbers = _numbers(text, ":", option, form, count=1 + (":" in text))
    first, last = numbers[0], numbers[-1]
    if max(abs(first), abs(last)) > WIDEST_TURN_DEG:
        raise UsageError(
            f"{option} {text} turns too far.", f"Stay between -{WIDEST_TURN_DEG:g} and {WIDEST_TURN_DEG:g}."
        )
    return math.radians(first), math.radians(last)


def read_crop(text: str) -> tuple[float, float, float, float]:
    """ "X,Y,W,H" as left, top, width and height in pixels."""
    form = "left, top, width and height in pixels: X,Y,W,H, such as 120,80,300,300"
    left, top, width, height = _numbers(text, ",", "--crop", form, count=4)
    if min(width, height) <= 0:
        raise UsageError(f"--crop {text} is empty.", f"Give {form}.")
    return left, top, width, height


@contextmanager
def named_file(photo: Path) -> Iterator[Path]:
    """A photo as a file with a name; what comes from stdin (-) is in one for as long as the block lasts."""
    if str(photo) != "-":
        yield photo
        return
    if sys.stdin.isatty():
        raise UsageError("- reads a photo from stdin, which is a terminal.", "Name a file, or pipe one in.")
    with tempfile.TemporaryDirectory(prefix="g2s-") as folder:
        file = Path(folder) / "stdin"
        file.write_bytes(sys.stdin.buffer.read())
        try:
            yield file
        except G2SError as error:
            raise error.replace_name(str(file), file.name) from None


def _numbers(text: str, separator: str, option: str, form: str, count: int = 2) -> list[float]:
    try:
        numbers = [float(part) for part in text.split(separator)]
    except ValueError:
        numbers = []
    if len(numbers) != count or not all(math.isfinite(number) for number in numbers):
        raise UsageError(f"{option} {text!r} cannot be read.", f"Give {form}.")
    return numbers
