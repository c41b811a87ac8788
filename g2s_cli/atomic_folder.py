"""Write a folder all or nothing: check its place, build it in a scratch folder, move it to its place.

A new folder is moved as a whole. One that exists is never renamed, so that it may be a mount, the current folder, or in
a parent that cannot be written to: its files are replaced one by one, and all of them put back if one cannot be.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from g2s_cli.errors import DISK_FULL, G2SError, UsageError, os_remedy
from g2s_cli.files import clean_up_afterwards, delete_if_stale, move_file

FolderId = tuple[int, int] | Path  # device and inode; a path where the file system has no inodes

DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}
SCRATCH = ".g2s-"  # with eight digits: 13 bytes, which every file system has room for
# What file systems and desktops keep in a folder that their users call empty.
SYSTEM_FILES = re.compile(
    r"lost\+found|System Volume Information|\$RECYCLE\.BIN|desktop\.ini|Thumbs\.db"
    r"|\.(DS_Store|Trash.*|fseventsd|Spotlight-V100|TemporaryItems|snapshots?|nfs.*)",
    re.IGNORECASE,
)
PROBE_BYTES = 4096  # a block: a full disk still makes folders


def parent_folders(files: Iterable[Path]) -> dict[FolderId, Path]:
    """Every folder that contains one of the files, at any depth, with that file; for links, their targets' too."""
    parents = {
        folder: path
        for path in files
        # Not `Path.resolve`: links may be loops.
        for place in (Path(os.path.realpath(path)), Path(os.path.realpath(path.parent), path.name))
        for folder in place.parents
    }
    return {_identify(folder): path for folder, path in parents.items()}


def _identify(folder: Path) -> FolderId:
    """The same for all names of a folder: other cases, other mounts of it."""
    try:
        status = folder.stat()
    except OSError:
        return folder
    return (status.st_dev, status.st_ino) if status.st_ino else folder


def check_target(folder: Path, marker: str, *, overwrite: bool, inputs: Mapping[FolderId, Path] | None = None) -> None:
    """Check, before the work starts, that `replace_folder` may and can replace a folder.

    Args:
        folder: The folder to be written.
        marker: Name of a file that only folders of this kind have.
        overwrite: Whether such a folder is replaced; an empty one always is.
        inputs: `parent_folders` of the files that the work reads.

    Raises:
        UsageError: It may not, or cannot be written to.
        G2SError: The disk is full.
    """
    with _refuse_os_errors(folder):
        if folder.exists() and not folder.is_dir():
            raise UsageError(f"{folder} is a file.", "Name a folder with -o.")
        place = folder.resolve()
        if path := (inputs or {}).get(_identify(place)):
            what = f"{path} lies in {folder}, which would be replaced."
            raise UsageError(what, "Move it out of there, or name another folder with -o.")
        if folder.is_dir() and not is_empty(folder):
            if not (folder / marker).is_file() and not any(folder.glob(f"{SCRATCH}*/old")):
                what = f"{folder} is not empty and holds no g2s result: g2s will not delete it."
                raise UsageError(what, "Name another folder with -o.")
            if not overwrite:
                raise UsageError(
                    f"{folder} exists and is not empty.",
                    "Add --overwrite to replace it, or name another folder with -o.",
                )
        _try_to_write(place / "probe")


def check_file_target(path: Path) -> None:
    """Check, before the work starts, that a file can be written, with its folder. Raises as `check_target`."""
    with _refuse_os_errors(path):
        _try_to_write(path.resolve())


def max_name_bytes(folder: Path) -> int:
    """The most bytes of a name in a folder, which may be missing; 255 where the system does not tell."""
    try:
        return os.pathconf(_nearest_folder(folder.absolute()), "PC_NAME_MAX")
    except (AttributeError, OSError, ValueError):
        return 255


def is_empty(folder: Path) -> bool:
    """Whether a folder has no files but those of its file system and scratch folders."""
    names = (path.name for path in folder.iterdir())
    return all(name.startswith(SCRATCH) or SYSTEM_FILES.fullmatch(name) for name in names)


