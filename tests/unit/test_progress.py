"""Seconds of the steps of a run."""

from __future__ import annotations

import time

import pytest

from g2s_cli.progress import SilentProgress, Stopwatch, rounded_seconds


def test_seconds_of_repeated_steps_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter((0.0, 1.0, 3.0, 7.0, 15.0))
    monkeypatch.setattr(time, "perf_counter", lambda: next(ticks))
    clock = Stopwatch(SilentProgress(), "load")
    for step in ("albedo", "shape", "albedo"):
        clock.begin(step, 1)
    assert clock.seconds() == {"load": 1.0, "albedo": 2.0 + 8.0, "shape": 4.0}


def test_the_total_is_the_wall_time_of_a_command_where_it_is_known() -> None:
    assert rounded_seconds({"load": 1.0, "mesh": 2.5}) == {"load": 1.0, "mesh": 2.5, "total": 3.5}
    timed = rounded_seconds({"load": 1.0, "mesh": 2.5}, wall_s=7.0)
    assert timed == {"start": 3.5, "load": 1.0, "mesh": 2.5, "total": 7.0}
