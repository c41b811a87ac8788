"""g2s view: a result folder → a page that shows it in 3D."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import Annotated

from g2s_cli.commands import options
from g2s_cli.console import output
from g2s_cli.errors import UsageError


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
    window: Annotated[
        bool, options.output_option("--window", help="Show it in a desktop window instead (the extra open3d).")
    ] = False,
    mesh_size: options.MeshSize = None,
    texture_size: options.TextureSize = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Make RESULT/view.html: the object in 3D, to turn and to light by hand. One file, which needs no network.

    With --window no page is made: arrow keys turn the object in the window, Shift and arrow keys move the light, + and
    - zoom, Home starts again, Q closes.

    Example: g2s view out/ --open
    """
    output.set(quiet=quiet, verbose=verbose, as_json=as_json)
    if window and (show or out or overwrite):
        raise UsageError("--window makes no page.", "Leave out --open, -o and --overwrite, or --window.")

    from g2s_cli.mesh.options import MeshOptions
    from g2s_cli.result.page import write_page
    from g2s_cli.result.read import read_result
    from g2s_cli.result.schema import PAGE

    if window:
        from g2s_cli.result.window import ResultWindow

        with output.step("view"):
            opened = ResultWindow(read_result(folder), MeshOptions(mesh_size, texture_size))
        opened.run()
        output.print_result([], {"folder": str(folder), "file": None})
        return
    page = out or folder
    page = page if page.suffix.lower() in {".html", ".htm"} else page / PAGE
    with output.step("view"):
        write_page(read_result(folder), page, MeshOptions(mesh_size, texture_size), folder=folder, overwrite=overwrite)
    if show and not webbrowser.open(page.resolve().as_uri()):
        output.info(f"Note: no browser could be started here. Open {page} yourself.")
    output.print_result([page], {"folder": str(folder), "file": str(page)})
