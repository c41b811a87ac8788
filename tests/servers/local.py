"""A local HTTP server with a log of requests and faults on demand, and one of plain files."""

from __future__ import annotations

import hashlib
import json
import re
import socket
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal, NamedTuple, Self
from urllib.parse import unquote, urlsplit

INVERTED = bytes(255 - value for value in range(256))
PIECES = 10
NO_HEADERS: Mapping[str, str] = {}


class Logged(NamedTuple):
    """A request: its path with its query, and its Range header."""

    method: str
    path: str
    range: str | None


@dataclass
class Fault:
    """What goes wrong with the next `times` requests whose path contains a text; the first fault that fits counts.

    All but "status" concern files that are sent, and "no_ranges" those of which a range is asked for.
    """

    path_contains: str
    mode: Literal["cut", "wrong", "slow", "no_ranges", "status"]
    times: int = 1  # counted down
    share: float = 0.5  # cut: of the announced body that is sent before the connection is closed
    status: int = 503
    retry_after: int | None = None  # status
    seconds: float = 0.05  # slow: before each tenth of the body

    def concerns(self, request: Logged) -> bool:
        fits = self.mode == "status" or (request.method == "GET" and (self.mode != "no_ranges" or request.range))
        return self.times > 0 and self.path_contains in request.path and bool(fits)


class LocalServer(ABC):
    """A server on 127.0.0.1, running inside its `with` block; afterwards no connection to it is left open."""

    not_logged: frozenset[str] = frozenset()  # paths
    unnoticed: frozenset[str] = frozenset()  # methods whose requests are neither logged nor go wrong

    def __init__(self, faults: list[Fault] | None = None, log: list[Logged] | None = None) -> None:
        self.faults = [] if faults is None else faults
        self.log = [] if log is None else log
        self.lock = threading.RLock()
        self.connections: set[socket.socket] = set()
        self._listener = _Listener(("127.0.0.1", 0), Request)
        self._listener.local = self
        self.url = f"http://127.0.0.1:{self._listener.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._listener.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Close the server and all connections, as when a cable is pulled; also in the middle of a test."""
        self._listener.shutdown()
        self._listener.server_close()
        for connection in list(self.connections):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:  # closed already
                continue

    @abstractmethod
    def answer(self, request: Request) -> None:
        """Send the answer to a request."""

    def take_fault(self, request: Logged, *, in_file: bool) -> Fault | None:
        """The first fault that concerns a request, if it is one of files (or not); it is then used up once."""
        with self.lock:
            fault = next((fault for fault in self.faults if fault.concerns(request)), None)
            if fault is None or in_file == (fault.mode == "status"):
                return None
            fault.times -= 1
            return fault


class _Listener(ThreadingHTTPServer):
    local: LocalServer
    daemon_threads = True

    def handle_error(self, *arguments: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):  # a client may hang up
            super().handle_error(*arguments)


class Request(BaseHTTPRequestHandler):
    """A request, and the ways to answer it."""

    server: _Listener
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        self.server.local.connections.add(self.connection)

    def finish(self) -> None:
        self.server.local.connections.discard(self.connection)
        super().finish()

    def log_message(self, *_: object) -> None:
        """Nothing on stderr."""

    def _answer(self) -> None:
        self.body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        self.logged = Logged(self.command, self.path, self.headers["Range"])
        noticed = self.command not in self.server.local.unnoticed
        if noticed and self.path not in self.server.local.not_logged:
            self.server.local.log.append(self.logged)
        fault = self.server.local.take_fault(self.logged, in_file=False) if noticed else None
        if fault is None:
            self.server.local.answer(self)
        else:
            wait = NO_HEADERS if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
            self.send(fault.status, b"a fault, as ordered", wait)

    do_GET = do_HEAD = do_POST = do_PUT = _answer

    def send(
        self, status: int, body: bytes = b"", headers: Mapping[str, str] = NO_HEADERS, fault: Fault | None = None
    ) -> None:
        """Send an answer, with a fault in its body."""
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        mode = fault.mode if fault else None
        if fault and mode == "cut":
            self.close_connection = True
            body = body[: int(fault.share * len(body))]
        if mode == "wrong":
            body = body.translate(INVERTED)
        step = -(-len(body) // PIECES) if mode == "slow" else len(body)
        for start in range(0, len(body), step or 1):
            time.sleep(fault.seconds if fault and mode == "slow" else 0)
            self.wfile.write(body[start : start + step])

    def send_json(self, value: object, status: int = 200, headers: Mapping[str, str] = NO_HEADERS) -> None:
        """Send an answer of the API."""
        self.send(status, json.dumps(value).encode(), {"Content-Type": "application/json", **headers})

    def send_file(self, content: bytes, etag: str, headers: Mapping[str, str] = NO_HEADERS) -> None:
        """Send a file, or its end from the position that is asked for."""
        fault = self.server.local.take_fault(self.logged, in_file=True)
        headers = {"ETag": etag, "Content-Type": "application/octet-stream", **headers}
        ranged = fault is None or fault.mode != "no_ranges"
        if ranged:
            headers["Accept-Ranges"] = "bytes"
        position = re.fullmatch(r"bytes=(\d+)-", self.headers["Range"] or "")
        if not ranged or position is None or self.command != "GET" or self.headers.get("If-Range", etag) != etag:
            self.send(200, content, headers, fault)
        elif (start := int(position[1])) >= len(content):
            self.send(416, b"", {**headers, "Content-Range": f"bytes */{len(content)}"})
        else:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            self.send(206, content[start:], headers, fault)


class FileServer(LocalServer):
    """Files by their path, with or without its leading slash; they may be changed while it runs."""

    unnoticed = frozenset({"HEAD"})  # who downloads may ask for sizes first

    def __init__(
        self, files: dict[str, bytes], faults: list[Fault] | None = None, log: list[Logged] | None = None
    ) -> None:
        super().__init__(faults, log)
        self.files = files

    def answer(self, request: Request) -> None:
        path = unquote(urlsplit(request.path).path)
        content = self.files.get(path, self.files.get(path[1:]))
        if request.command not in {"GET", "HEAD"}:
            request.send(405)
        elif content is None:
            request.send(404, b"no such file")
        else:
            request.send_file(content, f'"{hashlib.sha256(content).hexdigest()}"')
