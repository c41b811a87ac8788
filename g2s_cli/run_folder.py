"""A folder that a run leaves its work in, so that the same command can go on there and another cannot."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from g2s_cli.errors import G2SError, UsageError
from g2s_cli.files import atomic_replace

SETTINGS, LOCK = "settings.json", ".lock"


def claim(folder: Path, settings: Mapping[str, object], verb: str) -> None:
    """Take a folder for a run: one that can be `taken_up`, or an empty or new one. Raises what that does."""
    if is_resumable(folder, settings, verb):
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_replace(folder / SETTINGS) as temporary:
            temporary.write_text(json.dumps(settings, indent=2) + "\n")
    except OSError as error:
        raise UsageError(f"{folder} cannot be used: {error.strerror or error}.", "Name another with -o.") from error


def is_resumable(folder: Path, settings: Mapping[str, object], verb: str) -> bool:
    """True for a folder that was begun with the same settings, False for an empty or new one. It stays as it is.

    verb: the command, as "g2s evaluate". Raises UsageError for any other folder, G2SError for a damaged one.
    """
    stated, said = folder / SETTINGS, json.loads(json.dumps(settings))
    try:
        if not stated.exists():
            if folder.exists() and any(folder.iterdir()):
                raise UsageError(f"{folder} is no folder of {verb}.", "Name another with -o.")
            return False
        begun = json.loads(stated.read_text())
        differing = [name for name in begun | said if begun.get(name) != said.get(name)]
    except OSError as error:
        raise UsageError(f"{folder} cannot be used: {error.strerror or error}.", "Name another with -o.") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise G2SError(f"{folder} is damaged: {error}.", f"Delete it and run {verb} again.") from error
    if differing:
        what = f"{folder} was begun with other settings: {', '.join(differing).replace('_', ' ')}."
        raise UsageError(what, "Name another folder with -o, or delete it.")
    return True


@contextmanager
def lock_folder(folder: Path, verb: str) -> Iterator[None]:
    """Keep other processes from working in a claimed folder. Raises UsageError if one does; a killed one does not.

    A folder that cannot be written to raises it, too.
    """
    lock = FileLock(folder / LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        what = f"Another {verb} is at work in {folder}."
        raise UsageError(what, "Wait for it, or end it: the workers of a killed run may live on.") from error
    except OSError as error:
        raise UsageError(f"{folder} cannot be used: {error.strerror or error}.", "Name another with -o.") from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def open_run_folder(folder: Path, settings: Mapping[str, object], verb: str) -> Iterator[None]:
    """`claim` a folder, and be `alone_in` it."""
    claim(folder, settings, verb)
    with lock_folder(folder, verb):
        yield