@contextmanager
def replace_folder(folder: Path, owned: str = "", *, overwrite: bool = True) -> Iterator[Path]:
    """A scratch folder to fill, whose files replace those of `folder` when the block ends.

    If the block raises, the scratch folder is deleted and `folder` stays.

    Args:
        folder: The folder to replace.
        owned: Regular expression of the relative paths that are replaced; all other files stay.
        overwrite: Replace a folder that another run has written since the check.

    Raises:
        UsageError: A file, or a folder that may not be overwritten, has the folder's name.
        G2SError: The disk refuses.
    """
    try:
        place = folder.resolve()
        if place.exists() and not place.is_dir():
            raise UsageError(f"{folder} is a file.", "Move it away, or name another folder.")
        with scratch_folder(place) as scratch:
            (new := scratch / "new").mkdir()
            yield new
            if _move_folder(new, place):
                return
            if not overwrite and not is_empty(place):
                what = f"{folder} has been written by another run meanwhile."
                raise UsageError(what, "Add --overwrite to replace it, or name another folder with -o.")
            _exchange(new, place, scratch / "old", owned)
    except OSError as error:
        what = f"{folder} cannot be written: {error.strerror or error}."
        remedy = "Make it writable" if error.errno in DENIED else "Free space"
        raise G2SError(what, os_remedy(error, f"{remedy}, or name another folder.")) from error


def _move_folder(new: Path, place: Path) -> bool:
    """Move a folder as a whole, unless there is one already or the file system cannot: then there is one afterwards."""
    if place.is_dir():
        return False
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        new.rename(place)
    except OSError:
        place.mkdir(exist_ok=True)
        return False
    return True


def _exchange(new: Path, place: Path, old: Path, owned: str) -> None:
    """Move the `owned` files of a folder, and those that get a successor, to `old`, then those of `new` to the folder.

    All go back if one cannot be moved. In between no file of the new ones stands beside one of the old.
    """
    arriving = _files(new)
    leaving = [name for name in _files(place) if name in arriving or re.fullmatch(owned, name.as_posix())]
    moves = [(place / name, old / name) for name in leaving] + [(new / name, place / name) for name in arriving]
    old.mkdir()
    begun: list[tuple[Path, Path]] = []
    try:
        for source, target in moves:
            target.parent.mkdir(parents=True, exist_ok=True)
            begun.append((source, target))
            move_file(source, target)
    except BaseException:
        for source, target in reversed(begun):
            with suppress(OSError):  # the last one may not have been moved
                move_file(target, source)
        raise
    for name in leaving:
        (old / name).unlink()
    for folder in {place / name.parent for name in leaving} - {place}:
        with suppress(OSError):  # it is not empty
            folder.rmdir()


def _files(folder: Path) -> list[Path]:
    """The relative paths of all files in a folder and its sub-folders, sorted; scratch folders are left out."""
    relative = (path.relative_to(folder) for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    return sorted(path for path in relative if not path.parts[0].startswith(SCRATCH))


@contextmanager
def scratch_folder(place: Path) -> Iterator[Path]:
    """A hidden folder in another one or its nearest parent, deleted afterwards; those of killed processes are, too."""
    parent = _nearest_folder(place)
    for stale in parent.glob(f"{SCRATCH}{'[0-9a-f]' * 8}"):
        delete_if_stale(stale, _delete_scratch)
    scratch = parent / f"{SCRATCH}{secrets.token_hex(4)}"
    with clean_up_afterwards(lambda: _delete_scratch(scratch)):
        scratch.mkdir()
        yield scratch


def _delete_scratch(scratch: Path) -> None:
    """Delete a scratch folder, but no replaced file that could not be put back."""
    shutil.rmtree(scratch / "new", ignore_errors=True)
    if not _files(scratch / "old"):
        shutil.rmtree(scratch, ignore_errors=True)


def _try_to_write(path: Path) -> None:
    """Write a file of this name, with the folders that it lacks, in a scratch folder at its place. Raises OSError."""
    with scratch_folder(path.parent) as scratch:
        probe = scratch / path.relative_to(scratch.parent)
        probe.parent.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(bytes(PROBE_BYTES))


def _nearest_folder(path: Path) -> Path:
    """A path, or its nearest parent that exists."""
    return next(folder for folder in (path, *path.parents) if folder.exists())


@contextmanager
def _refuse_os_errors(target: Path) -> Iterator[None]:
    """Raise errors of the operating system as sentences on what -o names."""
    try:
        yield
    except OSError as error:
        what, full = f"{target} cannot be written: {error.strerror or error}.", error.errno in DISK_FULL
        remedy = os_remedy(error, f"{'Free space, or name' if full else 'Name'} another one with -o.")
        raise (G2SError if full else UsageError)(what, remedy) from error
    except RuntimeError as error:  # Python 3.11 and 3.12, for links that end nowhere
        raise UsageError(f"{target} is a link to itself.", "Name another one with -o.") from error
