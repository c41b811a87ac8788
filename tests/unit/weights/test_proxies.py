"""Proxies of the environment: SOCKS, refused ones, and what messages call them."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest
from fake_checkpoints import release
from servers import FileServer
from servers.socks import SocksServer

from g2s_cli.config import Release
from g2s_cli.errors import WeightsError
from g2s_cli.weights.download_progress import SilentDownload
from g2s_cli.weights.hub import hub_errors
from g2s_cli.weights.proxies import MEND_PROXY, Proxy
from g2s_cli.weights.release import WAYS_OUT, extract_members

MEMBER = "a.pt"
URL = "http://release.example"
VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("G2S_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def server() -> Iterator[FileServer]:
    with FileServer(release({MEMBER: b"content"})) as running:
        yield running


@pytest.fixture
def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def fetch(url: str, folder: Path) -> bytes:
    parts = Release(url, ("x00", "x01", "x02", "x03"))
    with extract_members(parts, {"gan": MEMBER}, folder, SilentDownload()) as files:
        return files["gan"].read_bytes()


@pytest.mark.parametrize("scheme", ["socks5", "socks5h"])
@pytest.mark.parametrize("variable", ["ALL_PROXY", "all_proxy", "http_proxy"])
def test_the_release_comes_through_a_socks_proxy(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, scheme: str
) -> None:
    url = server.url.replace("127.0.0.1", "release.example")  # a name that only the proxy knows
    with SocksServer(b"pass word") as proxy:
        monkeypatch.setenv(variable, f"{scheme}://user:pass%20word@{proxy.address}")
        assert fetch(url, tmp_path) == b"content"
        assert set(proxy.hosts) == {"release.example"}
        monkeypatch.setenv(variable, f"{scheme}://user:wrong@{proxy.address}")
        refusal = rf"through the proxy {scheme}://127.*refuses the user and password"
        with pytest.raises(WeightsError, match=refusal) as caught:
            fetch(url, tmp_path)
        assert "wrong" not in str(caught.value)
        server.stop()
        monkeypatch.setenv(variable, f"{scheme}://user:pass%20word@{proxy.address}")
        with pytest.raises(WeightsError, match="SOCKS error 5"):
            fetch(url, tmp_path)


def test_all_proxy_may_speak_http_and_no_proxy_goes_without(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, closed_port: int
) -> None:
    monkeypatch.setenv("ALL_PROXY", server.url)
    assert fetch(URL, tmp_path) == b"content"
    assert server.log[0].path == f"{URL}/x00"  # as proxies are asked
    monkeypatch.setenv("ALL_PROXY", f"http://127.0.0.1:{closed_port}")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert fetch(server.url, tmp_path) == b"content"


@pytest.mark.parametrize("scheme", ["http", "https", "socks5", "socks4", ""])
@pytest.mark.parametrize("variable", ["ALL_PROXY", "HTTPS_PROXY"])
def test_a_refused_proxy_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, closed_port: int, variable: str, scheme: str
) -> None:
    monkeypatch.setenv(variable, f"{scheme}://me:secret@127.0.0.1:{closed_port}".removeprefix("://"))
    name = (
        rf"the proxy {scheme or 'http'}://127\.0\.0\.1:{closed_port} \({variable}\) cannot be reached: Conn.* refused"
    )
    with pytest.raises(WeightsError, match=name) as from_release:
        fetch(URL.replace("http", "https"), tmp_path)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "https://hub.example")
    with pytest.raises(WeightsError, match=name) as from_hub, hub_errors("me/x"):
        raise ConnectionError("Connection refused")
    for caught in (from_release, from_hub):
        assert caught.value.remedy == MEND_PROXY
        assert "secret" not in str(caught.value)


def test_the_hub_s_hint_names_the_package_that_its_http_library_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:9")
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "https://hub.example")
    for version, package in (("0.36.0", "pysocks"), ("1.2.0", "socksio")):
        monkeypatch.setattr(huggingface_hub, "__version__", version)
        needs = rf"\(ALL_PROXY\) needs a package\. .*: pip install {package}$"
        with pytest.raises(WeightsError, match=needs), hub_errors("me/x"):
            raise ImportError("Using SOCKS proxy, but the 'socksio' package is not installed: install httpx[socks]")


@pytest.mark.parametrize("address", ["http://127.0.0.1:port", "socks4://127.0.0.1:1", "http://"])
def test_an_address_that_is_none_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("HTTP_PROXY", address)
    with pytest.raises(WeightsError, match=r"the proxy .* \(HTTP_PROXY\)"):
        fetch(URL, tmp_path)


def test_without_a_proxy_none_is_named(tmp_path: Path, closed_port: int) -> None:
    assert Proxy.of(URL) is None
    with pytest.raises(WeightsError, match=r"cannot be reached: .*refused") as caught:
        fetch(f"http://127.0.0.1:{closed_port}", tmp_path)
    assert (caught.value.remedy, "proxy" in caught.value.what) == (WAYS_OUT, False)
