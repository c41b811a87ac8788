"""What is said on which stream, and how much."""

from __future__ import annotations

import io
import itertools
from types import SimpleNamespace

import pytest
from rich.console import Console
from rich.table import Table

from g2s_cli.console import LiveProgress, Output, TrainingTable
from g2s_cli.errors import try_call
from g2s_cli.progress import Progress


def run(progress: Progress) -> None:
    progress.begin("albedo", 30)
    progress.advance(10, 0.5)
    progress.advance(30, 0.25)
    progress.note("Half way [there].")
    progress.begin("shape", 5)
    progress.advance(5, 0.125)


def test_away_from_a_terminal_a_step_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    with Output().progress() as progress:
        run(progress)
    stdout, stderr = capsys.readouterr()
    assert stdout == ""
    note, albedo, shape = stderr.splitlines()
    assert note == "Note: Half way [there]."
    assert albedo.split()[:5] == ["albedo", "30", "iterations", "loss", "0.2500"]
    assert shape.split()[:5] == ["shape", "5", "iterations", "loss", "0.1250"]


def test_on_a_terminal_there_is_a_bar_with_loss_and_time_left() -> None:
    screen = io.StringIO()
    live = LiveProgress(Console(file=screen, force_terminal=True, width=120, markup=False))
    with live.bar:
        run(live)
        live.bar.refresh()
        shown = screen.getvalue()
        assert "5/5" in shown
        assert "loss 0.1250" in shown
        assert "0:00:00" in shown


def test_quiet_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    output = Output()
    output.set(quiet=True, verbose=False)
    with output.progress() as progress:
        run(progress)
    output.say("Done.")
    assert capsys.readouterr() == ("", "")
    output.put("out/")
    assert capsys.readouterr().out == "out/\n"


def test_a_watch_that_a_failure_cuts_short_leaves_no_line_for_the_step(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyboardInterrupt), Output().progress() as progress:
        progress.begin("albedo", 30)
        raise KeyboardInterrupt
    assert capsys.readouterr().err.strip() == ""


def test_a_brief_watch_leaves_no_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with Output().progress(brief=True) as progress:
        run(progress)
    assert capsys.readouterr() == ("", "")


def test_tables_for_people_go_to_stderr_unless_they_asked_for_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    table, output = Table("photo", "folder", box=None), Output()
    table.add_row("a" * 100, "b" * 100)
    output.show_table(table)
    stdout, stderr = capsys.readouterr()
    assert stdout == ""
    assert stderr.splitlines()[1].split() == ["a" * 100, "b" * 100]
    output.set(quiet=True, verbose=False)
    output.show_table(table)
    assert capsys.readouterr() == ("", "")


def test_verbose_shows_where_an_error_that_is_over_came_from(capsys: pytest.CaptureFixture[str]) -> None:
    error, output = try_call(int, "twelve"), Output()
    for verbose in (False, True):
        output.set(quiet=True, verbose=verbose)
        output.fail("a.png failed.", error)
        stderr = capsys.readouterr().err
        assert stderr.splitlines()[-1] == "g2s: a.png failed."
        assert ("Traceback" in stderr and "twelve" in stderr) == verbose


def train(progress: Progress) -> None:
    progress.begin("invert", 7)
    progress.advance(7, 0.0)
    progress.begin("cycle 1, shape", 20)
    progress.advance(12, 0.5)  # taken up again at the 12th
    progress.advance(20, 0.25)


def test_a_training_is_a_table_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = itertools.count()
    monkeypatch.setattr("g2s_cli.console.time", SimpleNamespace(perf_counter=lambda: float(next(ticks))))
    screen = io.StringIO()
    table = TrainingTable(Console(file=screen, force_terminal=True, width=120, markup=False), photos_a_step=4)
    train(table)
    shown = Console(file=screen, width=120)
    shown.print(table.table())
    header, invert, shape = screen.getvalue().splitlines()
    assert header.split() == ["phase", "step", "loss", "seconds", "photos", "a", "second"]
    assert invert.split() == ["invert", "7/7", "1.0", "7.00"]
    assert shape.split() == ["cycle", "1,", "shape", "20/20", "0.2500", "1.0", "36.00"]  # 9 steps of 4 photos


def test_a_training_is_a_line_a_phase_elsewhere(capsys: pytest.CaptureFixture[str]) -> None:
    with Output().training(4) as progress:
        train(progress)
    stdout, stderr = capsys.readouterr()
    assert stdout == ""
    invert, shape = stderr.splitlines()
    assert invert.split()[:2] == ["invert", "7/7"]
    assert shape.split()[:6] == ["cycle", "1,", "shape", "20/20", "loss", "0.2500"]
