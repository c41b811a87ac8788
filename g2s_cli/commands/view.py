"""g2s view: a result folder → a page that shows it in 3D."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import Annotated

from g2s_cli.commands import options
from g2s_cli.console import output


def view(
    folder: options.ResultFolder,
    show: Annotated[bool, options.output_option("--open", help="Open it in the browser, too.")] = False,
    out: Annotated[
        Path | None,
        options.output_option(
            "--out", "-o", metavar="FILE", help="The page, or a folder for view.html.", show_default="RESULT/view.html"
        ),
    ] = None,
    overwrite: Annotated[
        bool, options.output_option("--overwrite", help="Replace another page, which is refused otherwise.")
    ] = False,
    mesh_size: options.MeshSize = None,
    texture_size: options.TextureSize = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Make RESULT/view.html: the object in 3D, to turn and to light by hand. One file, which needs no network.

    Example: g2s view out/ --open
    """
    output.set(quiet=quiet, verbose=verbose, as_json=as_json)

    from g2s_cli.mesh.export import MeshOptions
    from g2s_cli.result.page import write_page
    from g2s_cli.result.read import read_result
    from g2s_cli.result.schema import PAGE

    page = out or folder
    page = page if page.suffix.lower() in {".html", ".htm"} else page / PAGE
    with output.step("view"):
        write_page(read_result(folder), page, MeshOptions(mesh_size, texture_size), folder=folder, overwrite=overwrite)
    if show and not webbrowser.open(page.resolve().as_uri()):
        output.info(f"Note: no browser could be started here. Open {page} yourself.")
    output.print_result([page], {"folder": str(folder), "file": str(page)})
