"""Errors become exit codes in one place."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

import pytest
import torch

from g2s_cli import app
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


def test_verbose_shows_the_traceback(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert raised(monkeypatch, ZeroDivisionError("division by zero"), "-v") == 1
    stderr = capsys.readouterr().err
    assert "Traceback" in stderr
    assert "with -v" not in stderr


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
