"""Errors and signals become exit codes in one place; the commands' options and help texts."""

from __future__ import annotations

import io
import json
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

from g2s_cli import app, signals
from g2s_cli.__main__ import run_interruptibly
from g2s_cli.atomic_folder import replace_folder
from g2s_cli.commands import options
from g2s_cli.errors import ImageError, WeightsError, try_call

ExitCode = Callable[..., int]
OTHER_ENCODINGS = ("iso-8859-2", "iso-8859-5", "euc-jp", "cp1252")


@pytest.fixture
def exit_code(monkeypatch: pytest.MonkeyPatch) -> Iterator[ExitCode]:
    """Run a command that calls `act` and then fails with exit code 4."""

    def run(act: Callable[[], object], *flags: str) -> int:
        def fail(*_: str) -> NoReturn:
            act()
            raise WeightsError("gan.safetensors is damaged.", "Install g2s again.")

        monkeypatch.setattr(options, "read_turn", fail)
        monkeypatch.setattr(sys, "argv", ["g2s", "rotate", "out", *flags])
        return run_interruptibly()

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield run
    signals.received_signals.clear()
    for number, handler in before.items():
        signal.signal(number, handler)


def raising(error: BaseException) -> Callable[[], NoReturn]:
    def act() -> NoReturn:
        raise error

    return act


@pytest.mark.parametrize(
    ("act", "code", "message"),
    [
        (lambda: None, 4, "damaged. Install g2s again."),
        (raising(MemoryError()), 5, "The memory ran out."),
        (raising(torch.OutOfMemoryError("CUDA out of memory")), 5, "The memory ran out."),
        (raising(RuntimeError("DefaultCPUAllocator: can't allocate memory")), 5, "The memory ran out."),
        (raising(KeyboardInterrupt()), 130, "Stopped"),
        (
            raising(ZeroDivisionError("division by zero")),
            1,
            "ZeroDivisionError: division by zero. Run it again with -v",
        ),
    ],
)
def test_an_error_is_one_line_on_stderr_and_an_exit_code(
    exit_code: ExitCode, capsys: pytest.CaptureFixture[str], act: Callable[[], object], code: int, message: str
) -> None:
    assert exit_code(act) == code
    stdout, stderr = capsys.readouterr()
    assert stdout == ""
    assert message in stderr
    assert stderr.count("\n") == 1


def test_with_json_an_error_is_one_document_on_stdout(exit_code: ExitCode, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(lambda: None, "--json") == 4
    stdout, stderr = capsys.readouterr()
    error = {"what": "gan.safetensors is damaged.", "remedy": "Install g2s again.", "exit_code": 4}
    assert json.loads(stdout) == {"error": error}
    assert stderr == "g2s: gan.safetensors is damaged. Install g2s again.\n"
    exit_code(lambda: app.output.print_json({"done": 1}), "--json")
    assert json.loads(capsys.readouterr().out) == {"done": 1}  # the command's own document is the only one


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["rotate", "out", "--bogus"], "--bogus"),
        (["rotat"], "No such command 'rotat'"),
        (["rotate", "out", "--frames", "1"], "--frames"),
        (["weights", "pull"], "CATEGORY"),
        (["rotate", ""], "An argument is empty"),
    ],
)
def test_with_json_wrong_usage_is_a_document_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], what: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["g2s", *arguments, "--json"])
    assert app.run() == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert what in error["what"]
    assert (error["exit_code"], bool(error["remedy"])) == (2, True)


@pytest.mark.parametrize(
    ("words", "values"),
    [
        ("reconstruct --category c", {"car", "cat", "celeba", "church"}),
        ("weights pull s", {"synface"}),
        ("weights import --category ho", {"horse"}),
        ("reconstruct a.png --preset ", {"instant", "fast", "paper", "ellipsoid"}),
        ("reconstruct --category own --preset ", {"fast", "paper"}),
        ("reconstruct --category nowhere --preset ", set()),
        ("rotate out --format w", {"webm", "webp"}),
    ],
)
def test_the_shell_completes_values(words: str, values: set[str]) -> None:
    asked = {"_G2S_COMPLETE": "complete_bash", "COMP_WORDS": f"g2s {words}", "COMP_CWORD": str(words.count(" ") + 1)}
    code = "import sys; from g2s_cli.__main__ import *\nrun_interruptibly(); assert 'torch' not in sys.modules"
    answer = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | asked, capture_output=True, text=True, check=False
    )
    assert "Error" not in answer.stderr
    assert set(answer.stdout.split()) == values


