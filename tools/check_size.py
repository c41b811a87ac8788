"""Check the sizes of files and functions, and that words of the glossary's left column are gone.

A file has at most 400 lines, a function 60, a function 8 parameters. Of a Typer command the body alone is counted, and
its parameters are not: they are the command's options.

    python tools/check_size.py
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = ("g2s_cli", "recipes", "tests", "benchmarks", "examples")
MAX_FILE_LINES, MAX_FUNCTION_LINES, MAX_PARAMETERS = 400, 60, 8
COMMANDS = ("g2s_cli/commands/", "recipes/")
# Identifiers that contain one of these are refused in g2s_cli/ and recipes/.
OLD_WORDS = (
    "witness fantas strangeness counterparts circumstances second_opinion going_back taken_apart sightnet gloss misfit "
    "unlikely unbiased relief_apart turned_away held_to_slope stepped misread misjudg pupil lesson teacher"
)
OLD_WORD = re.compile("|".join(OLD_WORDS.split()), re.IGNORECASE)
ALLOWED = {"PUPIL", "PUPIL_CM", "unbiased"}  # of an eye; torch's keyword

Function = ast.FunctionDef | ast.AsyncFunctionDef


def is_command(function: Function, name: str) -> bool:
    """Whether Typer calls it: it is decorated as a command, or has options of `commands.options` or `typer`."""
    decorators = [ast.unparse(decorator) for decorator in function.decorator_list]
    annotations = [ast.unparse(argument.annotation) for argument in function.args.args if argument.annotation]
    has_options = any("options." in text or "typer." in text for text in annotations)
    return name.startswith(COMMANDS) and (has_options or any(".command(" in text for text in decorators))


def parameters(function: Function) -> int:
    """How many parameters a caller names; not `self` and `cls`."""
    arguments = function.args
    named = [argument.arg for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
    return len([name for name in named if name not in {"self", "cls"}])


def check_function(function: Function, name: str) -> Iterator[str]:
    """The complaints about a function in the file `name`."""
    place, first = f"{name}:{function.lineno}: {function.name}", function.lineno
    if is_command(function, name):
        first = function.body[1 if ast.get_docstring(function) else 0].lineno
    elif (count := parameters(function)) > MAX_PARAMETERS:
        yield f"{place} has {count} parameters"
    if (lines := (function.end_lineno or first) - first + 1) > MAX_FUNCTION_LINES:
        yield f"{place} has {lines} lines"


def identifiers(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Every name that a file defines or uses, with its line."""
    for node in ast.walk(tree):
        for field in ("id", "attr", "arg", "name", "asname", "module"):
            if isinstance(name := getattr(node, field, None), str):
                yield name, getattr(node, "lineno", 0)


def check_file(path: Path) -> Iterator[str]:
    """The complaints about a file."""
    name, text = path.relative_to(ROOT).as_posix(), path.read_text("utf-8")
    if (lines := len(text.splitlines())) > MAX_FILE_LINES:
        yield f"{name}: has {lines} lines"
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, Function):
            yield from check_function(node, name)
    if name.startswith(("g2s_cli/", "recipes/")):
        for identifier, line in sorted(set(identifiers(tree)), key=lambda found: found[1]):
            if OLD_WORD.search(identifier) and identifier not in ALLOWED:
                yield f"{name}:{line}: {identifier} is a word of the old glossary"


def main() -> int:
    """Print all complaints; 1 if there are any."""
    files = (path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py")))
    complaints = [complaint for path in files for complaint in check_file(path)]
    print("\n".join(complaints) or "Sizes and words are fine.")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
