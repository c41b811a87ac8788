"""g2s sheet: several result folders → one picture of all of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from g2s_cli.commands import options
from g2s_cli.console import output
from g2s_cli.errors import UsageError

if TYPE_CHECKING:
    from g2s_cli.progress import Progress
    from g2s_cli.result.schema import Result


def sheet(
    folders: Annotated[
        list[Path],
        typer.Argument(metavar="RESULT...", help="Result folders, or a folder of such, as of many photos."),
    ],
    out: Annotated[Path, options.output_option("--out", "-o", metavar="FILE", help="The sheet, a PNG.")] = Path(
        "sheet.png"
    ),
    overwrite: options.Overwrite = False,
    size: Annotated[int, options.output_option("--size", min=32, max=512, help="Pixels a side of each picture.")] = 256,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Show several results on one contact sheet: photo, shape, three sides and two lights, a row each.

    Example: g2s sheet out/a out/b -o sheet.png
    """
    output.set(quiet=quiet, verbose=verbose, as_json=as_json)
    if out.suffix.lower() != ".png":
        raise UsageError(f"{out} is no name for a sheet.", "Name a .png file with -o.")
    if out.exists() and (out.is_dir() or not overwrite):
        raise UsageError(f"{out} exists.", "Add --overwrite to replace a file, or name another with -o.")

    from g2s_cli.batch import SUMMARY
    from g2s_cli.files import atomic_write
    from g2s_cli.result.contact_sheet import result_sheet
    from g2s_cli.result.read import find_results

    folders = [folder for folder in folders if folder.name != SUMMARY] or folders  # many/* names it, too
    results = [result for folder in folders for result in find_results(folder)]
    with output.progress(brief=True) as progress:
        progress.begin("sheet", len(results))
        picture = result_sheet(_read_each(results, progress), size)
    with atomic_write(out, "Free space, or name another with -o.") as temporary:
        picture.save(temporary, "PNG")
    output.print_result([out], {"sheet": str(out), "results": [str(folder) for folder in results]})


def _read_each(folders: Sequence[Path], progress: Progress) -> Iterator[tuple[str, Result]]:
    """Results with their folders' names, read as they are needed."""
    from g2s_cli.result.read import read_result

    for number, folder in enumerate(folders, start=1):
        yield str(folder), read_result(folder)
        progress.advance(number, 0.0)
