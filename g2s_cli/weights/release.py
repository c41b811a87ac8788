"""The authors' release: a gzipped tar in several parts, read as one stream.

Only the wanted members are written to disk. No hash of it is published, so the stream is read to its end, where gzip's
own checksum is.
"""

from __future__ import annotations

import gzip
import http.client
import io
import shutil
import tarfile
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from g2s_cli.config import Part, Release
from g2s_cli.errors import WeightsError
from g2s_cli.weights.cache import require_space
from g2s_cli.weights.download_progress import DownloadProgress
from g2s_cli.weights.proxies import MEND_PROXY, Proxy, build_opener

CONNECT_SECONDS = 8.0
ATTEMPTS = 5  # in a row without a byte in between
BACKOFF_SECONDS = 0.5
MAX_WAIT_SECONDS = 10.0
BUSY = {408, 425, 429, 500, 502, 503, 504}
CHUNK_BYTES = 1 << 20
IMPORT = "g2s weights import FILE --category NAME"
WAYS_OUT = f"Name a mirror (G2S_RELEASE_URL), or bring a file you have: {IMPORT}"


@contextmanager
def extract_members(
    release: Release, wanted: Mapping[Part, str], folder: Path, progress: DownloadProgress
) -> Iterator[dict[Part, Path]]:
    """Download members of the release to temporary files in `folder`, which are deleted when the block ends.

    Args:
        wanted: a member's name for each part.

    Raises:
        WeightsError: the release cannot be read whole, lacks a member, or has one that is no plain file.
    """
    with ExitStack() as stack:
        files: dict[Part, Path] = {}
        parts = {member: part for part, member in wanted.items()}
        urls = _part_urls(release)
        progress.begin("the authors' release", _announced_bytes(urls))
        pieces = stack.enter_context(closing(_download(urls, progress)))
        stream = io.BufferedReader(_ReadablePieces(pieces), CHUNK_BYTES)
        try:
            unpacked = stack.enter_context(gzip.GzipFile(fileobj=stream))
            with tarfile.open(fileobj=unpacked, mode="r|") as archive:
                for member in archive:
                    part = parts.get(_checked_name(member))
                    if part is None or part in files:
                        continue
                    require_space(2 * member.size)  # for the member and its conversion
                    content = archive.extractfile(member)
                    if content is None:
                        raise WeightsError(f"The release's {member.name} is no regular file.", WAYS_OUT)
                    files[part] = stack.enter_context(_temporary(folder, PurePosixPath(member.name)))
                    with files[part].open("wb") as file:
                        shutil.copyfileobj(content, file, CHUNK_BYTES)
            while unpacked.read(CHUNK_BYTES):  # to the checksum
                pass
        except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise WeightsError(
                f"What {release.url} sent is damaged: {error}.", "Run the command again, or use another mirror."
            ) from error
        except OSError as error:
            raise WeightsError(
                f"{folder} cannot be written: {error.strerror or error}.", "Free space, or set G2S_CACHE elsewhere."
            ) from error
        if missing := wanted.keys() - files.keys():
            names = ", ".join(sorted(wanted[part] for part in missing))
            raise WeightsError(f"The release at {release.url} has no {names}.", WAYS_OUT)
        yield files


@contextmanager
def _temporary(folder: Path, member: PurePosixPath) -> Iterator[Path]:
    """A temporary file with a member's suffix, by which its format is recognised."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f".{member.stem}.raw{member.suffix}"
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def _checked_name(member: tarfile.TarInfo) -> str:
    """A member's name. Raises WeightsError if it could be written outside its folder."""
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts or not (member.isreg() or member.isdir()):
        raise WeightsError(
            f"The release holds {member.name!r}, which is no plain file inside its folder; nothing was unpacked.",
            "Do not use this mirror.",
        )
    return str(path)


