"""The authors' release as one stream: faults, malicious members, and what stays on the disk."""

from __future__ import annotations

import errno
import shutil
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fake_checkpoints import release
from servers import Fault, FileServer

from g2s_cli.config import Release
from g2s_cli.errors import WeightsError
from g2s_cli.weights import release as release_module
from g2s_cli.weights.download_progress import SilentDownload
from g2s_cli.weights.release import extract_members

GAN, VIEWS, UNWANTED = "checkpoints/stylegan2/a.pt", "checkpoints/view_light/v.pth", "checkpoints/other.bin"
CONTENT = {
    GAN: np.random.default_rng(0).bytes(300_000),  # lies across all four parts
    UNWANTED: b"x" * 50_000,
    VIEWS: b"views" * 99,
}
WANTED = {"gan": GAN, "views": VIEWS}


class Counter(SilentDownload):
    def __init__(self) -> None:
        self.count, self.total = 0, None

    def begin(self, _: str, total: int | None) -> None:
        self.total = total

    def advance(self, count: int) -> None:
        self.count += count


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FileServer]:
    monkeypatch.setattr(release_module, "BACKOFF_SECONDS", 0.01)
    monkeypatch.setenv("G2S_CACHE", str(tmp_path / "cache"))
    with FileServer(release(CONTENT)) as running:
        yield running


def fetched(server: FileServer, folder: Path, progress: SilentDownload | None = None) -> dict[str, bytes]:
    found = Release(f"{server.url}/", ("x00", "x01", "x02", "x03"))
    with extract_members(found, WANTED, folder, progress or SilentDownload()) as files:
        assert {path.parent for path in files.values()} == {folder}
        return {WANTED[part]: path.read_bytes() for part, path in files.items()}


