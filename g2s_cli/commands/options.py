"""The commands' options, in the panels that --help shows, and the parsers of their values."""

from __future__ import annotations

import inspect
import math
import os
import shlex
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from g2s_cli import geometry
from g2s_cli import options as choices
from g2s_cli.console import output
from g2s_cli.errors import G2SError, UsageError
from g2s_cli.mesh import options as meshes

if TYPE_CHECKING:
    from g2s_cli.config import Category as CategoryConfig
    from g2s_cli.config import Part
    from g2s_cli.loading import Plan
    from g2s_cli.weights.registry import Sources

RENAMED_FLAGS = {"by": "renderer", "in-place": "paste-back"}  # old names still work, and --help leaves them out
MAX_TURN_DEG = 90.0
MAX_FRAMES = 1000  # of one series: over a minute of GIF, and up to an hour of rendering


def complete_category(incomplete: str) -> list[str]:
    """The categories at hand whose names begin like this, for the shell."""
    from g2s_cli.weights.categories import category_names

    return [name for name in category_names() if name.startswith(incomplete)]


def complete_preset(ctx: typer.Context, incomplete: str) -> list[str]:
    """The presets of the category on the command line that begin like this, for the shell. Damaged ones have none."""
    from g2s_cli.weights.categories import category_folders

    category = choices.ReconstructOptions(ctx.params.get("category"), gan=ctx.params.get("gan")).category_name
    try:
        presets = tomllib.loads((category_folders()[category] / "model.toml").read_text("utf-8"))["presets"]
    except (KeyError, OSError, ValueError):
        return []
    return [name for name in presets if name.startswith(incomplete)]


def choose_rasterizer(name: str | None) -> str | None:
    """Let this process and its workers use the named rasterizer. Raises UsageError if it is not installed."""
    if name is not None:
        if name == "pytorch3d" and find_spec(name) is None:
            raise UsageError("PyTorch3D is not installed.", "Install it from its source, or leave --rasterizer out.")
        os.environ[geometry.RASTERIZER_VARIABLE] = name
    return name


def _option(panel: str, *flags: str, help: str, show_default: bool | str = True, **settings: Any) -> Any:
    """`typer.Option` in a panel of --help. Typer would put a default in words in parentheses."""
    if isinstance(show_default, str):
        help, show_default = rf"{help} \[default: {show_default}]", False
    return typer.Option(*flags, help=help, show_default=show_default, rich_help_panel=panel, **settings)


input_option, method_option, output_option, machine_option = (
    partial(_option, panel) for panel in ("Input", "Method", "Output", "Machine")
)

# Input
Photos = Annotated[
    list[Path],
    typer.Argument(
        metavar="PHOTO...", help="Images of one object of the category each, or folders of such; - reads stdin."
    ),
]
ResultFolder = Annotated[
    Path, typer.Argument(metavar="RESULT", help="A result folder, such as out/, that g2s reconstruct made.")
]
Category = Annotated[
    str, input_option("--category", "-c", help="What the photos show.", autocompletion=complete_category)
]
CategoryIfAny = Annotated[
    str | None,
    input_option(
        "--category",
        "-c",
        help="What the photo shows.",
        show_default=f"{choices.DEFAULT_CATEGORY}; own with --gan",
        autocompletion=complete_category,
    ),
]
CategoryName = Annotated[
    str,
    typer.Argument(metavar="CATEGORY", help="A category: see g2s weights list.", autocompletion=complete_category),
]
GanFile = Annotated[
    Path | None, input_option("--gan", metavar="FILE", help="A StyleGAN2 checkpoint instead of the category's.")
]
LatentFile = Annotated[
    Path | None, input_option("--latent", metavar="FILE[:ROW]", help="The photo's latent w, instead of an inversion.")
]
NoAlign = Annotated[bool, input_option("--no-align", help="Detect no face: take the centre square.")]
Face = Annotated[
    int | None, input_option("--face", min=1, help="Which face of several, by size.", show_default="1, the largest")
]
Crop = Annotated[str | None, input_option("--crop", metavar="X,Y,W,H", help="A box in pixels of the upright photo.")]
Mask = Annotated[
    Path | None,
    input_option("--mask", metavar="FILE", help="Of the photo's size: white on black, or a cut-out with transparency."),
]
Limit = Annotated[int | None, input_option("--limit", min=1, help="Take the first so many photos alone.")]

