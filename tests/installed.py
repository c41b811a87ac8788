"""The installed command, run whole in a process of its own that need not load PyTorch first.

A call of g2s takes two to three seconds of processor time to import what it needs, and there are hundreds of calls in
the tests. So one process imports it all, once, and each call is a fork of that: the installed script, its
own folder, environment, standard output and errors, exit code.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.forkserver
import os
import runpy
import subprocess
import sys
from collections.abc import Mapping
from multiprocessing.context import ForkServerContext
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import mock

SCRIPT = Path(sys.executable).with_name("g2s")
# What the command's own functions import when called. Nothing here reads HF_HOME and the like before a call sets them.
NEEDED = [
    "g2s_cli.app",
    "g2s_cli.pipeline",
    "g2s_cli.result.paste_back",
    "g2s_cli.training.pretraining",
    "g2s_cli.evaluation.report",
    "g2s_cli.samples",
    "g2s_cli.result.page",
]


class Installed:
    """Calls of the installed command; every one has `environment`, and nothing else, but what it adds."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.environment = dict(environment)
        self.processes: ForkServerContext = multiprocessing.get_context("forkserver")
        self.processes.set_forkserver_preload(NEEDED)
        with mock.patch.dict(os.environ, self.environment, clear=True):
            multiprocessing.forkserver.ensure_running()

    def run(
        self, folder: Path, *arguments: object, timeout: float, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run it in a folder. Raises TimeoutExpired."""
        words = [str(SCRIPT), *map(str, arguments)]
        with TemporaryDirectory() as place:
            out, errors = Path(place, "out"), Path(place, "errors")
            process = self.processes.Process(
                target=_called, args=(words, folder, self.environment | environment, out, errors)
            )
            process.start()
            process.join(timeout)
            if process.exitcode is None:
                process.kill()
                process.join()
                raise subprocess.TimeoutExpired(words, timeout, out.read_bytes(), errors.read_bytes())
            return subprocess.CompletedProcess(words, process.exitcode, out.read_text(), errors.read_text())


def _called(words: list[str], folder: Path, environment: dict[str, str], out: Path, errors: Path) -> None:
    for path, descriptor in ((out, 1), (errors, 2)):
        opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(opened, descriptor)
        os.close(opened)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = words
    sys.path[0] = str(SCRIPT.parent)
    runpy.run_path(words[0], run_name="__main__")
