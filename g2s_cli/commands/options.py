"""Options that several verbs share, and how the values people type are read."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import typer

from g2s_cli.errors import UsageError

By = Literal["mesh", "gan"]
Symmetry = Literal["on", "off", "first-stage"]

Device = Annotated[
    str, typer.Option("--device", metavar="NAME", help="auto, cpu, cuda, cuda:N or mps; auto takes the GPU if any.")
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

WIDEST_TURN_DEG = 90.0


def read_light(text: str) -> tuple[float, float]:
    """ "X,Y" as two finite numbers: where a light stands, x to the right, y up, as seen in the photo."""
    x, y = _numbers(text, ",", "--light", "two numbers X,Y, such as 0.5,0.2")
    return x, y


def read_turn(text: str, option: str) -> tuple[float, float]:
    """ "A:B" or "A", degrees within ±90, as first and last angle in radians."""
    form = "an angle in degrees or a range A:B, such as -20:20"
    first, last = _numbers(text if ":" in text else f"{text}:{text}", ":", option, form)
    if max(abs(first), abs(last)) > WIDEST_TURN_DEG:
        raise UsageError(
            f"{option} {text} turns too far.", f"Stay between -{WIDEST_TURN_DEG:g} and {WIDEST_TURN_DEG:g}."
        )
    return math.radians(first), math.radians(last)


def _numbers(text: str, separator: str, option: str, form: str) -> tuple[float, float]:
    try:
        first, second = (float(part) for part in text.split(separator))
    except ValueError:
        first = second = math.nan
    if not (math.isfinite(first) and math.isfinite(second)):
        raise UsageError(f"{option} {text!r} cannot be read.", f"Give {form}.")
    return first, second
