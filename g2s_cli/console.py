"""Console output: messages and progress on stderr, paths and data on stdout."""

from __future__ import annotations

import codecs
import io
import json
import os
import sys
import time
import traceback
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxtyping import Float
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    ProgressColumn,
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

if TYPE_CHECKING:
    from torch import Tensor

FILE_WIDTH = 240  # columns of a table that goes to a file
PHOTO_PHASES = ("invert", "collect")  # phases of a training that advance by photos, not by steps


# Signs of our texts that not every encoding has, where Unicode's own decomposition does not help.
PLAIN_SIGNS = {"·": "-", "→": "->", "–": "-", "×": "x", "±": "+-", "ψ": "psi", "°": " deg", "…": "...", "⁻": "-"}


def _encode_plainly(error: UnicodeError) -> tuple[str | bytes, int]:
    """An encoding error handler: undecodable bytes of file names as they are, other characters as similar ones."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    character, end = error.object[error.start], error.start + 1
    if "\udc80" <= character <= "\udcff":  # of the handler "surrogateescape"
        return bytes([ord(character) & 0xFF]), end
    similar = PLAIN_SIGNS.get(character) or unicodedata.normalize("NFKD", character)
    return similar.encode("ascii", "ignore").decode() or "?", end


codecs.register_error("g2s_plain", _encode_plainly)


def allow_any_text() -> None:
    """Make stdout and stderr accept every text, whatever their encoding."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="g2s_plain")


def _as_file_names(text: str) -> str:
    """The text with characters that stdout lacks as the bytes by which the file system knows them."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError as error:
        with suppress(UnicodeEncodeError):  # then no file has such a name
            name = os.fsencode(error.object[error.start : error.end]).decode("ascii", "surrogateescape")
            return text[: error.start] + name + _as_file_names(text[error.end :])
    return text


class _Stderr:
    """The current sys.stderr. If it is full or closed, text is dropped and the run goes on."""

    def write(self, text: str) -> int:
        with _dropping():
            sys.stderr.write(text)
        return len(text)

    def flush(self) -> None:
        with _dropping():
            sys.stderr.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.stderr, name)


@contextmanager
def _dropping() -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, AttributeError):
        _redirect_to_devnull(sys.stderr)


def _write_stdout(text: str) -> None:
    """Write and flush. A failure raises G2SError; a closed pipe (`| head`) BrokenPipeError, as usual."""
    try:
        if sys.stdout is None:
            raise OSError("it is closed")
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        _redirect_to_devnull(sys.stdout)
        what = f"stdout cannot be written: {error.strerror or error}."
        raise G2SError(what, "The files that the command has written are complete.") from error


def _redirect_to_devnull(stream: Any) -> None:
    """Redirect a stream that cannot be written, so that Python's flush at exit does not fail."""
    with suppress(OSError, ValueError, AttributeError), Path(os.devnull).open("wb") as devnull:
        os.dup2(devnull.fileno(), stream.fileno())


