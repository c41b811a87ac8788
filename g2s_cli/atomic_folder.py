"""Replace a folder atomically: check that it may be replaced, build the new one beside it, swap them."""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from g2s_cli.errors import G2SError, UsageError

DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}


def parent_folders(files: Iterable[Path]) -> dict[Path, Path]:
    """Every folder that contains one of the files, at any depth, with that file; for links, their targets' too."""
    return {
        folder: path
        for path in files
        for place in (path.resolve(), path.parent.resolve() / path.name)
        for folder in place.parents
    }


def check_target(folder: Path, marker: str, *, overwrite: bool, inputs: Mapping[Path, Path] | None = None) -> None:
    """Check, before the work starts, that `replace_folder` may replace a folder.

    Args:
        folder: The folder to be written.
        marker: Name of a file that only folders of this kind have.
        overwrite: Whether such a folder is replaced; an empty one always is.
        inputs: `parent_folders` of the files that the work reads.

    Raises:
        UsageError: It may not.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file.", "Name a folder with -o.")
    place = folder.resolve()
    if place in (Path.cwd(), *Path.cwd().parents):
        raise UsageError(f"{folder} is the current folder, and cannot be replaced.", "Name a new folder with -o.")
    if path := (inputs or {}).get(place):
        what = f"{path} lies in {folder}, which would be replaced."
        raise UsageError(what, "Move it out of there, or name another folder with -o.")
    if folder.is_dir() and any(folder.iterdir()):
        if not (folder / marker).is_file():
            what = f"{folder} is not empty and holds no g2s result: g2s will not delete it."
            raise UsageError(what, "Name another folder with -o.")
        if not overwrite:
            raise UsageError(f"{folder} exists and is not empty.", "Add --overwrite to replace it, or name another.")
    parent = _existing_parent(place)
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise UsageError(f"{parent} cannot be written to.", "Name another folder with -o.")


@contextmanager
def replace_folder(folder: Path, owned: str = "", *, overwrite: bool = True) -> Iterator[Path]:
    """A temporary folder to fill, which replaces `folder` when the block ends.

    If the block raises, the temporary folder is deleted and `folder` stays.

    Args:
        folder: The folder to replace.
        owned: Regular expression of the relative paths that are replaced; all other files move to the new folder.
        overwrite: Replace a folder that another run has written since the check.

    Raises:
        UsageError: A file, or a folder that may not be overwritten, has the folder's name.
        G2SError: The disk refuses.
    """
    place = folder.resolve()
    if place.exists() and not place.is_dir():
        raise UsageError(f"{folder} is a file.", "Move it away, or name another folder.")
    temporary = _existing_parent(place) / f".{place.name}-{secrets.token_hex(4)}"
    previous = temporary.with_name(f"{temporary.name}-old")
    try:
        temporary.mkdir()
        yield temporary
        place.parent.mkdir(parents=True, exist_ok=True)
        if overwrite and place.exists():
            place.rename(previous)
        temporary.rename(place)
        if previous.exists():
            _move_foreign_files(previous, place, owned)
            shutil.rmtree(previous, ignore_errors=True)
    except OSError as error:
        if error.errno in {errno.ENOTEMPTY, errno.EEXIST} and not overwrite:
            what = f"{folder} has been written by another run meanwhile."
            raise UsageError(what, "Add --overwrite to replace it, or name another.") from error
        remedy = "Make it writable" if error.errno in DENIED else "Free space"
        what = f"{folder} cannot be written: {error.strerror or error}."
        raise G2SError(what, f"{remedy}, or name another folder.") from error
    finally:
        if previous.exists() and not place.exists():
            previous.rename(place)
        shutil.rmtree(temporary, ignore_errors=True)


def _move_foreign_files(old: Path, new: Path, owned: str) -> None:
    """Move the files of a folder that are not `owned`, and that the new folder lacks."""
    for path in sorted(old.rglob("*")):
        relative = path.relative_to(old)
        is_file = path.is_symlink() or not path.is_dir()
        if is_file and not re.fullmatch(owned, relative.as_posix()) and not (new / relative).exists():
            (new / relative).parent.mkdir(parents=True, exist_ok=True)
            path.rename(new / relative)


def _existing_parent(path: Path) -> Path:
    """The nearest parent that exists."""
    return next(parent for parent in path.parents if parent.exists())
