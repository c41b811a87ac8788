"""Proxies of the environment (HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, NO_PROXY) for urllib, which alone knows no SOCKS."""

from __future__ import annotations

import http.client
import os
import socket
import urllib.request
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

CONNECT_SECONDS = 8.0
PORTS = {"http": 80, "https": 443}  # else SOCKS's own
SOCKS_PORT = 1080
SOCKS = ("socks5", "socks5h")
MEND_PROXY = "Mend the proxy's address, or unset it."
NO_METHOD = 0xFF  # of authentication, that client and proxy both have


@dataclass(frozen=True)
class Proxy:
    """A proxy, and the environment variable that names it ("" if the system does)."""

    url: str
    variable: str

    @classmethod
    def of(cls, url: str) -> Proxy | None:
        """The proxy for an address."""
        target, proxies = urlsplit(url), urllib.request.getproxies()
        scheme = target.scheme if proxies.get(target.scheme) else "all"
        address = proxies.get(scheme)
        if not address or urllib.request.proxy_bypass(target.hostname or ""):
            return None
        names = (f"{scheme}_proxy", f"{scheme}_proxy".upper())
        variable = next((name for name in names if os.environ.get(name)), "")
        return cls(address if "://" in address else f"http://{address}", variable)

    def __str__(self) -> str:
        """As in a sentence, without its password."""
        scheme, _, rest = self.url.partition("://")
        variable = f" ({self.variable})" if self.variable else ""
        return f"the proxy {scheme}://{rest.rpartition('@')[2]}{variable}"

    @property
    def is_socks(self) -> bool:
        """Whether it speaks SOCKS."""
        return self.url.lower().startswith("socks")

    def fault(self) -> str:
        """Why it cannot be reached, "" if it can."""
        try:
            self._connect(CONNECT_SECONDS).close()
        except (OSError, ValueError) as error:
            return str(getattr(error, "strerror", None) or error)
        return ""

    def opener(self) -> urllib.request.OpenerDirector:
        """What opens addresses through it. Raises ValueError for a scheme that is not known."""
        scheme = urlsplit(self.url).scheme
        if scheme in SOCKS:
            return urllib.request.build_opener(urllib.request.ProxyHandler({}), _SocksHandler(self))
        if scheme not in PORTS:
            raise ValueError(f"it speaks {scheme}, not http, https or socks5")
        return urllib.request.build_opener(urllib.request.ProxyHandler(dict.fromkeys(PORTS, self.url)))

    def connect(self, address: tuple[str, int], timeout: float, _source: object = None) -> socket.socket:
        """A connection to a host and port through a SOCKS5 proxy, which looks up the host (RFC 1928, RFC 1929)."""
        parts, host = urlsplit(self.url), address[0].encode("idna")
        user, password = (unquote(part or "").encode() for part in (parts.username, parts.password))
        connection = self._connect(timeout)
        try:
            connection.sendall(bytes((5, 1, 2 if user else 0)))
            method = _receive(connection, 2)[1]
            if method == 2:
                connection.sendall(bytes((1, len(user))) + user + bytes((len(password),)) + password)
            if method == NO_METHOD or (method == 2 and _receive(connection, 2)[1]):
                raise OSError(f"{self} refuses the user and password, or asks for them")
            connection.sendall(bytes((5, 1, 0, 3, len(host))) + host + address[1].to_bytes(2, "big"))
            _, status, _, kind = _receive(connection, 4)
            if status:
                raise OSError(f"{self} cannot reach it (SOCKS error {status})")
            _receive(connection, {1: 4, 4: 16}.get(kind) or _receive(connection, 1)[0])
            _receive(connection, 2)
        except BaseException:
            connection.close()
            raise
        return connection

    def _connect(self, timeout: float) -> socket.socket:
        parts = urlsplit(self.url)
        return socket.create_connection(
            (parts.hostname or "", parts.port or PORTS.get(parts.scheme, SOCKS_PORT)), timeout
        )


def build_opener(url: str) -> urllib.request.OpenerDirector:
    """What opens an address, through its proxy if there is one. Raises as `Proxy.opener`."""
    proxy = Proxy.of(url)
    return proxy.opener() if proxy else urllib.request.build_opener(urllib.request.ProxyHandler({}))


class _SocksHandler(urllib.request.HTTPSHandler, urllib.request.HTTPHandler):
    """Opens http:// and https:// through a SOCKS proxy."""

    def __init__(self, proxy: Proxy) -> None:
        super().__init__()
        self._proxy = proxy

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(self._through(http.client.HTTPConnection), req)

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(self._through(http.client.HTTPSConnection), req)

    def _through(self, kind: type[http.client.HTTPConnection]) -> Any:
        def connect(host: str, **options: Any) -> http.client.HTTPConnection:
            connection: Any = kind(host, **options)
            connection._create_connection = self._proxy.connect
            return connection

        return connect


def _receive(connection: socket.socket, count: int) -> bytes:
    """Exactly so many bytes."""
    data = b""
    while len(data) < count:
        if not (piece := connection.recv(count - len(data))):
            raise OSError("the proxy hung up; it may speak no SOCKS5")
        data += piece
    return data
