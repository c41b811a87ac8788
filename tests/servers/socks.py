"""A SOCKS5 proxy (RFC 1928), with a user and password (RFC 1929) if one is set."""

from __future__ import annotations

import socket
import socketserver
import threading
from typing import Self


class SocksServer(socketserver.ThreadingTCPServer):
    """A proxy on 127.0.0.1, running inside its `with` block. hosts: names that it was asked for."""

    daemon_threads = True

    def __init__(self, password: bytes = b"") -> None:
        super().__init__(("127.0.0.1", 0), _Client)
        self.password, self.hosts = password, list[str]()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()


class _Client(socketserver.StreamRequestHandler):
    server: SocksServer

    def handle(self) -> None:
        _, count = self.rfile.read(2)
        method = 2 if self.server.password else 0
        if method not in self.rfile.read(count):
            self.wfile.write(b"\x05\xff")
            return
        self.wfile.write(bytes((5, method)))
        if method:
            self.rfile.read(1)
            _, password = (self.rfile.read(self.rfile.read(1)[0]) for _ in range(2))
            self.wfile.write(bytes((1, password != self.server.password)))
            if password != self.server.password:
                return
        assert self.rfile.read(4) == b"\x05\x01\x00\x03"
        host = self.rfile.read(self.rfile.read(1)[0]).decode()
        port = int.from_bytes(self.rfile.read(2), "big")
        self.server.hosts.append(host)
        try:  # every name is this machine's
            target = socket.create_connection(("127.0.0.1", port))
        except OSError:
            self.wfile.write(b"\x05\x05\x00\x01" + bytes(6))
            return
        self.wfile.write(b"\x05\x00\x00\x01" + bytes(6))
        threading.Thread(target=_copy, args=(self.connection, target), daemon=True).start()
        _copy(target, self.connection)


def _copy(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(1 << 16):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        return
