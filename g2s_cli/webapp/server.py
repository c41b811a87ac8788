"""The HTTP server of the web app: results by name, uploads by path, nothing else of the disk."""

from __future__ import annotations

import logging
import re
import signal
import socket
from pathlib import Path
from urllib.parse import unquote

import gradio as gr
import uvicorn
from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from g2s_cli.errors import UsageError
from g2s_cli.webapp.page import CSS, JOBS_PATH, App, AppDefaults, build_page
from g2s_cli.webapp.studio import SERVED_FILES

LOOPBACK = ("127.0.0.1", "localhost")
# The page of a result runs its own script, and reaches nothing, wherever it is opened.
PAGE_POLICY = (
    "sandbox allow-scripts allow-downloads; default-src 'none'; script-src 'unsafe-inline'; "
    "style-src 'unsafe-inline'; img-src data: blob:; media-src data: blob:; connect-src data: blob:"
)
SYSTEM_FONTS = ("system-ui", "sans-serif")
FILE_ROUTES = re.compile(r"^/gradio_api/(file[=/]|proxy=|download)(?P<path>.*)", re.DOTALL)


class OnlyUploads:
    """Refuses Gradio's routes to files and addresses, but for files in the folder of uploads, links followed."""

    def __init__(self, app: ASGIApp, uploads: Path) -> None:
        self.app, self.uploads = app, uploads.resolve()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        match = FILE_ROUTES.match(scope.get("path", ""))
        if match and not self._is_upload(match["path"]):
            await PlainTextResponse("Forbidden", 403)(scope, receive, send)
            return
        await self.app(scope, receive, send)

    def _is_upload(self, path: str) -> bool:
        try:
            return Path(unquote(path)).resolve(strict=True).is_relative_to(self.uploads)
        except (OSError, ValueError):  # missing, or no path at all
            return False


def build_server(app: App, defaults: AppDefaults, host: str, uploads: Path) -> FastAPI:
    """The server's ASGI app. uploads: Gradio's folder of uploads, GRADIO_TEMP_DIR."""
    server = FastAPI(openapi_url=None)

    def result(job: str, file: str) -> Response:
        path = app.jobs.file(job, file) if file in SERVED_FILES else None
        if path is None:
            raise HTTPException(404)
        policy = {"Content-Security-Policy": PAGE_POLICY} if path.suffix == ".html" else {}
        return FileResponse(path, headers={"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"} | policy)

    server.add_api_route(f"/{JOBS_PATH}/{{job}}/{{file}}", result)
    gr.mount_gradio_app(
        server,
        build_page(app, defaults),
        path="/",
        max_file_size=app.limits.max_bytes,
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        enable_monitoring=False,
        mcp_server=False,
        pwa=False,
        theme=gr.themes.Default(font=SYSTEM_FONTS, font_mono=("ui-monospace", "monospace")),
        css=CSS,
    )
    server.add_middleware(OnlyUploads, uploads=uploads)
    if host in LOOPBACK:  # a foreign page whose name resolves to this machine is refused
        server.add_middleware(TrustedHostMiddleware, allowed_hosts=list(LOOPBACK))
    return server


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one. Raises UsageError."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except OSError as error:
        what = f"{host}:{port} cannot be listened on: {error.strerror or error}."
        raise UsageError(what, "Name another --port (0 takes a free one), or another --host.") from error


def serve(server: FastAPI, listening: socket.socket, *, verbose: bool = False) -> None:
    """Serve until a signal comes, then raise it again. Uvicorn does so for Ctrl-C and SIGTERM alone."""
    config = uvicorn.Config(server, log_level="info" if verbose else "error", timeout_graceful_shutdown=1)
    running = uvicorn.Server(config)
    # Requests that the end cuts off are no errors: open tabs always wait for something.
    logging.getLogger("uvicorn.error").addFilter(lambda _: not running.should_exit)
    hang_up = getattr(signal, "SIGHUP", None)
    handler = signal.getsignal(hang_up) if hang_up else None
    if hang_up is None or not callable(handler):  # Windows, or it is ignored, as by nohup
        running.run(sockets=[listening])
        return
    signal.signal(hang_up, running.handle_exit)
    running.run(sockets=[listening])
    signal.signal(hang_up, handler)
    signal.raise_signal(hang_up)
