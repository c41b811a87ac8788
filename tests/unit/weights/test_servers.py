"""The tests' own servers: huggingface_hub takes one for the Hub, and both go wrong on demand."""

from __future__ import annotations

import hashlib
import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import HfApi, errors
from servers import TOKEN, Fault, FileServer, HubServer, Repo

NAME = "somebody/shapes"
SMALL, LARGE = "zebra/model.toml", "zebra/gan.safetensors"
FILES = {SMALL: b"name = 'zebra'\n", LARGE: bytes(range(250)) * 40}
CONTENT = bytes(range(200))
Pull = Callable[..., Path]


@pytest.fixture
def pull(hub: HubServer, tmp_path: Path) -> Pull:
    """Download a file as huggingface_hub does, into a cache of the test's own."""
    hub.repos |= {NAME: Repo.of(FILES), "somebody/secret": Repo.of(FILES, gated=True)}

    def pull(file: str, name: str = NAME, token: str | bool = False, **options: object) -> Path:
        path = huggingface_hub.hf_hub_download(name, file, token=token, cache_dir=tmp_path / "cache", **options)
        return Path(path)

    return pull


@pytest.mark.parametrize("file", [SMALL, LARGE])
def test_a_file_is_downloaded_under_its_commit_and_its_hash(file: str, hub: HubServer, pull: Pull) -> None:
    path = pull(file)
    assert path.read_bytes() == FILES[file]
    assert path.parts[-4:-2] == ("snapshots", hub.repos[NAME].revisions["main"])
    git = hashlib.sha1(b"blob %d\0" % len(FILES[file]) + FILES[file])
    assert path.resolve().name == (hashlib.sha256(FILES[file]) if file == LARGE else git).hexdigest()
    assert [entry.method for entry in hub.log] == ["HEAD", "GET"]
    assert hub.log[1].path.startswith("/cdn/" if file == LARGE else f"/{NAME}/resolve/main/")


@pytest.mark.parametrize("share", [0.1, 0.9])
def test_a_cut_download_resumes_with_ranges_or_restarts_without(share: float, hub: HubServer, pull: Pull) -> None:
    hub.faults.append(Fault(LARGE, "cut", share=share))
    assert pull(LARGE).read_bytes() == FILES[LARGE]
    gets = [entry.range for entry in hub.log if entry.method == "GET"]
    assert gets == [None, f"bytes={int(share * len(FILES[LARGE]))}-"]
    hub.faults += [Fault(LARGE, "cut", share=share), Fault(LARGE, "no_ranges")]
    assert pull(LARGE, force_download=True).read_bytes() == FILES[LARGE]
    assert [fault.times for fault in hub.faults] == [0, 0, 0]


def test_wrong_bytes_arrive_and_a_busy_server_is_asked_again(hub: HubServer, pull: Pull) -> None:
    hub.faults += [Fault("/cdn/", "status", status=429, retry_after=0), Fault("/cdn/", "wrong")]
    assert pull(LARGE).read_bytes() == bytes(255 - value for value in FILES[LARGE])  # huggingface_hub does not check
    assert sum(entry.method == "GET" for entry in hub.log) == 2


def test_a_revision_can_be_pinned(hub: HubServer, pull: Pull) -> None:
    pull(SMALL)
    repo = hub.repos[NAME]
    first = repo.revisions["v1"] = repo.revisions["main"]
    repo.commit({SMALL: b"name = 'later'\n"})
    assert [pull(SMALL, revision=revision).read_bytes() for revision in (first, "v1")] == [FILES[SMALL]] * 2
    assert pull(SMALL).read_bytes() == b"name = 'later'\n"


@pytest.mark.parametrize(
    ("arguments", "error", "status"),
    [
        (("zebra/none.toml",), errors.RemoteEntryNotFoundError, 404),
        ((SMALL, "nobody/nothing", False), errors.RepositoryNotFoundError, 401),
        ((SMALL, "nobody/nothing", TOKEN), errors.RepositoryNotFoundError, 404),
        ((LARGE, "somebody/secret", False), errors.GatedRepoError, 401),
        ((SMALL, NAME, "hf_unknown"), errors.HfHubHTTPError, 401),
    ],
)
def test_the_hub_refuses_with_its_own_errors(
    arguments: tuple[str | bool, ...], error: type[errors.HfHubHTTPError], status: int, pull: Pull
) -> None:
    with pytest.raises(error) as refused:
        pull(*arguments)
    assert refused.value.response.status_code == status
    with pytest.raises(errors.RevisionNotFoundError):
        pull(SMALL, revision="v9")
    assert pull(LARGE, "somebody/secret", TOKEN).read_bytes() == FILES[LARGE]


