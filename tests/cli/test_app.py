"""g2s app: from a photo to a mesh, in a browser."""

from __future__ import annotations

import json
import signal
import socket
import urllib.request
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from chromium import BROWSER, Page
from installed import Command

from g2s_cli.commands import app as module
from g2s_cli.errors import G2SError

PORTRAIT = Path(__file__).parents[1] / "data" / "portrait.jpg"
SIZES = [(1200, 900), (390, 844)]
MAX_JOBS = 8  # by default
needs_gradio = pytest.mark.skipif(find_spec("gradio") is None, reason="Gradio is not installed")


def test_without_gradio_the_remedy_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda _: None)
    with pytest.raises(G2SError, match=r"Gradio, which is not installed. pip install 'g2s-cli\[app\]'"):
        module.app(category="synface", preset="fast")


@needs_gradio
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--category", "syn"], "There is no category 'syn'"),
        (["--preset", "slow"], "slow"),
        (["--port", "70000"], "--port"),
        (["--max-jobs", "0"], "--max-jobs"),
    ],
)
def test_wrong_arguments_are_refused_before_it_serves(g2s: Command, arguments: list[str], message: str) -> None:
    assert message in g2s.fails(2, "app", *arguments)


@pytest.fixture
def temporary(tmp_path: Path) -> Path:
    (tmp_path / "tmp").mkdir()
    return tmp_path / "tmp"


@pytest.fixture
def address(start: Callable, temporary: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of an app, which is then ended by Ctrl-C or another signal and leaves nothing behind.

    A request still waits then, as of an open tab.
    """
    number, options = getattr(request, "param", (signal.SIGINT, ["--preset", "instant"]))
    process = start("app", "--port", "0", "--no-open", *options, "--json", TMPDIR=str(temporary))
    line = "".join(iter(process.stdout.readline, "}\n")) + "}"
    yield json.loads(line)["url"]
    assert list(temporary.glob("g2s-app-*"))
    where = urlsplit(json.loads(line)["url"])
    waiting = f"GET /gradio_api/upload_progress?upload_id=none HTTP/1.1\r\nHost: {where.netloc}\r\n\r\n"
    with socket.create_connection((where.hostname, where.port)) as tab:
        tab.sendall(waiting.encode())
        urllib.request.urlopen(where.geturl()).close()  # answered after the other request has come
        process.send_signal(number)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert stderr.splitlines() == [
        "Ctrl-C ends it, and deletes its photos and results.",
        "g2s: Stopped; photos and results are deleted.",
    ]
    assert not list(temporary.glob("g2s-app-*"))


@needs_gradio
@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="there is no Chromium here")
def test_a_browser_goes_from_a_photo_to_a_mesh(address: str, tmp_path: Path) -> None:
    text, large = tmp_path / "text.jpg", tmp_path / "large.jpg"
    text.write_text("text")
    with large.open("wb") as file:
        file.truncate(50_000_000)
    photo = "input[type=file]"
    with Page(address, tmp_path / "profile") as page:
        page.click("#start")
        page.wait_for_text("#status", "There is no photo yet.")
        page.upload(photo, large)
        page.wait_for_text("body", "exceed the maximum allowed size")
        page.upload(photo, text)
        page.wait_for_text("#status", "text.jpg is not an image")
        page.click("[aria-label=Clear], [aria-label='Remove Image']")
        page.upload(photo, PORTRAIT)
        page.wait_for("[...document.images].some(one => one.naturalWidth == 360)")
        page.click("#start")
        page.wait_for_text("#status", "search", 300)
        page.wait_for("document.querySelector('iframe.viewer')", 600)
        steps = page.text("#status").split("\n")
        assert [step for step in ("load", "search", "feed-forward networks", "write") if step not in steps] == []
        captions = page.evaluate("[...document.querySelectorAll('figcaption')].map(one => one.innerText)")
        assert captions == ["The crop", "The GAN's version", "The object", "The shape"]
        links = page.evaluate("[...document.querySelectorAll('.downloads a')].map(one => [one.download, one.href])")
        assert [name for name, _ in links] == ["portrait.glb", "portrait.zip", "portrait.stl"]
        files = [urllib.request.urlopen(link).read() for _, link in links]
        assert files[0].startswith(b"glTF")
        assert files[1].startswith(b"PK")
        assert len(files[2]) == 84 + 50 * int.from_bytes(files[2][80:84], "little")  # binary STL
        for width, height in SIZES:
            page.resize(width, height)
            assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert [url for url in page.requests if not url.startswith((address, "data:", "blob:"))] == []
        assert [message for message in page.messages if message.startswith("exception")] == []


@needs_gradio
@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="there is no Chromium here")
# A closed terminal; a preset that takes longer than a closed tab is noticed.
@pytest.mark.parametrize("address", [(signal.SIGHUP, ["--category", "synface", "--preset", "fast"])], indirect=True)
def test_a_closed_tab_ends_its_photo_and_ten_clicks_fill_the_queue_at_most(
    address: str, temporary: Path, tmp_path: Path
) -> None:
    def start(page: Page, clicks: int) -> None:
        page.upload("input[type=file]", PORTRAIT)
        page.wait_for("[...document.images].some(one => one.naturalWidth == 360)", 120)
        page.evaluate(f"for (let k = 0; k < {clicks}; k++) document.querySelector('#start').click()")
        page.wait_for_text("#status", "load", 300)

    with Page(address, tmp_path / "first") as page:
        start(page, 1)
        page.wait_for_text("#status", "segment", 300)
    with Page(address, tmp_path / "second") as page:
        start(page, 10)
        page.wait_for("document.querySelector('iframe.viewer')", 600)
        shown = page.evaluate("document.querySelector('iframe.viewer').src").split("/")[-2]
        assert [message for message in page.messages if message.startswith("exception")] == []
    whole = {mesh.parent.name for mesh in temporary.glob("g2s-app-*/jobs/*/mesh.glb")}
    assert whole == {shown}  # the first job, which would have run before it, has ended
    assert 2 <= len(list(temporary.glob("g2s-app-*/jobs/*"))) <= 1 + MAX_JOBS
