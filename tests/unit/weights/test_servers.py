"""The tests' own servers: huggingface_hub takes one for the Hub, and both go wrong as ordered."""

from __future__ import annotations

import hashlib
import http.client
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import HfApi, constants, errors
from servers import STRANGER, TOKEN, Fault, FileServer, HubServer, Repo

NAME = "somebody/shapes"
SMALL, LARGE = "zebra/model.toml", "zebra/gan.safetensors"
FILES = {SMALL: b"name = 'zebra'\n", LARGE: bytes(range(250)) * 40}
Pull = Callable[..., Path]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    # huggingface_hub loses what it has of a chunk when the connection is cut; its chunks are 10 MiB.
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1000)
    with HubServer({NAME: Repo.of(FILES), "somebody/secret": Repo.of(FILES, gated=True)}) as server:
        # What HF_ENDPOINT does, had it been set before the import: not one request leaves this machine.
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", f"{server.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        )
        yield server


@pytest.fixture
def pull(hub: HubServer, tmp_path: Path) -> Pull:
    """Download a file as huggingface_hub does, into a cache of the test's own."""

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


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("file", [LARGE])
def test_a_cut_download_goes_on_where_it_broke_off(share: float, file: str, hub: HubServer, pull: Pull) -> None:
    hub.faults.append(Fault(file, "cut", share=share))
    assert pull(file).read_bytes() == FILES[file]
    gets = [entry.range for entry in hub.log if entry.method == "GET"]
    assert gets == [None, f"bytes={int(share * len(FILES[file]))}-"]
    assert hub.faults[0].times == 0


def test_a_hub_that_forgets_ranges_is_read_from_the_start(hub: HubServer, pull: Pull) -> None:
    hub.faults += [Fault(LARGE, "cut"), Fault(LARGE, "no_ranges")]
    assert pull(LARGE).read_bytes() == FILES[LARGE]
    assert [fault.times for fault in hub.faults] == [0, 0]


def test_wrong_bytes_arrive_and_busy_answers_are_asked_again(hub: HubServer, pull: Pull) -> None:
    hub.faults += [Fault("/cdn/", "status", status=429, retry_after=0), Fault("/cdn/", "wrong")]
    path = pull(LARGE)
    assert path.stat().st_size == len(FILES[LARGE])
    assert path.read_bytes() != FILES[LARGE]  # huggingface_hub does not look
    assert sum(entry.method == "GET" for entry in hub.log) == 2


def test_a_revision_can_be_pinned(hub: HubServer, pull: Pull) -> None:
    repo = hub.repos[NAME]
    first = repo.revisions["v1"] = repo.revisions["main"]
    repo.commit({SMALL: b"name = 'later'\n"})
    assert [pull(SMALL, revision=revision).read_bytes() for revision in (first, "v1")] == [FILES[SMALL]] * 2
    assert pull(SMALL).read_bytes() == b"name = 'later'\n"


def test_what_is_not_there_is_said_as_the_hub_does(hub: HubServer, pull: Pull) -> None:
    with pytest.raises(errors.RemoteEntryNotFoundError):
        pull("zebra/none.toml")
    with pytest.raises(errors.RevisionNotFoundError):
        pull(SMALL, revision="v9")
    for token, status in ((False, 401), (TOKEN, 404)):
        with pytest.raises(errors.RepositoryNotFoundError) as missing:
            pull(SMALL, "nobody/nothing", token)
        assert missing.value.response.status_code == status


def test_a_gated_repository_is_for_those_with_access(hub: HubServer, pull: Pull) -> None:
    for token, status in ((False, 401), (STRANGER, 403)):
        with pytest.raises(errors.GatedRepoError) as gated:
            pull(LARGE, "somebody/secret", token)
        assert gated.value.response.status_code == status
    assert pull(LARGE, "somebody/secret", TOKEN).read_bytes() == FILES[LARGE]
    with pytest.raises(errors.HfHubHTTPError, match="Invalid credentials"):
        pull(SMALL, token="hf_unknown")


def test_a_hub_that_refuses_or_is_gone_leaves_the_cache(hub: HubServer, pull: Pull) -> None:
    path = pull(LARGE)
    hub.faults += [Fault(NAME, "status", status=status) for status in (503, 403)]
    assert pull(LARGE) == path
    with pytest.raises(errors.LocalEntryNotFoundError):
        pull(SMALL)
    asked = len(hub.log)
    hub.stop()
    assert pull(LARGE) == path
    with pytest.raises(errors.LocalEntryNotFoundError):
        pull(SMALL, local_files_only=True)
    assert len(hub.log) == asked


def test_another_process_is_led_here_by_its_environment(hub: HubServer, tmp_path: Path) -> None:
    def run(file: str, **env: str) -> subprocess.CompletedProcess[str]:
        program = f"import huggingface_hub as h; print(h.hf_hub_download({NAME!r}, {file!r}, token=False))"
        env = os.environ | {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path)} | env
        return subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, check=False)

    for offline in ("0", "1"):
        assert Path(run(LARGE, HF_HUB_OFFLINE=offline).stdout.strip()).read_bytes() == FILES[LARGE]
    assert "LocalEntryNotFoundError" in run(SMALL, HF_HUB_OFFLINE="1").stderr
    assert [entry.method for entry in hub.log] == ["HEAD", "GET"]


