"""What people see: words and progress on stderr, paths and data on stdout."""

from __future__ import annotations

import codecs
import io
import json
import os
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.progress import Progress as RichProgress
from rich.table import Table

from g2s_cli.errors import G2SError
from g2s_cli.progress import Progress, SilentProgress
from g2s_cli.weights.download_progress import DownloadProgress, SilentDownload

UNSEEN_WIDTH = 240  # of tables that go to a file
SHOWN_PHASES = 12  # of a training that are over; what is taller than the terminal would flicker
COUNTING_PHOTOS = ("invert", "collect")  # phases of a training that advance by photos, not by steps


def _as_file_names(error: UnicodeError) -> tuple[bytes, int]:
    """What a stream's encoding lacks, as names of files have it: a path that is printed leads to its file."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return os.fsencode(error.object[error.start : error.end]), error.end


codecs.register_error("g2s_file_names", _as_file_names)


def print_any_name() -> None:
    """Let stdout take paths in any encoding, be it not the terminal's, or none."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="g2s_file_names")


class ToPeople:
    """stderr as it is at the moment. One that is full or closed does not stop the work: what it takes is lost."""

    def write(self, text: str) -> int:
        """Write, or fall silent for good."""
        try:
            return sys.stderr.write(text)
        except (OSError, ValueError, AttributeError):
            silence(sys.stderr)
            return len(text)

    def flush(self) -> None:
        """Flush, or fall silent for good."""
        try:
            sys.stderr.flush()
        except (OSError, ValueError, AttributeError):
            silence(sys.stderr)

    def __getattr__(self, name: str) -> Any:
        """All else is stderr's."""
        return getattr(sys.stderr, name)


def silence(stream: Any) -> None:
    """Let a stream that cannot be written to lead nowhere, so that what it still holds is no failure at the end."""
    with suppress(OSError, ValueError, AttributeError), Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), stream.fileno())


class ToResults:
    """stdout as it is at the moment, written at once: one that cannot be written to is said."""

    def write(self, text: str) -> int:
        """Write. Raises G2SError if that cannot be; who stops reading (`| head`) raises as ever."""
        try:
            if sys.stdout is None:
                raise OSError("it is closed")
            sys.stdout.write(text)
            sys.stdout.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            silence(sys.stdout)
            what = f"stdout cannot be written: {error.strerror or error}."
            raise G2SError(what, "What the command has written to files is there.") from error
        return len(text)

    def flush(self) -> None:
        """Nothing waits."""

    def __getattr__(self, name: str) -> Any:
        """All else is stdout's."""
        return getattr(sys.stdout, name)


class Output:
    """Where a command speaks; its -q and -v say how much."""

    def __init__(self) -> None:
        self.people = Console(file=ToPeople(), highlight=False, markup=False, soft_wrap=True)  # type: ignore[arg-type]
        self.quiet = False
        self.verbose = False

    def set(self, *, quiet: bool, verbose: bool) -> None:
        """Take the command's -q and -v."""
        self.quiet, self.verbose = quiet, verbose
        if quiet:
            os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"  # read when huggingface_hub is imported

    def say(self, text: str) -> None:
        """A line for people, unless they asked for quiet."""
        if not self.quiet:
            self.people.print(text)

    def detail(self, text: str) -> None:
        """A line for people who asked for more."""
        if self.verbose:
            self.people.print(text)

    def put(self, line: object) -> None:
        """A line of results."""
        ToResults().write(f"{line}\n")

    def put_json(self, document: dict[str, Any]) -> None:
        """The results as one JSON document."""
        ToResults().write(json.dumps(document, indent=2) + "\n")

    def put_table(self, table: Table) -> None:
        """The results as a table."""
        _wide(ToResults()).print(table)

    def show_table(self, table: Table) -> None:
        """A table for people, unless they asked for quiet."""
        if not self.quiet:
            _wide(ToPeople()).print(table)

    def fail(self, text: str, error: BaseException | None = None) -> None:
        """The last line of a run, or of a photo, that failed; with -v, where it failed comes first."""
        error = error or sys.exception()
        if self.verbose and error is not None:
            self.people.print("".join(traceback.format_exception(error)), end="")
        self.people.print(f"g2s: {text}")

    @contextmanager
    def progress(self, *, brief: bool = False) -> Iterator[Progress]:
        """Follow a run: live on a terminal, a line a step elsewhere, not at all when quiet. brief: no line stays."""
        if self.quiet:
            yield SilentProgress()
            return
        live = LiveProgress(self.people, brief=brief)
        with live.bar:
            yield live
            live.finish()

    @contextmanager
    def training(self, photos_a_step: int) -> Iterator[Progress]:
        """Follow a long training: a live table on a terminal, a line a phase elsewhere, nothing when quiet."""
        if self.quiet:
            yield SilentProgress()
            return
        progress = TrainingTable(self.people, photos_a_step)
        with progress.live:
            yield progress
            progress.finish()

    @contextmanager
    def fetching(self) -> Iterator[DownloadProgress]:
        """Follow downloads: a bar on a terminal, a line elsewhere, nothing when quiet."""
        if self.quiet:
            yield SilentDownload()
            return
        live = LiveFetching(self.people)
        with live.bar:
            yield live


