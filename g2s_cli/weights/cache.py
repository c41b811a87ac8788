"""Where weights lie on this machine: those that came with g2s, and those that were fetched into its cache.

A cached file has a sidecar beside it that says its SHA-256 and where it came from. The sidecar is written last and in
one move: a file without one is not there.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from g2s_cli.errors import WeightsError
from g2s_cli.files import replacing, sha256_of

PACKAGE = Path(__file__).resolve().parent.parent
ELSEWHERE = "Free space, or set G2S_CACHE elsewhere."  # of a file in the cache that the disk refuses
LOCK_SECONDS = 3600  # how long to wait for another process that fetches the same file


def models_root() -> Path:
    """The folder of categories: g2s_cli/models in an installed wheel, models/ beside the package in a checkout."""
    inside = PACKAGE / "models"
    return inside if inside.is_dir() else PACKAGE.parent / "models"


def cache_root() -> Path:
    """Where fetched and imported weights are kept: G2S_CACHE, else `g2s` in HF_HOME."""
    if asked := os.environ.get("G2S_CACHE"):
        return Path(asked).expanduser()
    shared = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.environ.get("HF_HOME") or f"{shared}/huggingface").expanduser() / "g2s"


@dataclass(frozen=True)
class CachedFile:
    """A cached file: where it is, its SHA-256, and in words where it came from."""

    path: Path
    sha256: str
    source: str


def record_path(category: str, part: str) -> Path:
    """The file that says whether and where a part is cached."""
    return cache_root() / category / f"{part}.json"


def find_cached(category: str, part: str) -> CachedFile | None:
    """What the cache has of a category's part, unchecked; None if it has nothing."""
    try:
        facts = json.loads(record_path(category, part).read_text())
        stored = CachedFile(record_path(category, part).parent / facts["path"], facts["sha256"], facts["source"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return stored if stored.path.is_file() else None


def write_record(category: str, part: str, stored: CachedFile) -> None:
    """Write a part's sidecar, in one move. What lies beside it is named without its folder: caches get moved."""
    place, path = record_path(category, part), stored.path.absolute()
    said = path.name if path.parent == place.parent.absolute() else str(path)
    with replacing(place) as temporary:
        temporary.write_text(json.dumps(asdict(stored) | {"path": said}, indent=2) + "\n")


def delete_cached(category: str, part: str, stored: CachedFile) -> None:
    """Remove a cached part: its sidecar first, then the file and, in the Hub's cache, what its link points to."""
    record_path(category, part).unlink(missing_ok=True)
    for path in (stored.path.resolve(), stored.path):
        path.unlink(missing_ok=True)


def matches_hash(stored: CachedFile) -> bool:
    """Whether a cached file is there and has the SHA-256 that its sidecar says."""
    try:
        return sha256_of(stored.path) == stored.sha256
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def cache_errors() -> Iterator[None]:
    """Turn what the system says of a cache that cannot be written into a WeightsError."""
    try:
        yield
    except OSError as error:
        raise WeightsError(
            f"{cache_root()} cannot be used: {error.strerror or error}.", "Set G2S_CACHE to a folder of yours."
        ) from error


@contextlib.contextmanager
def replacing_weights(place: Path, remedy: str = ELSEWHERE) -> Iterator[Path]:
    """As `replacing`; raises WeightsError with this remedy for whatever goes wrong while the block writes."""
    try:
        with replacing(place) as temporary:
            yield temporary
    except Exception as error:  # safetensors has an error of its own for a full disk
        raise WeightsError(f"{place} cannot be written: {error}.", remedy) from error


def store_file(category: str, part: str, place: Path, words: str, write: Callable[[Path], object]) -> CachedFile:
    """Put a part's file into the cache and remember where it came from.

    place: where it goes. words: where it comes from. write: fills the file that it is given the path of. Raises
    WeightsError if the disk refuses.
    """
    with lock(category, part):
        with replacing_weights(place) as temporary:
            write(temporary)
            # Without its sidecar first: whoever is stopped in between must not find the new file under the old hash.
            record_path(category, part).unlink(missing_ok=True)
        stored = CachedFile(place, sha256_of(place), words)
        write_record(category, part, stored)
    return stored


@contextlib.contextmanager
def lock(category: str, what: str) -> Iterator[None]:
    """Keep other g2s processes from fetching the same thing; raises WeightsError after an hour's wait."""
    place = cache_root() / category / f".{what}.lock"
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(place, timeout=LOCK_SECONDS):
            yield
    except Timeout as error:
        raise WeightsError(
            f"Another process has held {place} for an hour.", "Stop that process, or delete the file."
        ) from error


def remove_stale(category: str) -> None:
    """Remove what killed processes left half written: scratch files that nobody has touched for an hour."""
    for path in (cache_root() / category).glob(".*.part"):
        if time.time() - path.stat().st_mtime > LOCK_SECONDS:
            path.unlink(missing_ok=True)


def require_space(bytes_needed: int, folder: Path | None = None, variable: str = "G2S_CACHE") -> None:
    """Raise WeightsError if the disk of a folder, the cache if none is named, has less room than this."""
    root = folder or cache_root()
    root.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(root).free
    if free < bytes_needed:
        raise WeightsError(
            f"The disk of {root} has {in_megabytes(free)} free; {in_megabytes(bytes_needed)} are needed.",
            f"Free space, or set {variable} to a folder on another disk.",
        )


def in_megabytes(count: int) -> str:
    """Bytes in words."""
    return f"{count / 1e6:.1f} MB"