class Output:
    """A command's output, as its options -q, -v and --json set it."""

    def __init__(self) -> None:
        self.console = Console(file=_Stderr(), highlight=False, markup=False, soft_wrap=True)  # type: ignore[arg-type]
        self.quiet = self.verbose = self.as_json = self.has_document = False

    def set(self, *, quiet: bool = False, verbose: bool = False, as_json: bool = False) -> None:
        """Set the command's -q, -v and --json."""
        self.quiet, self.verbose, self.as_json, self.has_document = quiet, verbose, as_json, False
        if quiet:
            os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"  # read when huggingface_hub is imported

    def info(self, text: str) -> None:
        """Print a line on stderr, except with -q."""
        if not self.quiet:
            self.console.print(text)

    def debug(self, text: str) -> None:
        """Print a line on stderr with -v."""
        if self.verbose:
            self.console.print(text)

    def info_table(self, table: Table) -> None:
        """Print a table on stderr, except with -q."""
        if not self.quiet:
            _table_console(_Stderr()).print(table)

    def error(self, text: str, error: BaseException | None = None) -> None:
        """Print an error message on stderr; with -v, the traceback of `error` or of the current exception first."""
        error = error or sys.exception()
        if self.verbose and error is not None:
            self.console.print("".join(traceback.format_exception(error)), end="")
        self.console.print(f"g2s: {text}")

    def print(self, line: object) -> None:
        """Print a line on stdout, with names of files as the file system has them."""
        _write_stdout(_as_file_names(f"{line}\n"))

    def print_json(self, document: dict[str, Any]) -> None:
        """Print a JSON document on stdout."""
        self.has_document = True
        _write_stdout(json.dumps(document, indent=2) + "\n")

    def print_table(self, table: Table) -> None:
        """Print a table on stdout."""
        console = _table_console(sys.stdout)
        with console.capture() as capture:
            console.print(table)
        _write_stdout(capture.get())

    def print_result(self, lines: Sequence[object], document: dict[str, Any]) -> None:
        """Print a command's result on stdout: `document` with --json, else `lines`."""
        if self.as_json:
            self.print_json(document)
            return
        for line in lines:
            self.print(line)

    def print_failure(self, error: G2SError, exit_code: int | None = None) -> None:
        """With --json, print an error as the one document on stdout, unless the command has printed its own."""
        if self.as_json and not self.has_document:
            with suppress(G2SError, OSError):  # stdout may be what failed
                self.print_json(error.document(exit_code))

    @contextmanager
    def progress(self, *, brief: bool = False, photos_a_step: int = 0) -> Iterator[Progress]:
        """Show a run: a live bar on a terminal, a line a step elsewhere, nothing with -q. Args as for `StepBar`."""
        if self.quiet:
            yield SilentProgress()
            return
        steps = StepBar(self.console, brief=brief, photos_a_step=photos_a_step)
        with steps.bar:
            yield steps
            steps.finish()

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Print the line of a step that takes more than a second."""
        started = time.perf_counter()
        yield
        if (seconds := time.perf_counter() - started) > 1:
            self.info(step_line(name, "", "", seconds))

    @contextmanager
    def fetching(self) -> Iterator[DownloadProgress]:
        """Show downloads: a bar on a terminal, a line elsewhere, nothing with -q."""
        if self.quiet:
            yield SilentDownload()
            return
        fetching = FetchingBar(self.console)
        with fetching.bar:
            yield fetching


def step_line(name: str, iterations: str, value: str, seconds: float) -> str:
    """The line that a finished step leaves."""
    return f"{name:<28} {iterations:>16}   {value:<11} {seconds:8.1f} s"


def format_number(value: float | None, digits: int = 3) -> str:
    """A number of a table; a dash for None."""
    return "–" if value is None else f"{value:.{digits}f}"


def _table_console(stream: Any) -> Console:
    """A console for tables, which is wide enough for every column unless it is a terminal."""
    console = Console(file=stream, highlight=False, markup=False)
    return console if _is_terminal(console) else Console(file=stream, highlight=False, markup=False, width=FILE_WIDTH)


def _is_terminal(console: Console) -> bool:
    """Whether a console writes to a terminal. rich also takes a file for one, if FORCE_COLOR is set."""
    try:
        return console.is_terminal and console.file.isatty()
    except (AttributeError, ValueError):  # it is closed
        return False


def _bar(console: Console, *columns: ProgressColumn) -> RichProgress:
    """A bar that disappears when it is done, and that only terminals show."""
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), *columns)
    return RichProgress(*columns, console=console, transient=True, disable=not _is_terminal(console))


class FetchingBar:
    """A `Fetching` listener: a line and a bar for each download. The Hub's downloads show bars of their own."""

    def __init__(self, console: Console) -> None:
        self.bar = _bar(console, DownloadColumn(), TransferSpeedColumn())
        self._task: TaskID | None = None

    def begin(self, what: str, total: int | None) -> None:
        """Print a line, and show the download's bar."""
        size = f", {total / 1e6:,.0f} MB" if total else ""
        self.bar.console.print(f"Fetching {what}{size}.")
        self._task = self.bar.add_task(what, total=total)

    def advance(self, count: int) -> None:
        """Move the bar by `count` bytes."""
        if self._task is not None:
            self.bar.advance(self._task, count)


class StepBar:
    """A `Progress` listener: a bar with the step's value and the time left; each finished step leaves a line.

    Args:
        console: where it is shown.
        brief: show the bar alone, for runs of many photos, which print lines of their own.
        photos_a_step: the batch size of a training, whose lines show its speed. 0: no training.
    """

    def __init__(self, console: Console, *, brief: bool = False, photos_a_step: int = 0) -> None:
        self.brief, self.photos_a_step = brief, photos_a_step
        self.bar = _bar(console, MofNCompleteColumn(), TextColumn("{task.fields[value]}"), TimeRemainingColumn())
        self._task: TaskID | None = None
        self._name, self._quantity, self._value = "", "", ""
        self._first, self._done, self._started = 0, 0, 0.0

    def begin(self, name: str, total: int, quantity: str = "loss") -> None:
        """Finish the step before, and show this one's bar."""
        self.finish()
        self._task = self.bar.add_task(name, total=total, value="")
        self._name, self._quantity, self._value = name, quantity, ""
        self._first, self._done, self._started = -1, 0, time.perf_counter()

    def advance(self, done: int, value: float) -> None:
        """Move the bar. A value of 0 is not shown: the step has none."""
        if self._first < 0:
            self._first = done - 1  # a resumed training begins in the middle
        self._done, self._value = done, f"{self._quantity} {value:.4f}" if value else ""
        if self._task is not None:
            self.bar.update(self._task, completed=done, value=self._value)

    def note(self, text: str) -> None:
        """Print a line above the bar."""
        if not self.brief:
            self.bar.console.print(f"Note: {text}")

    def picture(self, name: str, image: Float[Tensor, "3 h w"]) -> None:
        """Ignore: a terminal shows no pictures."""

    def finish(self) -> None:
        """Replace the bar with a line."""
        if self._task is None:
            return
        self.bar.remove_task(self._task)
        self._task = None
        if self.brief or not self._done:  # a step without iterations did nothing
            return
        seconds = time.perf_counter() - self._started
        several = self._done > 1  # else there is no count, and no value that falls
        line = step_line(self._name, f"{self._done} iterations" * several, self._value * several, seconds)
        if self.photos_a_step:
            by_photos = self._name.endswith(PHOTO_PHASES)
            photos = self._done if by_photos else self.photos_a_step * (self._done - max(0, self._first))
            line += f" {photos / seconds:8.2f} photos/s"
        self.bar.console.print(line)


output = Output()  # one a process, like stdout and stderr
