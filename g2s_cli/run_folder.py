"""The folder of a resumable run: its settings, and a lock against a second process."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from g2s_cli.atomic_folder import is_empty
from g2s_cli.errors import G2SError, UsageError, os_remedy, shorten
from g2s_cli.files import atomic_write, read_json

SETTINGS, LOCK = "settings.json", ".lock"


def claim(folder: Path, settings: Mapping[str, object], verb: str) -> None:
    """Create the folder of a run and write its settings, unless it `is_resumable`. Raises as that."""
    if is_resumable(folder, settings, verb):
        return
    with _convert_errors(folder), atomic_write(folder / SETTINGS) as temporary:
        temporary.write_text(json.dumps(settings, indent=2) + "\n")


def is_resumable(folder: Path, settings: Mapping[str, object], verb: str) -> bool:
    """Whether a folder holds a run of the same settings; False for an empty or new folder. Nothing is written.

    Args:
        folder: The run's folder.
        settings: What its work depends on, JSON-able.
        verb: The command in messages, as "g2s evaluate".

    Raises:
        UsageError: The folder holds something else, or a run of other settings.
        G2SError: Its settings cannot be read.
    """
    path, settings = folder / SETTINGS, json.loads(json.dumps(settings))
    try:
        with _convert_errors(folder):
            if not path.exists():
                if folder.exists() and not is_empty(folder):
                    raise UsageError(f"{folder} is no folder of {verb}.", "Name another with -o.")
                return False
            before = read_json(path)
        changed = [name for name in before | settings if before.get(name) != settings.get(name)]
    except (ValueError, TypeError, AttributeError) as error:
        raise G2SError(f"{folder} is damaged: {shorten(error)}.", f"Delete it and run {verb} again.") from error
    if changed:
        what = f"{folder} was begun with other settings: {', '.join(changed).replace('_', ' ')}."
        raise UsageError(what, "Name another folder with -o, or delete it.")
    return True


@contextmanager
def lock_folder(folder: Path, verb: str) -> Iterator[None]:
    """Lock a claimed folder. The lock of a process that was killed is gone with it.

    Raises:
        UsageError: Another process holds the lock, or the folder cannot be written to.
    """
    lock = FileLock(folder / LOCK, timeout=0)
    try:
        with _convert_errors(folder):
            lock.acquire()
    except Timeout as error:
        what = f"Another {verb} is at work in {folder}."
        raise UsageError(what, "Wait for it, or end it: the workers of a killed run may live on.") from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def open_run_folder(folder: Path, settings: Mapping[str, object], verb: str) -> Iterator[None]:
    """`claim` a folder and lock it."""
    claim(folder, settings, verb)
    with lock_folder(folder, verb):
        yield


@contextmanager
def _convert_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except Timeout:  # an OSError, too
        raise
    except OSError as error:
        remedy = os_remedy(error, "Name another with -o.")
        raise UsageError(f"{folder} cannot be used: {error.strerror or error}.", remedy) from error
    except NotImplementedError as error:  # of filelock
        raise UsageError(f"{folder} is on a disk without locks for files.", "Name another with -o.") from error
