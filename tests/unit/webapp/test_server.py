"""The web app's server: what it serves, what it refuses, and what its page sends."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from g2s_cli.errors import ImageError, UsageError
from g2s_cli.machine import Machine
from g2s_cli.webapp.jobs import JobProgress, Jobs

pytestmark = pytest.mark.skipif(find_spec("gradio") is None, reason="Gradio is not installed")
MAX_BYTES = 1_000_000


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("app")


@pytest.fixture(scope="module")
def app(root: Path) -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(root / "uploads"))
        patch.setenv("GRADIO_ANALYTICS_ENABLED", "False")
        from g2s_cli.webapp.page import App
        from g2s_cli.webapp.studio import PhotoLimits, Studio

        with Jobs(root / "jobs", max_jobs=2) as jobs:
            yield App(jobs, Studio(Machine.named("cpu")), PhotoLimits(1.0, MAX_BYTES, root / "uploads"))


@pytest.fixture(scope="module")
def client(app: Any, root: Path) -> Iterator[Any]:
    from starlette.testclient import TestClient

    from g2s_cli.webapp.page import AppDefaults
    from g2s_cli.webapp.server import build_server

    server = build_server(app, AppDefaults("synface", "instant"), "127.0.0.1", root / "uploads")
    with TestClient(server, base_url="http://127.0.0.1") as client:
        yield client


@pytest.fixture
def uploads(root: Path) -> Iterator[Path]:
    """A folder of one upload."""
    folder = root / "uploads" / "one"
    folder.mkdir(parents=True)
    yield folder
    shutil.rmtree(folder)


def write(folder: Path, progress: JobProgress) -> None:
    for name in ("view.html", "mesh.glb", "report.json"):
        (folder / name).write_text(name)


@pytest.fixture(scope="module")
def job(app: Any) -> Any:
    job = app.jobs.submit(write)
    list(app.jobs.watch(job))
    return job


def test_results_are_served_by_name_and_their_page_is_sandboxed(client: Any, job: Any) -> None:
    mesh = client.get(f"/jobs/{job.name}/mesh.glb")
    assert (mesh.status_code, mesh.text) == (200, "mesh.glb")
    policy = client.get(f"/jobs/{job.name}/view.html").headers["content-security-policy"]
    assert policy.startswith("sandbox allow-scripts")
    assert "allow-same-origin" not in policy
    assert client.get(f"/jobs/{job.name}/report.json").status_code == 404  # it names paths of this machine


@pytest.mark.parametrize(
    "path",
    [
        "jobs/{job}/../../secret",
        "jobs/{job}/..%2f..%2fsecret",
        "jobs/{job}/%2e%2e%2f%2e%2e%2fsecret",
        "jobs/..%2f/secret",
        "jobs/%2e%2e/secret",
        "jobs/{job}/{root}/secret",
        "jobs/{job}/%2fetc%2fpasswd",
        "jobs/{job}/mesh.stl",  # a link to the secret
        "gradio_api/file={root}/secret",
        "gradio_api/file=%2Fetc%2Fpasswd",
        "gradio_api/file=/etc/passwd",
        "gradio_api/file/etc/passwd",
        "gradio_api/file={root}/uploads/../secret",
        "gradio_api/file={root}/uploads/%2e%2e/secret",
        "gradio_api/file={root}/uploads/link.png",
        "gradio_api/file={root}/jobs/{job}/report.json",
        "gradio_api/file=http://127.0.0.1/",
        "gradio_api/proxy=http://127.0.0.1/",
        "gradio_api/file=pyproject.toml",
        "gradio_api/file=",
        "static/../../secret",
        "assets/..%2f..%2f..%2f__init__.py",
        "theme.css/../secret",
    ],
)
def test_no_other_file_is_served(client: Any, job: Any, root: Path, path: str) -> None:
    (root / "secret").write_text("secret")
    (root / "uploads").mkdir(exist_ok=True)
    for link in (root / "uploads" / "link.png", job.folder / "mesh.stl"):
        link.unlink(missing_ok=True)
        link.symlink_to(root / "secret")
    answer = client.get("/" + path.format(job=job.name, root=root))
    assert answer.status_code in (400, 403, 404, 405), answer.text[:100]
    assert "secret" not in answer.text.replace("/secret", "")
    assert "root:" not in answer.text


def test_an_upload_is_served_and_a_large_one_refused(client: Any, root: Path, tmp_path: Path) -> None:
    Image.new("RGB", (64, 64)).save(tmp_path / "fine.png")
    with (tmp_path / "fine.png").open("rb") as file:
        answer = client.post("/gradio_api/upload", files={"files": ("fine.png", file, "image/png")})
    [path] = answer.json()
    assert Path(path).is_relative_to(root / "uploads")
    assert client.get(f"/gradio_api/file={path}").content == (tmp_path / "fine.png").read_bytes()
    large = {"files": ("large.jpg", b"x" * (MAX_BYTES + 1), "image/jpeg")}
    answer = client.post("/gradio_api/upload", files=large)
    assert answer.status_code == 413
    assert not any(path.stat().st_size > MAX_BYTES for path in (root / "uploads").rglob("*") if path.is_file())


def test_another_host_name_is_refused(client: Any) -> None:
    assert client.get("/", headers={"Host": "evil.example"}).status_code == 400


def test_the_page_sends_nothing_to_others(client: Any) -> None:
    config = client.get("/config").json()
    assert config["analytics_enabled"] is False
    assert not config.get("run_history")
    assert config["stylesheets"] == []  # of fonts
    assert not re.search(r"@import|url\([\"']?http", client.get("/theme.css").text)


def test_events_answer_with_sentences(app: Any, uploads: Path) -> None:
    for photo, sentence in [
        (None, "There is no photo yet."),
        (uploads / "text.png", "text.png is not an image that g2s can read."),
        (uploads / "large.png", "large.png is 50 MB; this server takes up to 1."),
    ]:
        (uploads / "text.png").write_text("<b>text</b>")
        with (uploads / "large.png").open("wb") as file:
            file.truncate(50_000_000)
        *_, (status, _, viewer, _, name) = app.reconstruct(photo and str(photo), "synface", "instant", None)
        assert sentence in status
        assert str(uploads) not in status
        assert (viewer, name) == ("", None)
    assert "deleted" in list(app.film("nothing"))[-1]


def test_a_remedy_that_names_an_option_is_one_of_the_command_line() -> None:
    from g2s_cli.webapp.page import error_html

    assert "no face. On the command line: Use --crop." in error_html(ImageError("no face.", "Use --crop."))
    assert "no face. Use another." in error_html(ImageError("no face.", "Use another."))


def test_equal_presets_are_one_choice() -> None:
    from g2s_cli.webapp.page import presets_of

    assert presets_of("portrait", "fast") == ["fast", "paper", "ellipsoid"]
    assert presets_of("portrait", "instant") == ["instant", "paper", "ellipsoid"]
    assert presets_of("synface", "fast") == ["instant", "fast", "paper", "ellipsoid"]


def test_no_file_or_address_is_copied_to_the_uploads(app: Any, uploads: Path, tmp_path: Path) -> None:
    from gradio.processing_utils import async_move_files_to_cache

    from g2s_cli.webapp.page import AppDefaults, build_page

    page = build_page(app, AppDefaults("synface", "instant"))
    [photo] = [block for block in page.blocks.values() if getattr(block, "label", "") == "Photo"]
    (tmp_path / "secret.png").write_text("secret")
    for path in (str(tmp_path / "secret.png"), "http://127.0.0.1:1/secret.png"):
        payload = {"path": path, "meta": {"_type": "gradio.FileData"}}
        moved = asyncio.run(async_move_files_to_cache(payload, photo, check_in_upload_folder=True))
        assert moved["path"] == path
    assert not [*uploads.parent.rglob("secret*")]


def test_a_photo_is_an_upload(app: Any, uploads: Path, tmp_path: Path) -> None:
    """A page may name any path of the disk."""
    Image.new("RGB", (64, 64), "red").save(photo := tmp_path / "photo.png")
    (uploads / "link.png").symlink_to(photo)
    for path in (photo, uploads / "link.png", uploads / "../../secret", Path("/etc/passwd"), Path("pyproject.toml")):
        *_, (status, *_) = app.reconstruct(str(path), "synface", "instant", None)
        assert f"{path.name} is no upload." in status
        assert "is no upload." in app.inspect(str(path), "synface")[-1]


def test_a_full_server_answers_at_once_and_then_goes_on(app: Any, uploads: Path) -> None:
    from threading import Event

    event = Event()
    jobs = [app.jobs.submit(lambda *_: event.wait(30)) for _ in range(2)]
    Image.new("RGB", (64, 64), "red").save(photo := uploads / "photo.png")
    for _ in range(10):
        *_, (status, *_) = app.reconstruct(str(photo), "synface", "instant", None)
        assert "works on 2 photos already" in status
    event.set()
    for job in jobs:
        job.future.result()
    *_, (status, *_) = app.reconstruct(str(photo), "synface", "instant", None)
    assert "shows nothing" in status or "no face" in status  # the photo is read now


def test_names_are_text_not_markup(app: Any, job: Any) -> None:
    from g2s_cli.webapp.page import error_html, state_html, viewer_html

    progress = JobProgress()
    progress.begin("<i>", 1)
    progress.note("<script>")
    html = state_html(progress.state) + error_html(UsageError("<img>")) + viewer_html(job, '"><b>')
    assert not re.search("<i>|<script>|<img>|<b>", html)


def test_a_port_in_use_is_named() -> None:
    from g2s_cli.webapp.server import listen

    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=rf"127.0.0.1:{port} .*--port"):
            listen("127.0.0.1", port)
