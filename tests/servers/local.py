"""What both servers share: threads, a log of the requests, files with ranges, and faults on demand."""

from __future__ import annotations

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

FLIPPED = bytes(255 - value for value in range(256))
PIECES = 10
BODY_FAULTS = frozenset({"cut", "wrong", "slow", "no_ranges"})
NO_HEADERS: Mapping[str, str] = {}


class Logged(NamedTuple):
    """A request: its path with its query, and its Range header."""

    method: str
    path: str
    range: str | None


@dataclass
class Fault:
    """What goes wrong with the next `times` requests whose path or query contains this; the first that fits counts."""

    path_contains: str
    category: Literal["cut", "wrong", "slow", "no_ranges", "status"]
    times: int = 1  # counted down
    share: float = 0.5  # cut: how much of the announced body is sent before the connection is closed
    status: int = 503
    retry_after: int | None = None  # status
    seconds: float = 0.05  # slow: before each tenth of the body
    method: str | None = None  # None: GET, where a file is sent; for a status, any

    def concerns(self, request: Logged) -> bool:
        method = self.method or (request.method if self.category == "status" else "GET")
        ranged = self.category != "no_ranges" or request.range is not None
        return self.times > 0 and self.path_contains in request.path and method == request.method and ranged


class LocalServer(ABC):
    """A server on 127.0.0.1, running inside its `with` block; afterwards no connection to it is left open."""

    not_logged: frozenset[str] = frozenset()

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
        """Be gone, as when a cable is pulled; also in the midst of a test."""
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

    def take_fault(self, request: Logged, kinds: frozenset[str]) -> Fault | None:
        """The first fault that concerns a request, if it is one of these kinds; it is then used up once."""
        with self.lock:
            fault = next((fault for fault in self.faults if fault.concerns(request)), None)
            if fault is None or fault.category not in kinds:
                return None
            fault.times -= 1
            return fault


class _Listener(ThreadingHTTPServer):
    local: LocalServer
    daemon_threads = True

    def handle_error(self, *arguments: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):  # whoever asked may hang up
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
        self.body = self._read_body()
        self.logged = Logged(self.command, self.path, self.headers["Range"])
        if self.path not in self.server.local.not_logged:
            self.server.local.log.append(self.logged)
        fault = self.server.local.take_fault(self.logged, frozenset({"status"}))
        if fault is None:
            self.server.local.answer(self)
        else:
            wait = NO_HEADERS if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
            self.send(fault.status, b"a fault, as ordered", wait)

    do_GET = do_HEAD = do_POST = do_PUT = _answer

    def _read_body(self) -> bytes:
        assert "Transfer-Encoding" not in self.headers
        return self.rfile.read(int(self.headers["Content-Length"] or 0))

    def send(
        self, status: int, body: bytes = b"", headers: Mapping[str, str] = NO_HEADERS, fault: Fault | None = None
    ) -> None:
        """Send an answer, and whatever is wrong with it."""
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        category = fault.category if fault else None
        if fault and category == "cut":
            self.close_connection = True
            body = body[: int(fault.share * len(body))]
        if category == "wrong":
            body = body.translate(FLIPPED)
        if fault and category == "slow":
            step = -(-len(body) // PIECES) or 1
            for start in range(0, len(body), step):
                time.sleep(fault.seconds)
                self.wfile.write(body[start : start + step])
        else:
            self.wfile.write(body)

    def send_json(self, value: object, status: int = 200, headers: Mapping[str, str] = NO_HEADERS) -> None:
        """Send an answer of the API."""
        self.send(status, json.dumps(value).encode(), {"Content-Type": "application/json", **headers})

    def send_file(self, content: bytes, etag: str, headers: Mapping[str, str] = NO_HEADERS) -> None:
        """Send a file, or the range of it that is asked for."""
        fault = self.server.local.take_fault(self.logged, BODY_FAULTS)
        headers = {"ETag": etag, "Content-Type": "application/octet-stream", **headers}
        if fault and fault.category == "no_ranges":
            self.send(200, content, headers)
            return
        headers["Accept-Ranges"] = "bytes"
        span = self._span(len(content), etag)
        if span is None:
            self.send(200, content, headers, fault)
        elif not span:
            self.send(416, b"", {**headers, "Content-Range": f"bytes */{len(content)}"})
        else:
            headers["Content-Range"] = f"bytes {span.start}-{span.stop - 1}/{len(content)}"
            self.send(206, content[span.start : span.stop], headers, fault)

    def _span(self, size: int, etag: str) -> range | None:
        """The range asked for, perhaps an empty one; None for the whole."""
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)|bytes=-(\d+)", self.headers["Range"] or "")
        if asked is None or self.command != "GET" or self.headers.get("If-Range", etag) != etag:
            return None
        first, last, tail = asked.groups()
        if tail:
            return range(max(size - int(tail), 0), size)
        return range(int(first), min(int(last) + 1, size) if last else size)
