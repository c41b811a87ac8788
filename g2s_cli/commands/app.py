"""g2s app: a web page for photos, on this computer."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
import webbrowser
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

from g2s_cli.commands import options
from g2s_cli.console import output
from g2s_cli.errors import G2SError, StoppedError
from g2s_cli.files import clean_up_afterwards
from g2s_cli.options import DEFAULT_CATEGORY

BYTES_PER_MEGAPIXEL = 1_000_000  # of an upload, at most: a PNG of a photo has twice as many, a JPEG a fifth

Host = Annotated[str, options.machine_option("--host", help="Address to listen on; 0.0.0.0 lets the network in.")]
Port = Annotated[int, options.machine_option("--port", min=0, max=65535, help="0 takes a free one.")]
MaxJobs = Annotated[int, options.machine_option("--max-jobs", min=1, max=32, help="Photos that run or wait at a time.")]
MaxMegapixels = Annotated[
    float, options.machine_option("--max-megapixels", min=0.01, max=67, help="Size of a photo; as many MB.")
]


def app(
    host: Host = "127.0.0.1",
    port: Port = 7860,
    category: options.Category = DEFAULT_CATEGORY,
    preset: options.Preset = "fast",
    max_jobs: MaxJobs = 8,
    max_megapixels: MaxMegapixels = 40.0,
    show: Annotated[bool, options.output_option("--open/--no-open", help="Open it in the browser.")] = True,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    device: options.Device = "auto",
) -> None:
    """Serve a web page: drop a photo, see it in 3D, turn and light it, download GLB, OBJ, STL and a film.

    It listens on this computer alone unless --host says otherwise, sends nothing anywhere, and deletes photos and
    results when it ends (Ctrl-C), or after an hour.

    Example: g2s app --preset instant
    """
    output.set(quiet=quiet, verbose=verbose, as_json=as_json)
    if find_spec("gradio") is None:
        raise G2SError("g2s app needs Gradio, which is not installed.", "pip install 'g2s-cli[app]'")

    from g2s_cli.machine import Machine
    from g2s_cli.webapp.jobs import Jobs
    from g2s_cli.weights.categories import load_category

    load_category(category).preset(preset)
    machine = Machine.named(device)
    root = Path(tempfile.gettempdir(), f"g2s-app-{secrets.token_hex(8)}")
    with clean_up_afterwards(lambda: shutil.rmtree(root, ignore_errors=True)):
        root.mkdir(mode=0o700)
        uploads = root / "uploads"
        # Read when Gradio is imported. Without the last it would ask the network for news.
        os.environ |= {
            "GRADIO_TEMP_DIR": str(uploads),
            "GRADIO_ANALYTICS_ENABLED": "False",
            "HF_HUB_DISABLE_TELEMETRY": "1",
        }

        from g2s_cli.webapp.page import App, AppDefaults
        from g2s_cli.webapp.server import build_server, listen, serve
        from g2s_cli.webapp.studio import PhotoLimits, Studio

        limits = PhotoLimits(max_megapixels, round(max_megapixels * BYTES_PER_MEGAPIXEL), uploads)
        with listen(host, port) as listening, Jobs(root / "jobs", max_jobs) as jobs:
            address = f"http://{host}:{listening.getsockname()[1]}/"
            server = build_server(App(jobs, Studio(machine), limits), AppDefaults(category, preset), host, uploads)
            output.info("Ctrl-C ends it, and deletes its photos and results.")
            output.print_result([address], {"url": address})
            if show and not webbrowser.open(address):
                output.info("Note: no browser could be started here. Open the address yourself.")
            try:
                serve(server, listening, verbose=verbose)
            except KeyboardInterrupt:
                raise StoppedError("Stopped; photos and results are deleted.") from None