# Method
Preset = Annotated[
    str,
    method_option(
        "--preset",
        help="instant and fast: networks, seconds; paper and ellipsoid: the published method, minutes.",
        autocompletion=complete_preset,
    ),
]
_iterations = partial(method_option, "--iterations", help="At most so many iterations a step: for a quick try.")
Iterations = Annotated[int | None, _iterations(min=0)]
TrainingIterations = Annotated[int | None, _iterations(min=1)]
Symmetry = Annotated[
    choices.Symmetry | None,
    method_option("--symmetry", help="Whether left and right are alike.", show_default="the preset's"),
]
Background = Annotated[
    choices.Background | None,
    method_option("--background", help="Fit the pixels behind the object too, or not.", show_default="the preset's"),
]
Seed = Annotated[int, method_option("--seed", min=0, max=2**64 - 1, help="The same seed gives the same result.")]
Renderer = Annotated[
    choices.Renderer, method_option("--renderer", help="Render the shape (mesh), or project it through the GAN (gan).")
]

# Output
Out = Annotated[Path, output_option("--out", "-o", metavar="FOLDER", help="The folder of results.")]
Overwrite = Annotated[bool, output_option("--overwrite", help="Replace an earlier result, which is refused otherwise.")]
PicturesOut = Annotated[
    Path | None,
    output_option("--out", "-o", metavar="FOLDER", help="The folder of the pictures.", show_default="one in RESULT"),
]
MeshSize = Annotated[
    int | None,
    output_option(
        "--mesh-size",
        min=16,
        max=1024,
        help="Vertices of the grid a side.",
        show_default="twice the photo's pixels, 320 at most; for --extent person 512",
    ),
]
TextureSize = Annotated[
    int | None,
    output_option("--texture-size", min=16, max=4096, help="Pixels a side.", show_default="the photo's resolution"),
]
MaxFaces = Annotated[int | None, output_option("--max-faces", min=100, help=r"Simplify; needs g2s-cli\[simplify].")]
Extent = Annotated[
    meshes.Extent | None,
    output_option("--extent", help="What meshes and pictures show of the photo's object.", show_default="head"),
]
Solid = Annotated[
    bool, output_option("--solid", help="Close the mesh for 3D printing: mesh.stl, and mesh.ply with colours.")
]
HeightMm = Annotated[
    float | None, output_option("--height-mm", min=1, max=10_000, help="Height of the solid body.", show_default="100")
]
ThicknessMm = Annotated[
    float | None,
    output_option(
        "--thickness-mm", min=0.1, max=10_000, help="Of a relief with a flat back (--extent crop).", show_default="3"
    ),
]
Frames = Annotated[int | None, output_option("--frames", min=2, max=MAX_FRAMES, help="Pictures from start to end.")]
Ease = Annotated[bool, output_option("--ease", help="Move slower near both ends.")]
FilmFormat = Annotated[
    choices.FilmFormat, output_option("--format", help=r"Of the film; mp4 and webm need g2s-cli\[film].")
]
Fps = Annotated[
    float | None,
    output_option("--fps", min=1, max=60, help="Pictures a second.", show_default="12.5 in a GIF, else 25"),
]
PasteBack = Annotated[
    bool, output_option("--paste-back", help="Also paste it back into the whole photo: in_place_000.png and so on.")
]
Texture = Annotated[
    meshes.TextureKind,
    output_option("--texture", help="Of GLB and OBJ: the photo, lit already, or its albedo, for lights of a scene."),
]
PictureSize = Annotated[
    int | None,
    output_option("--size", min=16, max=2048, help="Pixels a side.", show_default="the photo's, 512 at most"),
]
Json = Annotated[bool, output_option("--json", help="Print one JSON document instead of paths.")]
Quiet = Annotated[bool, output_option("--quiet", "-q", help="Print nothing but the result and errors.")]
Verbose = Annotated[bool, output_option("--verbose", "-v", help="Print more, and the tracebacks of errors.")]

# Machine
Device = Annotated[
    str, machine_option("--device", metavar="NAME", help="auto, cpu, cuda or cuda:N; auto takes the GPU if any.")
]
Rasterizer = Annotated[
    geometry.Rasterizer | None,
    machine_option(
        "--rasterizer",
        help="torch is the package's own; pytorch3d is used where it is installed.",
        show_default="torch",
        callback=choose_rasterizer,
    ),
]
Workers = Annotated[
    int | None,
    machine_option(
        "--workers",
        min=1,
        metavar="N",
        help="Spread photos over N processes; with --ray, use N at most.",
        show_default="1",
    ),
]
Ray = Annotated[
    str | None,
    machine_option(
        "--ray", metavar="ADDRESS", help="Spread photos over a Ray cluster: HOST:PORT, or auto for this machine's."
    ),
]
HubRepo = Annotated[
    str,
    machine_option("--hub-repo", metavar="OWNER/NAME", help="A Hub repository with the weights; @REVISION pins it."),
]


