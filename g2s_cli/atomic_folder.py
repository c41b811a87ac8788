"""A folder that something goes to in one move: whether it may, and how it does."""

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


def parent_folders(inputs: Iterable[Path]) -> dict[Path, Path]:
    """Every folder that one of these files lies in, at any depth, with that file. A link lies where it leads, too."""
    return {
        folder: path
        for path in inputs
        for place in (path.resolve(), path.parent.resolve() / path.name)
        for folder in place.parents
    }


def check_target(folder: Path, marker: str, *, overwrite: bool, inputs: Mapping[Path, Path] | None = None) -> None:
    """Refuse a folder that something could not go to in one move, before the work starts.

    mark: a file that only such folders have. needed: `folders_of` the files that the work reads. Raises UsageError.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file.", "Name a folder with -o.")
    place = folder.resolve()
    if place in (Path.cwd(), *Path.cwd().parents):
        raise UsageError(f"{folder} is where you stand, and cannot be replaced.", "Name a new folder with -o.")
    if read := (inputs or {}).get(place):
        raise UsageError(
            f"{read} lies in {folder}, which would be replaced.",
            "Move it out of there, or name another folder with -o.",
        )
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
    """A new folder to fill. It takes `folder`'s place when the block ends well.

    On any failure, Ctrl-C too, nothing of it is left and what was there stays. ours: a regular expression of paths in
    the folder; what was there and is not one of them is brought along. overwrite: whether a folder that has come to be
    meanwhile is replaced. Raises UsageError for a file of that name and for such a folder, G2SError for the disk's.
    """
    place = folder.resolve()
    if place.exists() and not place.is_dir():
        raise UsageError(f"{folder} is a file.", "Move it away, or name another folder.")
    building = _existing_parent(place) / f".{place.name}-{secrets.token_hex(4)}"
    retired = building.with_name(f"{building.name}-old")
    try:
        building.mkdir()
        yield building
        place.parent.mkdir(parents=True, exist_ok=True)
        if overwrite and place.exists():
            place.rename(retired)
        building.rename(place)
        if retired.exists():
            _move_foreign_files(retired, place, owned)
            shutil.rmtree(retired, ignore_errors=True)
    except OSError as error:
        if error.errno in {errno.ENOTEMPTY, errno.EEXIST} and not overwrite:
            what = f"{folder} has been written by another run meanwhile."
            raise UsageError(what, "Add --overwrite to replace it, or name another.") from error
        remedy = "Make it writable" if error.errno in DENIED else "Free space"
        raise G2SError(
            f"{folder} cannot be written: {error.strerror or error}.", f"{remedy}, or go elsewhere."
        ) from error
    finally:
        if retired.exists() and not place.exists():
            retired.rename(place)
        shutil.rmtree(building, ignore_errors=True)


def _move_foreign_files(old: Path, new: Path, owned: str) -> None:
    """Move a folder's files that are not ours, and that the new one does not have, to where they lay."""
    for path in sorted(old.rglob("*")):
        inside = path.relative_to(old)
        is_file = path.is_symlink() or not path.is_dir()
        if is_file and not re.fullmatch(owned, inside.as_posix()) and not (new / inside).exists():
            (new / inside).parent.mkdir(parents=True, exist_ok=True)
            path.rename(new / inside)


def _existing_parent(place: Path) -> Path:
    """The nearest parent that exists."""
    return next(parent for parent in place.parents if parent.exists())