class _ReadablePieces(io.RawIOBase):
    """Pieces of bytes as one file."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces, self._rest = pieces, b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._rest = self._rest or next(self._pieces, b"")
        count = min(len(buffer), len(self._rest))
        buffer[:count], self._rest = self._rest[:count], self._rest[count:]
        return count


def _part_urls(release: Release) -> list[str]:
    """Addresses of the release's parts. Raises WeightsError."""
    urls = [f"{release.url.rstrip('/')}/{part}" for part in release.parts]
    for url in urls:
        if not url.startswith(("http://", "https://")):
            raise WeightsError(f"{url} is no address of a release.", "It begins with https:// (G2S_RELEASE_URL).")
    return urls


def _announced_bytes(urls: Sequence[str]) -> int | None:
    """Size of files in bytes, as their server announces it; None if it does not, or cannot be reached."""
    total = 0
    for url in urls:
        try:
            with build_opener(url).open(urllib.request.Request(url, method="HEAD"), timeout=CONNECT_SECONDS) as answer:
                total += int(answer.headers["Content-Length"])
        except (OSError, ValueError, TypeError, http.client.HTTPException):
            return None
    return total


def _download(urls: Sequence[str], progress: DownloadProgress) -> Generator[bytes]:
    """The bytes of the release's parts, one part after the other. Raises WeightsError."""
    for index, url in enumerate(urls):
        for piece in _download_part(url, first=index == 0):
            progress.advance(len(piece))
            yield piece


def _download_part(url: str, *, first: bool) -> Iterator[bytes]:
    """The bytes of a file; a cut connection is resumed where it broke.

    Args:
        first: whether nothing has been downloaded yet: then an unreachable server is not asked again.
    """
    position, etag, failures = 0, "", 0
    while True:
        try:
            with _open(url, position, etag) as answer:
                etag = answer.headers.get("ETag", "")
                while piece := answer.read(CHUNK_BYTES):
                    position, failures = position + len(piece), 0
                    yield piece
                if not answer.length:  # of what is announced and has not come
                    return
                raise ConnectionError("the connection was cut")
        except (OSError, ValueError, http.client.HTTPException) as error:
            failures += 1
            _wait_or_give_up(url, error, failures, unreachable=first and position == 0)


def _open(url: str, position: int, etag: str) -> Any:
    """The answer of a server, from a position on. Raises WeightsError if the file is not the one of this ETag."""
    headers = {"Range": f"bytes={position}-"} if position else {}
    request = urllib.request.Request(url, headers=headers | ({"If-Range": etag} if position and etag else {}))
    answer = build_opener(url).open(request, timeout=CONNECT_SECONDS)
    if position and answer.status != http.HTTPStatus.PARTIAL_CONTENT:  # the whole file
        if etag and answer.headers.get("ETag", "") != etag:
            raise WeightsError(f"{url} changed while it was read.", "Run the command again.")
        while position and (piece := answer.read(min(position, CHUNK_BYTES))):
            position -= len(piece)
        if position:
            raise ConnectionError("the connection was cut")
    return answer


def _wait_or_give_up(url: str, error: Exception, failures: int, *, unreachable: bool) -> None:
    status = error.code if isinstance(error, urllib.error.HTTPError) else None
    if status is not None and status not in BUSY:
        raise WeightsError(f"{url} answers {status} {getattr(error, 'reason', '')}".rstrip() + ".", WAYS_OUT) from error
    unreachable = unreachable and status is None and isinstance(error, urllib.error.URLError)
    if failures >= ATTEMPTS or unreachable or isinstance(error, (ValueError, http.client.InvalidURL)):
        reason = getattr(error, "reason", None) or error
        if (proxy := Proxy.of(url)) and (fault := proxy.fault()):
            raise WeightsError(f"{url}: {proxy} cannot be reached: {fault}.", MEND_PROXY) from error
        through = f" through {proxy}" if proxy else ""
        raise WeightsError(f"{url} cannot be reached{through}: {reason}.", WAYS_OUT) from error
    after = error.headers.get("Retry-After", "") if isinstance(error, urllib.error.HTTPError) else ""
    time.sleep(min(float(after) if after.isdigit() else BACKOFF_SECONDS * 2 ** (failures - 1), MAX_WAIT_SECONDS))