def test_what_is_cached_outlives_a_hub_that_refuses_or_is_gone(hub: HubServer, pull: Pull) -> None:
    path = pull(LARGE)
    hub.faults += [Fault(NAME, "status", status=status) for status in (503, 403)]
    assert pull(LARGE) == path
    with pytest.raises(errors.LocalEntryNotFoundError):
        pull(SMALL)
    hub.stop()
    assert pull(LARGE) == path
    with pytest.raises(errors.LocalEntryNotFoundError):
        pull(SMALL, local_files_only=True)


def test_the_owner_uploads_what_others_download(hub: HubServer, pull: Pull, tmp_path: Path) -> None:
    for name, content in {**FILES, "README.md": b"# Zebra\n", "empty.txt": b""}.items():
        (tmp_path / "folder" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "folder" / name).write_bytes(content)
    api, stranger = HfApi(endpoint=hub.url, token=TOKEN), HfApi(endpoint=hub.url, token=False)
    for _ in range(2):
        assert api.create_repo("tester/new", exist_ok=True).repo_id == "tester/new"
    commits = [api.upload_folder(repo_id="tester/new", folder_path=tmp_path / "folder").oid for _ in range(2)]
    assert commits == [api.model_info("tester/new").sha] * 2  # the second time there was nothing to change
    assert {file: pull(file, "tester/new", revision=commits[0]).read_bytes() for file in FILES} == FILES
    assert hub.repos["tester/new"].commits[commits[0]].keys() == {*FILES, ".gitattributes", "README.md", "empty.txt"}
    for upload in (
        lambda: stranger.create_repo("tester/other"),
        lambda: stranger.upload_folder(repo_id=NAME, folder_path=tmp_path / "folder" / "zebra"),
    ):
        with pytest.raises(errors.HfHubHTTPError, match="401"):
            upload()
    assert list(hub.repos[NAME].commits) == [hub.repos[NAME].revisions["main"]]


@pytest.fixture
def files() -> Iterator[FileServer]:
    with FileServer({"/x00": CONTENT}) as server:
        yield server


def fetch(server: FileServer, path: str = "/x00", **headers: str) -> tuple[int, bytes, http.client.HTTPMessage]:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    with urllib.request.urlopen(urllib.request.Request(server.url + path, headers=names), timeout=5) as answer:
        return answer.status, answer.read(), answer.headers


def test_a_file_is_served_whole_or_from_a_position(files: FileServer) -> None:
    status, body, headers = fetch(files)
    assert (status, body, headers["Content-Length"], headers["Accept-Ranges"]) == (200, CONTENT, "200", "bytes")
    status, body, ranged = fetch(files, Range="bytes=50-", If_Range=headers["ETag"])
    assert (status, body, ranged["Content-Range"]) == (206, CONTENT[50:], "bytes 50-199/200")
    assert files.log == [("GET", "/x00", None), ("GET", "/x00", "bytes=50-")]
    files.files["/x00"] = CONTENT[::-1]
    assert fetch(files, Range="bytes=50-", If_Range=headers["ETag"])[:2] == (200, CONTENT[::-1])
    for path, asked, status in (("/x00", "bytes=200-", "416"), ("/x01", "", "404")):
        with pytest.raises(urllib.error.HTTPError, match=status):
            fetch(files, path, Range=asked)


def test_faults_come_in_their_order(files: FileServer) -> None:
    files.faults += [
        Fault("x00", "cut", share=0.4, times=2),
        Fault("x00", "wrong"),
        Fault("x00", "status", status=429, retry_after=1),
        Fault("x00", "slow", seconds=0.02),
        Fault("x00", "no_ranges"),
        Fault("x01", "cut"),
    ]
    for headers, announced in (({}, CONTENT), ({"Range": "bytes=100-"}, CONTENT[100:])):
        with pytest.raises(http.client.IncompleteRead) as cut:
            fetch(files, **headers)
        sent = int(0.4 * len(announced))
        assert (cut.value.partial, cut.value.expected) == (announced[:sent], len(announced) - sent)
    assert fetch(files)[1] == bytes(255 - value for value in CONTENT)
    with pytest.raises(urllib.error.HTTPError, match="429") as busy:
        fetch(files)
    assert busy.value.headers["Retry-After"] == "1"
    start = time.monotonic()
    assert fetch(files)[1] == CONTENT
    assert time.monotonic() - start >= 0.2
    status, body, answered = fetch(files, Range="bytes=50-")
    assert (status, body, answered["Accept-Ranges"]) == (200, CONTENT, None)
    assert [fault.times for fault in files.faults] == [0, 0, 0, 0, 0, 1]
