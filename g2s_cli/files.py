"""Atomic writes, and hashes of files."""

from __future__ import annotations

import atexit
import errno
import hashlib
import json
import secrets
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from g2s_cli.errors import G2SError, ImageError, os_remedy

# Errors of a file system that would copy the file.
NOT_RENAMED = {errno.EXDEV, errno.EBUSY, errno.EPERM, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}
STALE_S = 3600.0  # a temporary file or folder that nobody has touched for so long is of a killed process
RESUME_REMEDY = "Free space. The same command goes on."  # for files of a run that can be resumed


@contextmanager
def atomic_write(path: Path, remedy: str | None = None) -> Iterator[Path]:
    """A temporary file to write, which replaces `path` when the block ends, or is deleted when it raises.

    Those of killed processes are deleted, too. Its permissions are those of the umask; safetensors, for one, would
    write for the owner alone.

    Raises:
        G2SError: The disk refuses; with this remedy. Without a remedy the OSError passes.
    """
    with convert_write_errors(path, remedy) if remedy else nullcontext():
        path.parent.mkdir(parents=True, exist_ok=True)
        for stale in path.parent.glob(f".{'[0-9a-f]' * 16}.part"):
            delete_if_stale(stale, Path.unlink)
        temporary = path.parent / f".{secrets.token_hex(8)}.part"
        with clean_up_afterwards(lambda: temporary.unlink(missing_ok=True)):
            temporary.touch(exist_ok=False)
            mode = temporary.stat().st_mode
            yield temporary
            with suppress(OSError):  # file systems without permissions
                temporary.chmod(stat.S_IMODE(mode))
            move_file(temporary, path)


@contextmanager
def clean_up_afterwards(action: Callable[[], object], *, only_if_it_fails: bool = False) -> Iterator[None]:
    """Call an idempotent function when the block ends, or when the process does if a signal interrupts that.

    A signal may also come inside contextlib: then the block itself has no end but that of the process.
    """
    atexit.register(action)
    failed = True
    try:
        yield
        failed = False
    finally:
        if failed or not only_if_it_fails:
            action()
        atexit.unregister(action)


def delete_if_stale(path: Path, delete: Callable[[Path], object]) -> None:
    """Delete a temporary file or folder if it is a killed process's, unless the disk refuses."""
    with suppress(OSError):
        if time.time() - path.stat().st_mtime > STALE_S:
            delete(path)


def move_file(source: Path, target: Path) -> None:
    """Rename a file, or copy it where the file system refuses: across devices, over a mount."""
    try:
        source.replace(target)
    except OSError as error:
        if error.errno not in NOT_RENAMED:
            raise
        is_new = not target.exists()
        try:
            shutil.copyfile(source, target)
        except BaseException:
            if is_new:
                target.unlink(missing_ok=True)
            raise
        source.unlink()


@contextmanager
def convert_write_errors(path: Path, remedy: str) -> Iterator[None]:
    """Raise an OSError of the block as a G2SError about `path`."""
    try:
        yield
    except OSError as error:
        raise G2SError(f"{path} cannot be written: {error.strerror or error}.", os_remedy(error, remedy)) from error


def read_json(path: Path) -> Any:
    """The document in a file. Raises OSError, and ValueError for one that is none or nested too deeply."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def sha256_of(path: Path) -> str:
    """A file's SHA-256, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of_input(path: Path) -> str:
    """The SHA-256 of an image of the user's. Raises ImageError if it cannot be read."""
    try:
        return sha256_of(path)
    except OSError as error:
        raise ImageError(f"{path} cannot be read: {error.strerror or error}.", "Check the path.") from error
