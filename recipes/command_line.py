"""The command line of a recipe."""

from __future__ import annotations

import sys
from collections.abc import Callable

from g2s_cli.console import output
from g2s_cli.errors import as_g2s_error


def run(app: Callable[..., None], name: str) -> None:
    """Run a Typer app as `python -m NAME`; errors are one sentence and the exit codes of g2s."""
    try:
        app(prog_name=f"python -m {name}")
    except Exception as error:
        failure = as_g2s_error(error)
        output.error(str(failure), error)
        sys.exit(failure.exit_code)
