"""A server of plain files."""

from __future__ import annotations

import hashlib
from urllib.parse import unquote, urlsplit

from servers.local import Fault, LocalServer, Logged, Request


class FileServer(LocalServer):
    """Files by their path, with or without its leading slash; they may be changed while it runs."""

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