def left(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.exists() else []


def test_only_wanted_members_are_written_and_then_deleted(server: FileServer, tmp_path: Path) -> None:
    counter = Counter()
    assert fetched(server, tmp_path / "to", counter) == {GAN: CONTENT[GAN], VIEWS: CONTENT[VIEWS]}
    assert left(tmp_path / "to") == []
    assert counter.count == counter.total == sum(map(len, server.files.values()))
    assert [entry.path for entry in server.log] == ["/x00", "/x01", "/x02", "/x03"]


def test_a_server_that_does_not_tell_sizes_is_read_all_the_same(server: FileServer, tmp_path: Path) -> None:
    original, counter = server.answer, Counter()
    server.answer = lambda request: request.send(405) if request.command == "HEAD" else original(request)
    assert fetched(server, tmp_path / "to", counter)[GAN] == CONTENT[GAN]
    assert counter.total is None


@pytest.mark.parametrize("part", ["x00", "x02", "x03"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_cut_connection_resumes_where_it_broke(server: FileServer, tmp_path: Path, part: str, share: float) -> None:
    server.faults.append(Fault(part, "cut", share=share))
    assert fetched(server, tmp_path / "to")[GAN] == CONTENT[GAN]
    asked = [entry.range for entry in server.log if entry.path == f"/{part}"]
    assert asked == [None, f"bytes={int(share * len(server.files[f'/{part}']))}-"]


def test_a_server_without_ranges_is_read_from_the_start(server: FileServer, tmp_path: Path) -> None:
    server.faults += [Fault("x01", "cut", share=0.7), Fault("x01", "no_ranges")]
    assert fetched(server, tmp_path / "to")[GAN] == CONTENT[GAN]


def test_a_file_that_changes_while_it_is_read_is_refused(server: FileServer, tmp_path: Path) -> None:
    server.faults.append(Fault("x01", "cut", share=0.7))
    original = server.answer

    def swapped(request: object) -> None:
        if request.headers["Range"]:
            server.files["/x01"] = server.files["/x01"][::-1]
        original(request)

    server.answer = swapped
    with pytest.raises(WeightsError, match="x01 changed while it was read"):
        fetched(server, tmp_path / "to")
    assert left(tmp_path / "to") == []


def test_a_connection_that_is_always_cut_is_given_up(server: FileServer, tmp_path: Path) -> None:
    server.faults.append(Fault("x01", "cut", share=0.0, times=99))
    with pytest.raises(WeightsError, match="x01 cannot be reached: the connection was cut"):
        fetched(server, tmp_path / "to")
    assert len([entry for entry in server.log if entry.path == "/x01"]) == release_module.ATTEMPTS
    assert left(tmp_path / "to") == []


@pytest.mark.parametrize("part", ["x00", "x01", "x03"])
def test_wrong_bytes_are_noticed(server: FileServer, tmp_path: Path, part: str) -> None:
    server.faults.append(Fault(part, "wrong"))
    with pytest.raises(WeightsError, match="sent is damaged"):
        fetched(server, tmp_path / "to")
    assert left(tmp_path / "to") == []


def test_a_single_wrong_bit_is_noticed_by_the_checksum(server: FileServer, tmp_path: Path) -> None:
    content = bytearray(server.files["/x01"])
    content[len(content) // 2] ^= 1  # random bytes are stored, not deflated: the stream stays readable
    server.files["/x01"] = bytes(content)
    with pytest.raises(WeightsError, match=r"damaged.*CRC"):
        fetched(server, tmp_path / "to")


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_an_http_error_is_reported_at_once(server: FileServer, tmp_path: Path, status: int) -> None:
    server.faults.append(Fault("x02", "status", status=status, times=9))
    with pytest.raises(WeightsError, match=rf"x02 answers {status} .*g2s weights import FILE"):
        fetched(server, tmp_path / "to")
    assert len([entry for entry in server.log if entry.path == "/x02"]) == 1
    assert left(tmp_path / "to") == []


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_server_is_asked_again(server: FileServer, tmp_path: Path, status: int) -> None:
    server.faults += [
        Fault("x00", "status", status=status, times=2, retry_after=0),
        Fault("x02", "status", status=status),
    ]
    assert fetched(server, tmp_path / "to")[GAN] == CONTENT[GAN]


def test_a_server_that_stays_busy_is_given_up(server: FileServer, tmp_path: Path) -> None:
    server.faults.append(Fault("x00", "status", status=503, times=99))
    with pytest.raises(WeightsError, match="x00 cannot be reached: Service Unavailable"):
        fetched(server, tmp_path / "to")


def test_without_a_network_it_fails_soon_with_two_remedies(tmp_path: Path) -> None:
    start = time.monotonic()
    with (
        pytest.raises(WeightsError, match=r"cannot be reached.*mirror.*G2S_RELEASE_URL.*g2s weights import FILE"),
        extract_members(Release("http://127.0.0.1:9/v1.0", ("x00",)), WANTED, tmp_path / "to", SilentDownload()),
    ):
        pass
    assert time.monotonic() - start < 5
    assert left(tmp_path / "to") == []


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = kind, target
    return entry


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("../../evil", b"x"),
        ("/tmp/evil", b"x"),
        ("checkpoints/../../evil", b"x"),
        (GAN, special(GAN, tarfile.SYMTYPE, "/etc/passwd")),
        ("link", special("link", tarfile.SYMTYPE, "..")),
        ("hard", special("hard", tarfile.LNKTYPE, "/etc/passwd")),
        ("device", special("device", tarfile.CHRTYPE)),
        ("pipe", special("pipe", tarfile.FIFOTYPE)),
    ],
)
def test_malicious_members_are_refused(
    server: FileServer, tmp_path: Path, name: str, content: bytes | tarfile.TarInfo
) -> None:
    server.files = release({name: content} | {key: value for key, value in CONTENT.items() if key != name})
    with pytest.raises(WeightsError, match="no plain file inside its folder; nothing was unpacked"):
        fetched(server, tmp_path / "to")
    assert left(tmp_path / "to") == []
    assert not Path("/tmp/evil").exists()


def test_a_member_that_is_not_there_is_named(server: FileServer, tmp_path: Path) -> None:
    server.files = release({VIEWS: CONTENT[VIEWS]})
    with pytest.raises(WeightsError, match=rf"has no {GAN}"):
        fetched(server, tmp_path / "to")


def test_a_disk_without_room_is_reported_before_writing(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=len(CONTENT[GAN]))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(WeightsError, match=r"has 0\.3 MB free; 0\.6 MB are needed.*G2S_CACHE"):
        fetched(server, tmp_path / "to")
    assert left(tmp_path / "to") == []


def test_a_full_disk_is_reported(server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfileobj", full)
    with pytest.raises(WeightsError, match="cannot be written: No space left on device"):
        fetched(server, tmp_path / "to")
    assert left(tmp_path / "to") == []


def test_an_unknown_http_status_is_reported(server: FileServer, tmp_path: Path) -> None:
    server.faults.append(Fault("x01", "status", status=520, times=99))
    with pytest.raises(WeightsError, match="x01 answers 520"):
        fetched(server, tmp_path / "car")


@pytest.mark.parametrize("url", ["nonsense", "file:///etc"])
def test_only_web_addresses_are_releases(url: str, tmp_path: Path) -> None:
    with (
        pytest.raises(WeightsError, match="is no address of a release"),
        extract_members(Release(url, ("x00",)), WANTED, tmp_path, SilentDownload()),
    ):
        pass
