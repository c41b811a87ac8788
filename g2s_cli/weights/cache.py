"""Folders of weights on this machine: those embedded in g2s, and the cache of fetched and imported ones.

Each cached file has a record beside it (`<part>.json`: path, SHA-256, source), written last and atomically.
A file without a record does not count.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from g2s_cli.errors import WeightsError
from g2s_cli.files import atomic_write, clean_up_afterwards, read_json, sha256_of

PACKAGE = Path(__file__).resolve().parent.parent
ELSEWHERE = "Free space, or set G2S_CACHE elsewhere."
LOCK_SECONDS = 3600


def models_root() -> Path:
    """The folder of embedded categories: g2s_cli/models in an installed wheel, models/ in a checkout."""
    inside = PACKAGE / "models"
    return inside if inside.is_dir() else PACKAGE.parent / "models"


def cache_root() -> Path:
    """The folder of fetched and imported categories: G2S_CACHE, else `g2s` in HF_HOME.

    Raises:
        WeightsError: Neither is set, and the user has no home folder.
    """
    shared = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    folder = os.environ.get("G2S_CACHE") or f"{os.environ.get('HF_HOME') or f'{shared}/huggingface'}/g2s"
    try:
        return Path(folder).expanduser()
    except RuntimeError as error:  # a user without a name, as in a container
        raise WeightsError(
            "This user has no home folder for weights.", "Set G2S_CACHE to a folder of yours."
        ) from error


def is_in_cache(folder: Path) -> bool:
    """Whether a category's folder is one of the cache."""
    with contextlib.suppress(WeightsError):  # no home folder
        return folder.parent == cache_root()
    return False


@dataclass(frozen=True)
class CachedFile:
    """A file of weights, its SHA-256 ("" if unknown), and a description of its source ("" if embedded)."""

    path: Path
    sha256: str
    source: str


def record_path(category: str, part: str) -> Path:
    """The record of a category's part."""
    return cache_root() / category / f"{part}.json"


def find_cached(category: str, part: str) -> CachedFile | None:
    """The cached file of a category's part, its hash unchecked."""
    try:
        place = record_path(category, part)
        record = read_json(place)
        cached = CachedFile(place.parent / record["path"], record["sha256"], record["source"])
        return cached if cached.path.is_file() else None
    except (OSError, ValueError, KeyError, TypeError, WeightsError):
        return None


def write_record(category: str, part: str, cached: CachedFile) -> None:
    """Write a part's record. A file in the same folder is recorded by its name alone, so that caches can be moved."""
    place, path = record_path(category, part), cached.path.absolute()
    relative = path.name if path.parent == place.parent.absolute() else str(path)
    with atomic_write(place) as temporary:
        temporary.write_text(json.dumps(asdict(cached) | {"path": relative}, indent=2) + "\n")


def delete_cached(category: str, part: str, cached: CachedFile) -> None:
    """Delete a part's record, then its file and, in the Hub's cache, the blob that it links to."""
    record_path(category, part).unlink(missing_ok=True)
    for path in (cached.path.resolve(), cached.path):
        path.unlink(missing_ok=True)


def matches_hash(cached: CachedFile) -> bool:
    """Whether a file exists and has its recorded SHA-256."""
    try:
        return sha256_of(cached.path) == cached.sha256
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def cache_errors() -> Iterator[None]:
    """Turn an OSError of a cache that cannot be written into a WeightsError."""
    try:
        yield
    except (OSError, NotImplementedError) as error:  # the latter is filelock's, on a disk without locks
        reason = getattr(error, "strerror", None) or error
        raise WeightsError(
            f"{cache_root()} cannot be used: {reason}.", "Set G2S_CACHE to a folder of yours."
        ) from error


def deleted_if_it_fails(category: str) -> AbstractContextManager[None]:
    """Delete a new category's folder if the block raises."""
    folder = cache_root() / category
    if folder.exists():
        return nullcontext()
    return clean_up_afterwards(lambda: shutil.rmtree(folder, ignore_errors=True), only_if_it_fails=True)


@contextlib.contextmanager
def replacing_weights(place: Path, remedy: str = ELSEWHERE) -> Iterator[Path]:
    """As `replacing`; raises WeightsError with this remedy for any error while the block writes."""
    try:
        with atomic_write(place) as temporary:
            yield temporary
    except Exception as error:  # safetensors has its own exception for a full disk
        raise WeightsError(f"{place} cannot be written: {error}.", remedy) from error


def store_file(category: str, part: str, place: Path, source: str, write: Callable[[Path], object]) -> CachedFile:
    """Put a part's file into the cache and record it.

    Args:
        place: the file's path in the cache.
        source: where it comes from, for the record.
        write: fills the file at the path that it is called with.

    Raises:
        WeightsError: the disk refuses.
    """
    with lock(category, part):
        with replacing_weights(place) as temporary:
            write(temporary)
            # Before the file is replaced: an interruption in between must not leave it beside the old hash.
            record_path(category, part).unlink(missing_ok=True)
        cached = CachedFile(place, sha256_of(place), source)
        write_record(category, part, cached)
    return cached


@contextlib.contextmanager
def lock(category: str, name: str) -> Iterator[None]:
    """Exclude other g2s processes. Raises WeightsError after an hour's wait.

    The lock of a category that is a path lies in the cache: its folder is the user's.
    """
    place = cache_root() / category / f".{name}.lock"
    if Path(category).is_absolute():
        place = cache_root() / ".locks" / f"{hashlib.sha256(category.encode()).hexdigest()[:16]}-{name}"
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(place, timeout=LOCK_SECONDS):
            yield
    except Timeout as error:
        raise WeightsError(
            f"Another process has held {place} for an hour.", "Stop that process, or delete the file."
        ) from error


def remove_stale(category: str) -> None:
    """Delete temporary files that killed processes left: those that nobody has touched for an hour."""
    for path in (cache_root() / category).glob(".*.part"):
        if time.time() - path.stat().st_mtime > LOCK_SECONDS:
            path.unlink(missing_ok=True)


def require_space(bytes_needed: int) -> None:
    """Raise WeightsError if the cache's disk has less room than this."""
    root = cache_root()
    root.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(root).free
    if free < bytes_needed:
        raise WeightsError(
            f"The disk of {root} has {free / 1e6:.1f} MB free; {bytes_needed / 1e6:.1f} MB are needed.",
            "Free space, or set G2S_CACHE to a folder on another disk.",
        )