def test_what_is_uploaded_can_be_downloaded(hub: HubServer, pull: Pull, tmp_path: Path) -> None:
    for name, content in {**FILES, "README.md": b"# Zebra\n", "empty.txt": b""}.items():
        (tmp_path / "folder" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "folder" / name).write_bytes(content)
    api = HfApi(endpoint=hub.url, token=TOKEN)
    assert api.whoami()["name"] == "tester"
    for _ in range(2):
        assert api.create_repo("tester/new", exist_ok=True).repo_id == "tester/new"
    commits = [api.upload_folder(repo_id="tester/new", folder_path=tmp_path / "folder").oid for _ in range(2)]
    assert commits == [api.model_info("tester/new").sha] * 2  # the second time there was nothing to change
    assert pull(LARGE, "tester/new", revision=commits[0]).read_bytes() == FILES[LARGE]
    assert sorted(api.list_repo_files("tester/new")) == sorted([*FILES, ".gitattributes", "README.md", "empty.txt"])
    links = {file.path: file.lfs for file in api.list_repo_tree("tester/new", recursive=True)}
    assert links[LARGE].sha256 == hashlib.sha256(FILES[LARGE]).hexdigest()
    assert links[SMALL] is None
    snapshot = Path(api.snapshot_download("tester/new", cache_dir=tmp_path / "another"))
    assert {name: (snapshot / name).read_bytes() for name in FILES} == FILES
    api.delete_file(SMALL, "tester/new")
    assert SMALL not in api.list_repo_files("tester/new")


@pytest.mark.parametrize(("token", "status"), [(False, 401), (STRANGER, 403)])
def test_only_the_owner_writes(token: str | bool, status: int, hub: HubServer, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    api = HfApi(endpoint=hub.url, token=token)
    for try_call in (
        lambda: api.create_repo("tester/new"),
        lambda: api.upload_folder(repo_id=NAME, folder_path=tmp_path),
    ):
        with pytest.raises(errors.HfHubHTTPError) as refused:
            try_call()
        assert refused.value.response.status_code == status
    assert list(hub.repos[NAME].commits) == [hub.repos[NAME].revisions["main"]]


CONTENT = bytes(range(200))


@pytest.fixture
def files() -> Iterator[FileServer]:
    with FileServer({"/x00": CONTENT}) as server:
        yield server


def fetch(server: FileServer, path: str = "/x00", **headers: str) -> tuple[int, bytes, http.client.HTTPMessage]:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    with urllib.request.urlopen(urllib.request.Request(server.url + path, headers=names), timeout=5) as answer:
        return answer.status, answer.read(), answer.headers


@pytest.mark.parametrize(
    ("asked", "expected", "content_range"),
    [
        ("bytes=50-", CONTENT[50:], "bytes 50-199/200"),
        ("bytes=50-59", CONTENT[50:60], "bytes 50-59/200"),
        ("bytes=150-999", CONTENT[150:], "bytes 150-199/200"),
        ("bytes=-20", CONTENT[-20:], "bytes 180-199/200"),
    ],
)
def test_ranges_are_served(asked: str, expected: bytes, content_range: str, files: FileServer) -> None:
    status, body, headers = fetch(files, Range=asked)
    assert (status, body, headers["Content-Range"]) == (206, expected, content_range)
    assert files.log == [("GET", "/x00", asked)]


def test_a_range_beyond_the_end_and_a_missing_file_are_refused(files: FileServer) -> None:
    with pytest.raises(urllib.error.HTTPError, match="416") as beyond:
        fetch(files, Range="bytes=200-")
    assert beyond.value.headers["Content-Range"] == "bytes */200"
    with pytest.raises(urllib.error.HTTPError, match="404"):
        fetch(files, "/x01")


def test_a_range_of_a_file_that_changed_is_all_of_it(files: FileServer) -> None:
    status, body, headers = fetch(files)
    assert (status, body, headers["Content-Length"], headers["Accept-Ranges"]) == (200, CONTENT, "200", "bytes")
    assert fetch(files, Range="bytes=50-", If_Range=headers["ETag"])[0] == 206
    files.files["/x00"] = CONTENT[::-1]
    assert fetch(files, Range="bytes=50-", If_Range=headers["ETag"])[:2] == (200, CONTENT[::-1])


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_cut_answer_announces_all_and_sends_a_share(share: float, files: FileServer) -> None:
    files.faults.append(Fault("x00", "cut", share=share, times=2))
    with pytest.raises(http.client.IncompleteRead) as crop_photo:
        fetch(files)
    assert crop_photo.value.partial == CONTENT[: int(share * 200)]
    assert crop_photo.value.expected == 200 - len(crop_photo.value.partial)
    with pytest.raises(http.client.IncompleteRead) as crop_photo:
        fetch(files, Range="bytes=100-")
    assert crop_photo.value.partial == CONTENT[100 : 100 + int(share * 100)]
    assert fetch(files)[1] == CONTENT


def test_other_faults_come_in_their_order(files: FileServer) -> None:
    files.faults += [
        Fault("x00", "wrong"),
        Fault("x00", "status", status=429, retry_after=1),
        Fault("x00", "slow", seconds=0.02),
        Fault("x00", "no_ranges"),
        Fault("x01", "cut"),
    ]
    assert fetch(files)[1] == bytes(255 - value for value in CONTENT)
    with pytest.raises(urllib.error.HTTPError, match="429") as busy:
        fetch(files)
    assert busy.value.headers["Retry-After"] == "1"
    start = time.monotonic()
    assert fetch(files)[1] == CONTENT
    assert time.monotonic() - start >= 0.2
    status, body, headers = fetch(files, Range="bytes=50-")
    assert (status, body, headers["Accept-Ranges"]) == (200, CONTENT, None)
    assert [fault.times for fault in files.faults] == [0, 0, 0, 0, 1]
