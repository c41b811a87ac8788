"""g2s view: a result folder → a page that shows it in 3D."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from g2s_cli.commands.options import Json, MeshSize, Quiet, TextureSize, Verbose
from g2s_cli.console import output


def view(
    folder: Annotated[Path, typer.Argument(metavar="OUT", help="A folder that g2s reconstruct made.")],
    show: Annotated[bool, typer.Option("--open", help="Open it in the browser, too.")] = False,
    mesh_size: MeshSize = None,
    texture_size: TextureSize = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Make OUT/view.html: the object in 3D, to turn and to light by hand. One file, which needs no network.

    Example: g2s view out/ --open
    """
    output.set(quiet=quiet, verbose=verbose)

    from g2s_cli.mesh.export import Detail
    from g2s_cli.result.folder import read_result
    from g2s_cli.result.page import write_page

    place = write_page(read_result(folder), folder, Detail(mesh_size, texture_size))
    if show and not webbrowser.open(place.resolve().as_uri()):
        output.info(f"Note: no browser could be started here. Open {place} yourself.")
    if as_json:
        output.print_json({"folder": str(folder), "file": str(place)})
        return
    output.print(place)
