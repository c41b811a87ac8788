"""The installed command, run in a process of its own that has PyTorch imported already.

Importing takes a call of g2s two to three seconds, and the tests make hundreds of calls. One process imports
everything once, and each call is a fork of it with its own folder, environment, stdout, stderr and exit code.
"""

from __future__ import annotations

import json
import multiprocessing
import multiprocessing.forkserver
import os
import runpy
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from multiprocessing.context import ForkServerContext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

SCRIPT = Path(sys.executable).with_name("g2s")
NOTHING = Path(os.devnull)
# What commands import when called. Nothing here reads HF_HOME and the like before a call sets them.
PRELOADED = [
    "g2s_cli.app",
    "g2s_cli.pipeline",
    "g2s_cli.result.paste_back",
    "g2s_cli.training.pretraining",
    "g2s_cli.evaluation.report",
    "g2s_cli.samples",
    "g2s_cli.result.page",
    "torch._dynamo",  # which the first optimiser of torch.optim imports
]
Answer = subprocess.CompletedProcess[str]


class Installed:
    """A server that forks calls of the installed command. A call's environment is `environment` and what it adds."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.environment = dict(environment)
        self.processes: ForkServerContext = multiprocessing.get_context("forkserver")
        self.processes.set_forkserver_preload(PRELOADED)
        with mock.patch.dict(os.environ, self.environment, clear=True):
            multiprocessing.forkserver.ensure_running()

    def run(
        self, folder: Path, *arguments: object, timeout: float = 120, stdin: Path = NOTHING, **environment: str
    ) -> Answer:
        """Run the command in a folder. Raises TimeoutExpired."""
        words = [str(SCRIPT), *map(str, arguments)]
        with TemporaryDirectory() as place:
            out, errors = Path(place, "out"), Path(place, "errors")
            call = (words, folder, self.environment | environment, (stdin, out, errors))
            process = self.processes.Process(target=_run, args=call)
            process.start()
            process.join(timeout)
            if process.exitcode is None:
                process.kill()
                process.join()
                raise subprocess.TimeoutExpired(words, timeout, out.read_bytes(), errors.read_bytes())
            return Answer(words, process.exitcode, out.read_text(errors="surrogateescape"), errors.read_text())


def _run(words: list[str], folder: Path, environment: dict[str, str], streams: tuple[Path, Path, Path]) -> None:
    for descriptor, path in enumerate(streams):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC if descriptor else os.O_RDONLY)
        os.dup2(file, descriptor)
        os.close(file)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115  multiprocessing has put another in its place
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    encoding, _, errors = environment.get("PYTHONIOENCODING", "").partition(":")
    if encoding:
        for stream in (sys.stdout, sys.stderr):
            stream.reconfigure(encoding=encoding, errors=errors or "strict")
    sys.argv = words
    sys.path[0] = str(SCRIPT.parent)
    runpy.run_path(words[0], run_name="__main__")


@dataclass(frozen=True)
class Command:
    """The installed command in a folder, with an environment."""

    installed: Installed
    folder: Path
    environment: Mapping[str, str]
    timeout: float = 120
    stdin: Path = NOTHING

    def using(self, **environment: object) -> Command:
        """The same with more environment variables."""
        added = {name: str(value) for name, value in environment.items()}
        return replace(self, environment={**self.environment, **added})

    def __call__(self, *arguments: object) -> Answer:
        """Run it."""
        return self.installed.run(self.folder, *arguments, timeout=self.timeout, stdin=self.stdin, **self.environment)

    def ok(self, *arguments: object) -> Answer:
        """Run it, and assert that it succeeds."""
        answer = self(*arguments)
        assert answer.returncode == 0, answer.stderr
        return answer

    def json(self, *arguments: object) -> dict[str, Any]:
        """Run it with --json, and return the document."""
        return json.loads(self.ok(*arguments, "--json").stdout)

    def fails(self, code: int, *arguments: object) -> str:
        """Run it, assert that it fails with this code and prints no result, and return stderr."""
        answer = self(*arguments)
        assert (answer.returncode, answer.stdout) == (code, ""), answer.stderr
        assert "Traceback" not in answer.stderr
        return answer.stderr
