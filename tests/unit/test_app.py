"""Errors become exit codes in one place."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch
import typer

from g2s_cli import app
from g2s_cli.atomic_folder import built_beside
from g2s_cli.commands import rotate
from g2s_cli.errors import WeightsError


def raised(monkeypatch: pytest.MonkeyPatch, error: BaseException, *options: str) -> int:
    """The exit code of a verb that fails with `error`."""

    def fail(*_: str) -> NoReturn:
        raise error

    monkeypatch.setattr(rotate, "read_turn", fail)
    monkeypatch.setattr(sys, "argv", ["g2s", "rotate", "out", *options])
    with pytest.raises(SystemExit) as stop:
        app.main()
    assert isinstance(stop.value.code, int)
    return stop.value.code


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (WeightsError("gan.safetensors is damaged.", "Install g2s again."), 4, "damaged. Install g2s again."),
        (MemoryError(), 5, "The memory ran out."),
        (torch.OutOfMemoryError("CUDA out of memory"), 5, "The memory ran out."),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), 5, "The memory ran out."),
        (KeyboardInterrupt(), 130, "Stopped"),
        (ZeroDivisionError("division by zero"), 1, "ZeroDivisionError: division by zero. Run it again with -v"),
    ],
)
def test_exit_codes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: BaseException, code: int, words: str
) -> None:
    assert raised(monkeypatch, error) == code
    stdout, stderr = capsys.readouterr()
    assert stdout == ""
    assert words in stderr
    assert stderr.count("\n") == 1


@pytest.fixture(params=["SIGTERM", "SIGHUP"])
def number(request: pytest.FixtureRequest) -> Iterator[signal.Signals]:
    """A signal that ends a process, as a terminal's processes begin with it."""
    number = signal.Signals[request.param]
    before = signal.signal(number, signal.SIG_DFL)
    yield number
    signal.signal(number, before)


def during(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> int:
    """The exit code of a verb that does something and then fails."""

    def fail(*_: str) -> NoReturn:
        act()
        raise WeightsError("No signal came.")

    monkeypatch.setattr(rotate, "read_turn", fail)
    monkeypatch.setattr(sys, "argv", ["g2s", "rotate", "out"])
    with pytest.raises(SystemExit) as stop:
        app.main()
    assert isinstance(stop.value.code, int)
    return stop.value.code


def test_ctrl_c_is_heard_while_g2s_is_imported() -> None:
    """Most of a second, in which Python's own answer would be a traceback."""
    interrupted = (
        "import sys\n"
        "class Stop:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'typer': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Stop())\n"
        "from g2s_cli.__main__ import main\n"
        "main()\n"
    )
    answer = subprocess.run([sys.executable, "-c", interrupted], capture_output=True, text=True, check=False)
    assert (answer.returncode, answer.stdout, answer.stderr) == (130, "", "g2s: Stopped; nothing was written.\n")


def test_told_to_end_it_removes_what_is_half_done(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, number: signal.Signals
) -> None:
    def build() -> None:
        with built_beside(tmp_path / "out") as building:
            (building / "half").touch()
            try:
                os.kill(os.getpid(), number)
                time.sleep(5)
            finally:
                os.kill(os.getpid(), number)  # systemd and terminals send two: the clean-up goes on
                (building / "more").touch()

    assert during(monkeypatch, build) == 128 + number
    assert capsys.readouterr().err == "g2s: Stopped; nothing was written.\n"
    assert list(tmp_path.iterdir()) == []
    assert signal.getsignal(number) == signal.SIG_DFL


def test_a_clean_up_that_hangs_can_be_ended(monkeypatch: pytest.MonkeyPatch, number: signal.Signals) -> None:
    def hang() -> None:
        try:
            os.kill(os.getpid(), number)
            time.sleep(5)
        finally:
            os.kill(os.getpid(), number)
            time.sleep(5)
            raise AssertionError("The second one was not heeded.")

    monkeypatch.setattr(app, "CLEAN_UP_S", 0.0)
    assert during(monkeypatch, hang) == 128 + number


def test_what_is_ignored_stays_ignored(monkeypatch: pytest.MonkeyPatch, number: signal.Signals) -> None:
    signal.signal(number, signal.SIG_IGN)  # as nohup does
    assert during(monkeypatch, lambda: os.kill(os.getpid(), number)) == 4


def test_of_several_processes_each_ends_at_once(monkeypatch: pytest.MonkeyPatch, number: signal.Signals) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    found = []
    during(monkeypatch, lambda: found.append(signal.getsignal(number)))
    assert found == [signal.SIG_DFL]


def test_after_a_hang_up_nobody_reads_what_is_said(monkeypatch: pytest.MonkeyPatch, number: signal.Signals) -> None:
    def closed(*_: object) -> NoReturn:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(app.output, "error", closed)
    assert during(monkeypatch, lambda: os.kill(os.getpid(), number)) == 128 + number


def test_verbose_shows_the_traceback(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert raised(monkeypatch, ZeroDivisionError("division by zero"), "-v") == 1
    stderr = capsys.readouterr().err
    assert "Traceback" in stderr
    assert "with -v" not in stderr


def commands(group: Any) -> Iterator[Any]:
    """Every verb, those of groups too."""
    for command in group.commands.values():
        yield from commands(command) if hasattr(command, "commands") else [command]


def test_options_are_those_that_the_readme_says() -> None:
    given = {c.name: {name for p in c.params for name in p.opts} for c in commands(typer.main.get_command(app.app))}
    lacking = {option: {name for name, has in given.items() if option not in has} for option in ("--json", "-q", "-v")}
    assert lacking == {"--json": {"verify", "publish"}, "-q": {"list", "path"}, "-v": {"list", "path"}}
    readme = " ".join((Path(__file__).parents[2] / "README.md").read_text("utf-8").split())
    assert "but `g2s weights verify` and `publish` no `--json`, `list` and `path` no `-q` and `-v`" in readme


def test_help_breaks_lines_where_the_terminal_does() -> None:
    verbs = {command.name: command.help for command in commands(typer.main.get_command(app.app))}
    assert {"reconstruct", "relight", "sample", "import", "publish"} <= verbs.keys()
    for name, said in verbs.items():
        first, *_, example = said.split("\n\n")
        assert len(first) > 20
        assert "\n" not in said.replace("\n\n", "")
        assert example.startswith("Example: g2s"), name


@pytest.mark.parametrize(
    ("said", "spins"),
    [({}, app.SPINS), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, None)],
)
def test_waiting_threads_sleep_soon_unless_the_user_says_otherwise(
    monkeypatch: pytest.MonkeyPatch, said: dict[str, str], spins: str | None
) -> None:
    monkeypatch.setattr(os, "environ", dict(said))
    raised(monkeypatch, MemoryError())
    assert os.environ.get("GOMP_SPINCOUNT") == spins