def test_verbose_prints_the_traceback(exit_code: ExitCode, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(raising(ZeroDivisionError("division by zero")), "-v") == 1
    stderr = capsys.readouterr().err
    assert "Traceback" in stderr
    assert "with -v" not in stderr


def default_handler(number: signal.Signals) -> object:
    """What Python sets when it starts."""
    return signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL


@pytest.fixture(params=["SIGINT", "SIGTERM", "SIGHUP"])
def number(request: pytest.FixtureRequest) -> Iterator[signal.Signals]:
    """A signal that ends a process, with its default handler."""
    number = signal.Signals[request.param]
    before = signal.signal(number, default_handler(number))
    yield number
    signal.signal(number, before)


def test_a_signal_removes_what_is_half_written(
    exit_code: ExitCode, capsys: pytest.CaptureFixture[str], tmp_path: Path, number: signal.Signals
) -> None:
    def build() -> None:
        with replace_folder(tmp_path / "out") as building:
            (building / "half").touch()
            try:
                os.kill(os.getpid(), number)
                time.sleep(5)
            finally:
                os.kill(os.getpid(), number)  # systemd and terminals send two: the clean-up goes on
                (building / "more").touch()

    assert exit_code(build) == 128 + number
    assert capsys.readouterr().err == "g2s: Stopped; nothing half written is left.\n"
    assert list(tmp_path.iterdir()) == []
    assert signal.getsignal(number) == signal.SIG_DFL  # another one ends what is left of the process


@pytest.mark.parametrize("error", [ValueError("could not determine the shape"), ImageError("face.jpg is damaged.")])
def test_a_signal_that_a_library_turns_into_another_error_is_a_stop(
    exit_code: ExitCode, capsys: pytest.CaptureFixture[str], number: signal.Signals, error: Exception
) -> None:
    def replace_interrupt() -> None:
        try:
            signal.raise_signal(number)
        except KeyboardInterrupt:
            raise error from None

    assert exit_code(replace_interrupt) == 128 + number
    assert exit_code(lambda: try_call(replace_interrupt)) == 128 + number
    assert capsys.readouterr().err == "g2s: Stopped.\ng2s: Stopped; nothing half written is left.\n"
    assert exit_code(lambda: None) == 4


def test_a_signal_in_a_destructor_is_not_lost(
    exit_code: ExitCode, capsys: pytest.CaptureFixture[str], number: signal.Signals
) -> None:
    """Python ignores an exception there, and says so."""

    class Doomed:
        def __del__(self) -> None:
            signal.raise_signal(number)

    def wait() -> None:
        Doomed()
        time.sleep(5)
        raise AssertionError

    assert exit_code(wait) == 128 + number
    assert capsys.readouterr().err == "g2s: Stopped; nothing half written is left.\n"


def test_a_second_signal_ends_a_clean_up_that_hangs(
    exit_code: ExitCode, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    def hang() -> None:
        try:
            os.kill(os.getpid(), number)
            time.sleep(5)
        finally:
            os.kill(os.getpid(), number)
            time.sleep(5)
            raise AssertionError("The second signal was ignored.")

    monkeypatch.setattr(signals, "CLEAN_UP_S", 0.0)
    assert exit_code(hang) == 128 + number


def test_an_ignored_signal_stays_ignored(exit_code: ExitCode, number: signal.Signals) -> None:
    signal.signal(number, signal.SIG_IGN)  # as nohup does
    assert exit_code(lambda: os.kill(os.getpid(), number)) == 4


def test_one_process_of_several_keeps_the_default_handler(
    exit_code: ExitCode, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    handlers: list[object] = []
    exit_code(lambda: handlers.append(signal.getsignal(number)))
    assert handlers == [default_handler(number)]


def test_a_hang_up_that_closes_stderr_keeps_the_exit_code(
    exit_code: ExitCode, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    def closed(*_: object) -> NoReturn:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(app.output, "error", closed)
    assert exit_code(lambda: os.kill(os.getpid(), number)) == 128 + number


@pytest.mark.parametrize("place", ["typer", "g2s_cli.commands.train"])
def test_a_signal_during_the_import_ends_with_a_sentence(tmp_path: Path, number: signal.Signals, place: str) -> None:
    (tmp_path / "interrupted.py").write_text(
        "import signal, sys\n"
        "class Stop:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name == '{place}': exec('signal.raise_signal({int(number)})')\n"  # as in namedtuple
        "sys.meta_path.insert(0, Stop())\n"
        "from g2s_cli.__main__ import main\n"
        "main()\n"
    )
    search = os.pathsep.join([str(tmp_path), *sys.path])
    answer = subprocess.run(
        [sys.executable, "-m", "interrupted"],
        env=os.environ | {"PYTHONPATH": search},
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 128 + number
    assert (answer.stdout, answer.stderr) == ("", "g2s: Stopped; nothing was written.\n")


def test_a_signal_before_the_command_begins_is_a_stop(
    exit_code: ExitCode, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: signal.Signals
) -> None:
    """Typer has an exit code of its own for Ctrl-C."""

    def interrupt(*_: object, **__: object) -> NoReturn:
        signal.raise_signal(number)
        raise AssertionError

    monkeypatch.setattr(app.Commands, "make_context", interrupt)
    assert exit_code(lambda: None) == 128 + number
    assert capsys.readouterr().err == "g2s: Stopped.\n"


def commands(group: Any) -> Iterator[Any]:
    """Every command, those of groups too."""
    for command in group.commands.values():
        yield from commands(command) if hasattr(command, "commands") else [command]


@pytest.fixture(scope="module")
def flags() -> dict[str, set[str]]:
    """The flags that each command's help shows."""
    return {
        command.name: {flag for option in command.params for flag in option.opts}
        for command in commands(typer.main.get_command(app.app))
    }


def test_every_command_has_json_quiet_and_verbose(flags: dict[str, set[str]]) -> None:
    assert len(flags) > 12
    for name, shown in flags.items():
        assert {"--json", "-q", "-v"} <= shown, name


@pytest.mark.parametrize("command", ["reconstruct", "relight", "rotate", "view", "mesh", "sheet", "sample"])
def test_what_writes_files_has_out_and_overwrite(flags: dict[str, set[str]], command: str) -> None:
    assert {"-o", "--out", "--overwrite"} <= flags[command]


@pytest.mark.parametrize("command", ["relight", "rotate"])
def test_renamed_flags_are_shown_by_their_new_name(flags: dict[str, set[str]], command: str) -> None:
    assert {"--renderer", "--paste-back"} <= flags[command]
    assert not {"--by", "--in-place"} & flags[command]


def test_every_option_is_in_a_panel_of_help() -> None:
    for command in commands(typer.main.get_command(app.app)):
        for option in command.params:
            panel = getattr(option, "rich_help_panel", None)
            assert panel in {"Input", "Method", "Output", "Machine"} or not option.opts[0].startswith("-"), option.name


def test_help_leaves_line_breaks_to_the_terminal() -> None:
    helps = {command.name: command.help for command in commands(typer.main.get_command(app.app))}
    assert {"reconstruct", "relight", "sample", "import", "publish"} <= helps.keys()
    for name, text in helps.items():
        first, *_, example = text.split("\n\n")
        assert len(first) > 20
        assert "\n" not in text.replace("\n\n", "")
        assert example.startswith("Example: g2s"), name


@pytest.mark.parametrize(
    ("environment", "spins"),
    [({}, app.SPIN_COUNT), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, None)],
)
def test_waiting_threads_sleep_soon_unless_the_environment_says_otherwise(
    exit_code: ExitCode, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], spins: str | None
) -> None:
    monkeypatch.setattr(os, "environ", dict(environment))
    exit_code(lambda: None)
    assert os.environ.get("GOMP_SPINCOUNT") == spins


@pytest.mark.parametrize(
    "encoding",
    ["ascii", "cp932", *(pytest.param(one, marks=pytest.mark.slow) for one in OTHER_ENCODINGS)],
)
def test_every_help_can_be_printed_in_every_encoding(monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    names = [command.name for command in commands(typer.main.get_command(app.app))]
    words = [[], *([name] for name in names if name in typer.main.get_command(app.app).commands), ["weights", "import"]]
    for verb in (*words, ["weights", "list"]):
        streams = [io.TextIOWrapper(io.BytesIO(), encoding=encoding) for _ in range(2)]
        monkeypatch.setattr(sys, "stdout", streams[0])
        monkeypatch.setattr(sys, "stderr", streams[1])
        monkeypatch.setattr(sys, "argv", ["g2s", *verb, *([] if "list" in verb else ["--help"])])
        code = app.run()
        for stream in streams:
            stream.flush()
        assert (code, streams[1].buffer.getvalue()) == (0, b""), verb
        assert len(streams[0].buffer.getvalue().decode(encoding)) > 500


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        (("rotate", "out", "--yaw", "-20", "--yaw", "20"), "--yaw"),
        (("reconstruct", "a.png", "--preset", "fast", "-o", "x", "--preset", "paper"), "--preset"),
        (("weights", "import", "a.pt", "-c", "owls", "--category", "cats"), "--category"),
    ],
)
def test_an_option_of_one_value_is_not_taken_twice(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], option: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["g2s", *arguments])
    assert app.run() == 2
    assert f"{option} is given more than once." in capsys.readouterr().err
