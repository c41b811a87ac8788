"""The command line's root: registers the commands, and alone turns errors into exit codes."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from g2s_cli import __version__
from g2s_cli.commands.app import app as web_app
from g2s_cli.commands.compare_mesh import compare_mesh
from g2s_cli.commands.evaluate import evaluate
from g2s_cli.commands.mesh import mesh
from g2s_cli.commands.options import RENAMED_FLAGS, unwrap
from g2s_cli.commands.pretrain import pretrain
from g2s_cli.commands.reconstruct import reconstruct
from g2s_cli.commands.relight import relight
from g2s_cli.commands.rotate import rotate
from g2s_cli.commands.sample import sample
from g2s_cli.commands.sheet import sheet
from g2s_cli.commands.train import train
from g2s_cli.commands.view import view
from g2s_cli.commands.weights import weights
from g2s_cli.console import allow_any_text, output
from g2s_cli.errors import ErrorStyle, StoppedError, UsageError, as_g2s_error
from g2s_cli.malloc import M_ARENA_MAX, configure_malloc
from g2s_cli.signals import received_signals

EPILOG = """
[bold]Examples[/bold]

  g2s reconstruct face.jpg -o out/

  g2s relight out/ --light -0.8,0.3 --light 0.8,0.3 --frames 12

  g2s rotate out/ --yaw -20:20

  g2s view out/ --open

  g2s mesh out/ --max-faces 20000 --solid -o print/

  g2s sample --count 16 --save

[bold]Exit codes[/bold]

  0 done · 1 failure · 2 usage · 3 unusable image · 4 weights missing or damaged · 5 out of memory · 130 Ctrl-C \
· 143 SIGTERM · 129 SIGHUP
"""

# How often an OpenMP thread polls for work before it sleeps. libgomp's own ten times as many cost minutes if other
# processes take the cores (docs/experiments/timing.md).
SPIN_COUNT = "30000"


@contextmanager
def usage_errors_as_json() -> Iterator[None]:
    """With --json, also print errors that Typer explains on stderr, such as an unknown option."""
    try:
        yield
    except Exception as error:
        if message := getattr(error, "format_message", None):
            output.print_failure(UsageError(message(), "See --help."))
        raise


class OneCommand(TyperCommand):
    """Typer's command, but an option of one value may not be given twice: the first would count for nothing."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Refuse a repeated option."""
        _, _, order = self.make_parser(ctx).parse_args(args=list(args))
        options = [
            one
            for one in order
            if one.param_type_name == "option" and not one.multiple and not getattr(one, "is_flag", False)
        ]
        for option in options:
            if options.count(option) > 1:
                raise UsageError(f"{option.opts[0]} is given more than once.", "Give it once.")
        return super().parse_args(ctx, args)


class Commands(TyperGroup):
    """Typer's group, but Ctrl-C is our error: Typer's own exit code for it changed between versions."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Refuse an empty argument, which as a path would be the current folder."""
        if "" in args:
            raise UsageError("An argument is empty.", "Look at the shell's variables in it.")
        with usage_errors_as_json():
            return super().parse_args(ctx, args)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command. A photo in its place is told apart."""
        if args and args[0] not in self.commands and os.path.isfile(args[0]):  # noqa: PTH113 (any text is allowed)
            raise UsageError(f"{args[0]} is no command.", f"Name one before it: g2s reconstruct {shlex.quote(args[0])}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run the command, in a folder that exists: the MKL of torch ends the process in a deleted one."""
        try:
            Path.cwd()
        except FileNotFoundError:
            raise UsageError("The current folder has been deleted.", "Go to another one.") from None
        try:
            with usage_errors_as_json():
                return super().invoke(ctx)
        except KeyboardInterrupt:
            raise StoppedError("Stopped; nothing half written is left.") from None


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "token_normalize_func": lambda flag: RENAMED_FLAGS.get(flag, flag),
    },
    epilog=EPILOG,
)
for command in (reconstruct, relight, rotate, view, mesh, sheet, evaluate, compare_mesh, train, pretrain):
    app.command(no_args_is_help=True)(command)
app.command()(sample)
app.command("app")(web_app)
app.add_typer(weights, name="weights", help="Fetch, check, import and publish the weights of categories.")
for registered in (*app.registered_commands, *weights.registered_commands):
    registered.cls = OneCommand
    registered.help = unwrap(registered.callback.__doc__ or "")


def _print_version(wanted: bool) -> bool:
    if wanted:
        sys.stdout.write(f"g2s {__version__}\n")
        raise typer.Exit
    return wanted


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """One photo in, a relightable 3D shape out."""


def set_environment() -> None:
    """Set what libraries read when they are imported, where the user has not."""
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)
    # torch makes a folder for compiled code, which we have none of, in the one for temporary files, and asks for the
    # current folder. In a container neither may exist.
    for name in ("TORCHINDUCTOR_CACHE_DIR", "TORCH_COMPILE_DEBUG_DIR"):
        os.environ.setdefault(name, str(Path(__file__).parent))
    # Without a home folder huggingface_hub would write to one named "~" in the current folder.
    if (cache := os.environ.get("G2S_CACHE")) and os.path.expanduser("~") == "~":  # noqa: PTH111
        os.environ.setdefault("HF_HOME", str(Path(cache, "huggingface")))


def run() -> int:
    """Run the command line. Returns the exit code."""
    set_environment()
    configure_malloc({M_ARENA_MAX: 1})  # threads share freed memory: that of a run of many photos stays flat
    ErrorStyle.flags = True
    allow_any_text()
    output.set(as_json="--json" in sys.argv)  # errors may precede the command
    try:
        app(prog_name="g2s")
    except BaseException as error:
        # A library, or Typer outside of a command, may have replaced our KeyboardInterrupt.
        stopped = bool(received_signals) or isinstance(error, KeyboardInterrupt)
        if isinstance(error, SystemExit) and not (stopped and error.code):
            return error.code if isinstance(error.code, int) else int(error.code is not None)
        failure = as_g2s_error(error, traceback_shown=output.verbose)
        if stopped and not isinstance(failure, StoppedError):
            failure = StoppedError("Stopped.")
        with suppress(OSError):  # after a hang-up there is no terminal to write to
            output.error(str(failure))
        code = 128 + received_signals[0] if received_signals else failure.exit_code
        output.print_failure(failure, code)
        return code
    return 0
