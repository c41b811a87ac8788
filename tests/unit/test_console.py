"""Messages, progress and results: which stream each goes to, and how -q and -v change it."""

from __future__ import annotations

import io
import itertools
import os
from types import SimpleNamespace

import pytest
from rich.console import Console
from rich.table import Table

from g2s_cli.console import Output, StepBar, allow_any_text
from g2s_cli.errors import try_call
from g2s_cli.progress import Progress


@pytest.fixture
def output() -> Output:
    return Output()


def run(progress: Progress) -> None:
    progress.begin("albedo", 30)
    progress.advance(10, 0.5)
    progress.advance(30, 0.25)
    progress.note("Half way [there].")
    progress.begin("depth", 5, "residual")
    progress.advance(5, 0.125)
    progress.begin("sample", 1)
    progress.advance(1, 0.0)


def test_away_from_a_terminal_each_step_is_a_line(output: Output, capsys: pytest.CaptureFixture[str]) -> None:
    with output.progress() as progress:
        run(progress)
    stdout, stderr = capsys.readouterr()
    assert stdout == ""
    note, *steps = stderr.splitlines()
    assert note == "Note: Half way [there]."
    albedo, depth, sample = (step.split() for step in steps)
    assert albedo[:5] == ["albedo", "30", "iterations", "loss", "0.2500"]
    assert depth[:5] == ["depth", "5", "iterations", "residual", "0.1250"]
    assert sample[:1] + sample[2:] == ["sample", "s"]  # neither count nor value


def test_a_step_that_did_nothing_is_not_shown(output: Output, capsys: pytest.CaptureFixture[str]) -> None:
    with output.progress() as progress:
        progress.begin("albedo", 0)
        progress.begin("depth", 3)
        progress.advance(3, 0.5)
    assert [line.split()[0] for line in capsys.readouterr().err.splitlines()] == ["depth"]


def test_a_terminal_shows_a_bar_with_the_value_and_the_time_left() -> None:
    screen = io.StringIO()
    screen.isatty = lambda: True
    steps = StepBar(Console(file=screen, force_terminal=True, width=120, markup=False))
    with steps.bar:
        steps.begin("depth", 5, "residual")
        steps.advance(5, 0.125)
        steps.bar.refresh()
        for shown in ("5/5", "residual 0.1250", "0:00:00"):
            assert shown in screen.getvalue()


def test_a_log_has_no_bars_and_whole_tables_whatever_the_environment(
    output: Output, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TTY_INTERACTIVE", "1")
    output = Output()
    with output.progress() as progress:
        run(progress)
    table = Table("photo", box=None)
    table.add_row("a" * 200)
    output.print_table(table)
    stdout, stderr = capsys.readouterr()
    assert len(stderr.splitlines()) == 4
    assert "\x1b[2K" not in stderr  # which erases a line
    assert "a" * 200 in stdout


TEXT = "Zażółć · 1→2 – ±3° ψ λ 顔 лицо é ² ₁ √ ▶ ─ \udcff"


@pytest.mark.parametrize("errors", ["strict", "surrogateescape"])
@pytest.mark.parametrize("encoding", ["ascii", "iso-8859-2", "iso-8859-5", "euc-jp", "cp932", "cp1252", "utf-8"])
def test_every_text_can_be_printed_in_every_encoding(
    monkeypatch: pytest.MonkeyPatch, encoding: str, errors: str
) -> None:
    streams = [io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors=errors) for _ in range(2)]
    monkeypatch.setattr("sys.stdout", streams[0])
    monkeypatch.setattr("sys.stderr", streams[1])
    allow_any_text()
    output = Output()
    output.error(TEXT)
    output.print_json({"name": TEXT})
    output.print_table(Table(TEXT))
    output.print_result([TEXT], {})
    streams[0].write(TEXT)
    for stream in streams:
        stream.flush()
    written = streams[0].buffer.getvalue()
    assert written.endswith(b"\xff")
    last_line = written.splitlines()[-1].decode(encoding, "replace")
    for sign, similar in (("·", "-"), ("→", "->"), ("²", "2")):
        assert sign in last_line or similar in last_line


def test_file_names_are_printed_as_the_file_system_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="iso-8859-2")
    monkeypatch.setattr("sys.stdout", stream)
    allow_any_text()
    Output().print("顔/ż/лицо.png")
    assert stream.buffer.getvalue() == os.fsencode("顔/") + "ż".encode("iso-8859-2") + os.fsencode("/лицо.png\n")


def test_a_training_shows_photos_per_second(
    output: Output, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = itertools.count()
    monkeypatch.setattr("g2s_cli.console.time", SimpleNamespace(perf_counter=lambda: float(next(ticks))))
    with output.progress(photos_a_step=4) as progress:
        progress.begin("invert", 7)
        progress.advance(7, 0.0)
        progress.begin("cycle 1, shape", 20)
        progress.advance(12, 0.5)  # resumed at the 12th
        progress.advance(20, 0.25)
    stdout, stderr = capsys.readouterr()
    assert stdout == ""
    invert, shape = (line.split() for line in stderr.splitlines())
    assert invert == ["invert", "7", "iterations", "1.0", "s", "7.00", "photos/s"]
    assert shape[2:] == ["shape", "20", "iterations", "loss", "0.2500", "1.0", "s", "36.00", "photos/s"]  # 9 steps of 4


def test_quiet_prints_results_alone(output: Output, capsys: pytest.CaptureFixture[str]) -> None:
    output.set(quiet=True, verbose=False)
    with output.progress() as progress:
        run(progress)
    output.info("Done.")
    assert capsys.readouterr() == ("", "")
    output.print("out/")
    assert capsys.readouterr() == ("out/\n", "")


def test_a_step_that_fails_leaves_no_line(output: Output, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyboardInterrupt), output.progress() as progress:
        progress.begin("albedo", 30)
        raise KeyboardInterrupt
    assert capsys.readouterr().err.strip() == ""


def test_brief_progress_leaves_no_lines(output: Output, capsys: pytest.CaptureFixture[str]) -> None:
    with output.progress(brief=True) as progress:
        run(progress)
    assert capsys.readouterr() == ("", "")


def test_info_tables_go_to_stderr_at_full_width_unless_quiet(
    output: Output, capsys: pytest.CaptureFixture[str]
) -> None:
    table = Table("photo", "folder", box=None)
    table.add_row("a" * 100, "b" * 100)
    output.info_table(table)
    stdout, stderr = capsys.readouterr()
    assert stdout == ""
    assert stderr.splitlines()[1].split() == ["a" * 100, "b" * 100]
    output.set(quiet=True, verbose=False)
    output.info_table(table)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("verbose", [False, True])
def test_verbose_prints_the_traceback_of_a_caught_error(
    output: Output, capsys: pytest.CaptureFixture[str], verbose: bool
) -> None:
    output.set(quiet=True, verbose=verbose)
    output.error("a.png failed.", try_call(int, "twelve"))
    stderr = capsys.readouterr().err
    assert stderr.splitlines()[-1] == "g2s: a.png failed."
    assert ("Traceback" in stderr and "twelve" in stderr) == verbose
