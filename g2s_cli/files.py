"""Files: written whole or not at all, and told apart by their hashes."""

from __future__ import annotations

import contextlib
import hashlib
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path

from g2s_cli.errors import G2SError, ImageError

RESUME_REMEDY = "Free space. The same command goes on."  # of a file in a folder that a long run works in


@contextlib.contextmanager
def atomic_replace(place: Path) -> Iterator[Path]:
    """A path to write to; it becomes `place` when the block ends well, and is gone if it does not.

    Whoever the umask lets read new files may read it, whatever wrote it: safetensors writes for its owner alone.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    temporary = place.parent / f".{secrets.token_hex(8)}.part"
    temporary.touch(exist_ok=False)
    allowed = temporary.stat().st_mode
    try:
        yield temporary
        temporary.chmod(stat.S_IMODE(allowed))
        temporary.replace(place)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def convert_write_errors(place: Path, remedy: str) -> Iterator[None]:
    """Turn what the system says of a file that cannot be written into a G2SError with this remedy."""
    try:
        yield
    except OSError as error:
        raise G2SError(f"{place} cannot be written: {error.strerror or error}.", remedy) from error


@contextlib.contextmanager
def atomic_write(place: Path, remedy: str) -> Iterator[Path]:
    """As `replacing`; raises G2SError with this remedy where the disk refuses."""
    with convert_write_errors(place, remedy), atomic_replace(place) as temporary:
        yield temporary


def sha256_of(path: Path) -> str:
    """A file's SHA-256, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of_input(path: Path) -> str:
    """The same of a photo or another picture of the user's. Raises ImageError if it cannot be read."""
    try:
        return sha256_of(path)
    except OSError as error:
        raise ImageError(f"{path} cannot be read: {error.strerror or error}.", "Check the path.") from error
