"""The command line's root: which verbs there are, and the only place that turns errors into exit codes."""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from g2s_cli import __version__
from g2s_cli.commands.evaluate import evaluate
from g2s_cli.commands.mesh import mesh
from g2s_cli.commands.pretrain import pretrain
from g2s_cli.commands.reconstruct import reconstruct
from g2s_cli.commands.relight import relight
from g2s_cli.commands.rotate import rotate
from g2s_cli.commands.sample import sample
from g2s_cli.commands.view import view
from g2s_cli.commands.weights import weights
from g2s_cli.console import output
from g2s_cli.errors import StoppedError, understood

EPILOG = """
[bold]Examples[/bold]

  g2s reconstruct face.png --category synface -o out/

  g2s relight out/ --light -0.8,0.3 --light 0.8,0.3 --frames 12

  g2s rotate out/ --yaw -20:20

  g2s view out/ --open

  g2s mesh out/ --max-faces 20000 --solid

  g2s sample --count 16 --save

[bold]Exit codes[/bold]

  0 done · 1 failure · 2 usage · 3 unusable image · 4 weights missing or damaged · 5 out of memory · 130 Ctrl-C
"""

# How often a thread that waits for the others looks before it sleeps. By itself libgomp looks ten times as often, and
# beside other work, which takes those others their cores, that takes minutes (docs/LOG.md, "Time").
SPINS = "30000"


class Verbs(TyperGroup):
    """Typer's group, but Ctrl-C is our error: Typer's own exit code for it changed between versions."""

    def invoke(self, ctx: Any) -> Any:
        """Run the verb."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise StoppedError("Stopped; nothing was written.") from None


app = typer.Typer(
    cls=Verbs,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=EPILOG,
)
for verb in (reconstruct, relight, rotate, view, mesh, evaluate, pretrain):
    app.command(no_args_is_help=True)(verb)
app.command()(sample)
app.add_typer(weights, name="weights", help="Fetch, check, import and publish the weights of categories.")


def _version(asked: bool) -> bool:
    if asked:
        sys.stdout.write(f"g2s {__version__}\n")
        raise typer.Exit
    return asked


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """One photo in, a relightable 3D shape out."""


def main() -> None:
    """Run the command line; never returns."""
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)  # read when torch is imported
    try:
        app(prog_name="g2s")
    except Exception as error:
        failure = understood(error, traced=output.verbose)
        output.fail(str(failure))
        sys.exit(failure.exit_code)
