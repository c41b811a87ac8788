"""The authors' release: a gzipped tar in several parts, read as one stream. Only the members asked for touch the disk.

No hash of it is published, so the stream is read to its end, where gzip's own checksum stands.
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
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from g2s_cli.errors import WeightsError
from g2s_cli.weights.cache import require_space
from g2s_cli.weights.catalog import Part, Release
from g2s_cli.weights.download_progress import DownloadProgress

CONNECT_SECONDS = 8.0
ATTEMPTS = 5  # in a row without a byte in between
BACKOFF_SECONDS = 0.5
LONGEST_WAIT_SECONDS = 10.0
BUSY = {408, 425, 429, 500, 502, 503, 504}


class PartStream(io.RawIOBase):
    """The release's parts as one stream of bytes. A cut connection is taken up where it broke off."""

    def __init__(self, release: Release, fetching: DownloadProgress) -> None:
        self._urls = [f"{release.url.rstrip('/')}/{part}" for part in release.parts]
        self._fetching = fetching
        self._answer: Any = None
        self._part, self._position, self._tag = 0, 0, ""
        self._left: int | None = None

    def readable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer. Raises WeightsError when the network or the server will not go on."""
        failures = 0
        while self._part < len(self._urls):
            try:
                if self._answer is None:
                    self._connect()
                piece = self._answer.read(len(buffer))
            except (OSError, http.client.HTTPException) as error:
                failures += 1
                self._drop()
                self._wait_or_give_up(error, failures)
                continue
            if piece:
                buffer[: len(piece)] = piece
                self._position += len(piece)
                self._left = None if self._left is None else self._left - len(piece)
                self._fetching.advance(len(piece))
                return len(piece)
            cut = bool(self._left)
            self._drop()
            if cut:
                failures += 1
                self._wait_or_give_up(ConnectionError("the connection was cut"), failures)
            else:
                self._part, self._position, self._tag = self._part + 1, 0, ""
        return 0

    def close(self) -> None:
        """Hang up."""
        self._drop()
        super().close()

    def _connect(self) -> None:
        url = self._urls[self._part]
        if not url.startswith(("http://", "https://")):
            raise WeightsError(f"{url} is no address of a release.", "It begins with https:// (G2S_RELEASE_URL).")
        request = urllib.request.Request(url)
        if self._position:
            request.add_header("Range", f"bytes={self._position}-")
            if self._tag:
                request.add_header("If-Range", self._tag)
        self._answer = urllib.request.urlopen(request, timeout=CONNECT_SECONDS)
        headers = self._answer.headers
        length = headers.get("Content-Length")
        self._left = int(length) if length else None
        if self._position and self._answer.status != http.HTTPStatus.PARTIAL_CONTENT:
            if self._tag and headers.get("ETag", "") != self._tag:
                raise WeightsError(f"{self._urls[self._part]} changed while it was read.", "Run the command again.")
            self._skip(self._position)
        self._tag = headers.get("ETag", "")

    def _skip(self, count: int) -> None:
        """Read over what is known already: the server does not know ranges."""
        while count > 0 and (piece := self._answer.read(min(count, 1 << 20))):
            count -= len(piece)
            self._left = None if self._left is None else self._left - len(piece)
        if count:
            raise ConnectionError("the connection was cut")

    def _drop(self) -> None:
        if self._answer is not None:
            self._answer.close()
            self._answer = None

    def _wait_or_give_up(self, error: Exception, failures: int) -> None:
        url = self._urls[self._part]
        status = error.code if isinstance(error, urllib.error.HTTPError) else None
        if status is not None and status not in BUSY:
            raise WeightsError(
                f"{url} answers {status} {getattr(error, 'reason', '')}".rstrip() + ".", WAYS_OUT
            ) from error
        never = status is None and self._part == self._position == 0 and isinstance(error, urllib.error.URLError)
        if never or failures >= ATTEMPTS:
            reason = getattr(error, "reason", None) or error
            raise WeightsError(f"{url} cannot be reached: {reason}.", WAYS_OUT) from error
        asked = error.headers.get("Retry-After", "") if isinstance(error, urllib.error.HTTPError) else ""
        wait = float(asked) if asked.isdigit() else BACKOFF_SECONDS * 2 ** (failures - 1)
        time.sleep(min(wait, LONGEST_WAIT_SECONDS))


WAYS_OUT = (
    "Two ways out: a mirror (HF_ENDPOINT or G2S_RELEASE_URL), or a file you have: "
    "g2s weights import FILE --category NAME."
)


@contextmanager
def extract_members(
    release: Release, wanted: Mapping[Part, str], folder: Path, fetching: DownloadProgress
) -> Iterator[dict[Part, Path]]:
    """Temporary files in `folder` with the members wanted of the release; they go when the block ends.

    Raises WeightsError if the release cannot be read whole, lacks a member, or holds one that means harm.
    """
    with ExitStack() as keep:
        found: dict[Part, Path] = {}
        by_name = {name: part for part, name in wanted.items()}
        stream = keep.enter_context(PartStream(release, fetching))
        fetching.begin("the authors' release", None)
        try:
            unpacked = keep.enter_context(gzip.GzipFile(fileobj=io.BufferedReader(stream, 1 << 20)))
            with tarfile.open(fileobj=unpacked, mode="r|") as archive:
                for member in archive:
                    name = _checked(member)
                    if name not in by_name or by_name[name] in found:
                        continue
                    require_space(2 * member.size)  # as it is, and converted
                    temporary = keep.enter_context(_temporary(folder / PurePosixPath(name).name))
                    content = archive.extractfile(member)
                    if content is None:
                        raise WeightsError(f"The release's {name} is no regular file.", WAYS_OUT)
                    with temporary.open("wb") as file:
                        shutil.copyfileobj(content, file, 1 << 20)
                    found[by_name[name]] = temporary
            while unpacked.read(1 << 20):  # to the checksum
                pass
        except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise WeightsError(
                f"What {release.url} sent is damaged: {error}.", "Run the command again, or use another mirror."
            ) from error
        except OSError as error:
            raise WeightsError(
                f"{folder} cannot be written: {error.strerror or error}.", "Free space, or set G2S_CACHE elsewhere."
            ) from error
        if missing := wanted.keys() - found.keys():
            names = ", ".join(sorted(wanted[part] for part in missing))
            raise WeightsError(f"The release at {release.url} has no {names}.", WAYS_OUT)
        yield found


@contextmanager
def _temporary(beside: Path) -> Iterator[Path]:
    """A scratch file with the same suffix as `beside`, for its reader tells kinds by it; gone afterwards."""
    beside.parent.mkdir(parents=True, exist_ok=True)
    scratch = beside.with_name(f".{beside.stem}.raw{beside.suffix}")
    try:
        yield scratch
    finally:
        scratch.unlink(missing_ok=True)


def _checked(member: tarfile.TarInfo) -> str:
    """A member's name. Raises WeightsError if it could leave the folder it is unpacked in."""
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts or not (member.isreg() or member.isdir()):
        raise WeightsError(
            f"The release holds {member.name!r}, which is no plain file inside its folder; nothing was unpacked.",
            "Do not use this mirror.",
        )
    return str(path)