def figure(value: float | None, digits: int = 3) -> str:
    """A figure of a table; a dash where there is none."""
    return "–" if value is None else f"{value:.{digits}f}"


def _wide(stream: Any) -> Console:
    """A console for tables: as wide as they need where nobody looks at a terminal."""
    console = Console(file=stream, highlight=False, markup=False)
    return console if console.is_terminal else Console(file=stream, highlight=False, markup=False, width=UNSEEN_WIDTH)


class LiveFetching:
    """A `Fetching` for people. The Hub's downloads show bars of their own."""

    def __init__(self, console: Console) -> None:
        self.bar = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            DownloadColumn(),
            TransferSpeedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task: TaskID | None = None

    def begin(self, what: str, total: int | None) -> None:
        """Say what comes, and open its bar."""
        self.bar.console.print(f"Fetching {what}.")
        self._task = self.bar.add_task(what, total=total)

    def advance(self, count: int) -> None:
        """Move the bar."""
        if self._task is not None:
            self.bar.advance(self._task, count)


class LiveProgress:
    """A `Watch` for people: a bar with loss and time left for the step at hand, a line for each one done.

    brief: the bar alone, for runs of many photos, whose lines are others.
    """

    def __init__(self, console: Console, *, brief: bool = False) -> None:
        self.brief = brief
        self.bar = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[loss]}"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task: TaskID | None = None
        self._step, self._done, self._loss, self._started = "", 0, 0.0, 0.0

    def begin(self, step: str, total: int) -> None:
        """Close the line of the step before and open this one's bar."""
        self.finish()
        self._task = self.bar.add_task(step, total=total, loss="")
        self._step, self._done, self._loss, self._started = step, 0, 0.0, time.perf_counter()

    def advance(self, done: int, loss: float) -> None:
        """Move the bar."""
        self._done, self._loss = done, loss
        if self._task is not None:
            self.bar.update(self._task, completed=done, loss=f"loss {loss:.4f}" if loss else "")

    def note(self, text: str) -> None:
        """A line above the bar."""
        if not self.brief:
            self.bar.console.print(f"Note: {text}")

    def finish(self) -> None:
        """Replace the current bar by one line that stays."""
        if self._task is None:
            return
        self.bar.remove_task(self._task)
        self._task = None
        if self.brief:
            return
        seconds = time.perf_counter() - self._started
        steps = f"{self._done} iterations" if self._done != 1 else "1 iteration"
        self.bar.console.print(f"{self._step:<28} {steps:>16}   loss {self._loss:.4f} {seconds:8.1f} s")


class TrainingTable:
    """A `Watch` for people: a table with a row a phase, the last one alive.

    photos_a_step: how many photos a step of training has; phases that count photos themselves have one.
    """

    def __init__(self, console: Console, photos_a_step: int) -> None:
        self.console, self.photos_a_step = console, photos_a_step
        self._rows: list[tuple[str, ...]] = []
        self._phase, self._total, self._done, self._begun, self._loss = "", 0, 0, 0, 0.0
        self._started = time.perf_counter()
        self.live: AbstractContextManager[object] = nullcontext()
        if console.is_terminal:
            self.live = Live(console=console, get_renderable=self.table, refresh_per_second=2)

    def begin(self, step: str, total: int) -> None:
        """Close the row of the phase before and open this one's."""
        self.finish()
        self._phase, self._total, self._done, self._begun, self._loss = step, total, 0, -1, 0.0
        self._started = time.perf_counter()

    def advance(self, done: int, loss: float) -> None:
        """Move on. A run that is taken up again begins in the middle."""
        if self._begun < 0:
            self._begun = done - 1
        self._done, self._loss = done, loss

    def note(self, text: str) -> None:
        """A line above the table."""
        self.console.print(f"Note: {text}")

    def finish(self) -> None:
        """Keep the row as it is; where no terminal shows it, print it."""
        if not self._phase:
            return
        self._rows.append(self._row())
        if not self.console.is_terminal:
            phase, steps, loss, seconds, speed = self._rows[-1]
            self.console.print(f"{phase:<20} {steps:>12}   loss {loss:>8} {seconds:>9} s {speed:>8} photos/s")
        self._phase = ""

    def _row(self) -> tuple[str, ...]:
        seconds = time.perf_counter() - self._started
        by_photos = self._phase.endswith(COUNTING_PHOTOS)
        photos = self._done if by_photos else self.photos_a_step * (self._done - max(0, self._begun))
        loss = "" if by_photos else f"{self._loss:.4f}"
        return self._phase, f"{self._done}/{self._total}", loss, f"{seconds:.1f}", f"{photos / seconds:.2f}"

    def table(self) -> Table:
        """The latest phases as they are now."""
        table = Table("phase", "step", "loss", "seconds", "photos a second", box=None)
        for row in [*self._rows[-SHOWN_PHASES:], *([self._row()] if self._phase else [])]:
            table.add_row(*row)
        return table


# One a process, as stdout and stderr are.
output = Output()
