"""Seconds of the steps of a run."""

from __future__ import annotations

import time

import pytest

from g2s_cli.progress import SilentProgress, Stopwatch


def test_seconds_of_repeated_steps_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter((0.0, 1.0, 3.0, 7.0, 15.0))
    monkeypatch.setattr(time, "perf_counter", lambda: next(ticks))
    clock = Stopwatch(SilentProgress(), "load")
    for step in ("albedo", "shape", "albedo"):
        clock.begin(step, 1)
    assert clock.seconds() == {"load": 1.0, "albedo": 2.0 + 8.0, "shape": 4.0}