def unwrap(text: str) -> str:
    """A docstring with one line a paragraph: Typer would keep the docstring's line breaks beside the terminal's."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in inspect.cleandoc(text).split("\n\n"))


def read_detail(
    mesh_size: int | None,
    texture_size: int | None,
    max_faces: int | None,
    solid: bool,
    height_mm: float | None,
    thickness_mm: float | None,
    extent: meshes.Extent | None = None,
    texture: meshes.TextureKind = "photo",
) -> meshes.MeshOptions:
    """The mesh options as a value.

    Raises:
        UsageError: a body's size is impossible, or given without --solid.
        G2SError: a library that they need is not installed.
    """
    sizes = {name: mm for name, mm in (("height_mm", height_mm), ("thickness_mm", thickness_mm)) if mm is not None}
    if sizes and not solid:
        option = "--" + next(iter(sizes)).replace("_", "-")
        raise UsageError(f"{option} is a size of a solid body.", "Add --solid, or leave it out.")
    body = meshes.Body(**sizes) if solid else None
    detail = meshes.MeshOptions(mesh_size, texture_size, max_faces, body, extent, texture)
    detail.check()
    return detail


def read_light(text: str) -> tuple[float, float]:
    """Parse "X,Y": a light's position in the picture that is made, x to the right, y up. Raises UsageError."""
    x, y = _numbers(text, ",", 2, "--light", "two numbers X,Y, such as 0.5,0.2")
    return x, y


def read_turn(text: str, option: str) -> tuple[float, float]:
    """Parse "A:B" or "A", degrees within ±90, as the first and last angle in radians. Raises UsageError."""
    form = "an angle in degrees or a range A:B, such as -20:20"
    degrees = _numbers(text, ":", 1 + (":" in text), option, form)
    if max(map(abs, degrees)) > MAX_TURN_DEG:
        raise UsageError(f"{option} {text} turns too far.", f"Stay between -{MAX_TURN_DEG:g} and {MAX_TURN_DEG:g}.")
    return math.radians(degrees[0]), math.radians(degrees[-1])


def read_crop(text: str) -> tuple[float, float, float, float]:
    """Parse "X,Y,W,H": left, top, width and height in pixels. Raises UsageError."""
    form = "left, top, width and height in pixels: X,Y,W,H, such as 120,80,300,300"
    left, top, width, height = _numbers(text, ",", 4, "--crop", form)
    if min(width, height) <= 0:
        raise UsageError(f"--crop {text} is empty.", f"Give {form}.")
    return left, top, width, height


def _numbers(text: str, separator: str, count: int, option: str, form: str) -> list[float]:
    try:
        numbers = [float(part) for part in text.split(separator)]
    except ValueError:
        numbers = []
    if len(numbers) != count or not all(map(math.isfinite, numbers)):
        raise UsageError(f"{option} {text!r} cannot be read.", f"Give {form}.")
    return numbers


def command_line() -> str:
    """The command that runs, as the user typed it."""
    return shlex.join(("g2s", *sys.argv[1:]))


@contextmanager
def as_file(photo: Path, out: Path) -> Iterator[Path]:
    """A photo's file; for "-" a temporary one with the bytes of stdin, which errors call "stdin".

    Where there is no folder for temporary files, it is in the one of the result.
    """
    if str(photo) != "-":
        yield photo
        return
    if sys.stdin.isatty():
        raise UsageError("- reads a photo from stdin, which is a terminal.", "Name a file, or pipe one in.")
    from g2s_cli.atomic_folder import scratch_folder

    try:
        temporary: AbstractContextManager[str | Path] = tempfile.TemporaryDirectory(prefix="g2s-")
    except FileNotFoundError:
        temporary = scratch_folder(out)
    with temporary as folder:
        file = Path(folder) / "stdin"
        file.write_bytes(sys.stdin.buffer.read())
        try:
            yield file
        except G2SError as error:
            raise error.replace_name(str(file), file.name) from None


def fetch(
    config: CategoryConfig, parts: Sequence[Part], sources: Sources, optional: Sequence[Part] = ()
) -> dict[Part, Path]:
    """The files of a category's parts, fetched with a progress bar if they are missing. Raises WeightsError.

    optional: parts that are used if they are here, and fetched only along with others.
    """
    from g2s_cli.weights.registry import fetch_weights

    with output.fetching() as fetching:
        return fetch_weights(config, parts, sources, fetching, optional)


def category_of(chosen: choices.ReconstructOptions) -> CategoryConfig:
    """The category of a reconstruction, pulled from the Hub if it is new. Raises UsageError for it and its preset."""
    from g2s_cli.weights.registry import Sources, find_category

    config = find_category(chosen.category_name, chosen.sources or Sources.from_environment())
    config.preset(chosen.preset)
    return config


def plan_of(chosen: choices.ReconstructOptions) -> Plan:
    """The plan of a reconstruction; missing weights are fetched with a progress bar. Raises G2SError."""
    from g2s_cli.loading import Plan

    with output.fetching() as fetching:
        return Plan.of(chosen, fetching)
