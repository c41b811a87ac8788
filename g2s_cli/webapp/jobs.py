"""Jobs of the web app: they wait in a queue, run one at a time, and each writes into a temporary folder of its own."""

from __future__ import annotations

import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import TYPE_CHECKING

from jaxtyping import Float

from g2s_cli.errors import StoppedError, UsageError

if TYPE_CHECKING:
    from torch import Tensor

Work = Callable[[Path, "JobProgress"], None]  # fills a job's folder

POLL_S = 0.2  # between two states of a job that a page shows
MAX_FOLDERS, MAX_AGE_S = 20, 3600.0  # of finished jobs


@dataclass(frozen=True)
class Step:
    """A step of a run. quantity, value: what was measured last, "" for nothing."""

    name: str
    total: int
    done: int = 0
    quantity: str = ""
    value: float = 0.0


@dataclass(frozen=True)
class JobState:
    """What a page shows of a job.

    ahead: jobs that run or wait before it.
    pictures: intermediate pictures in [-1, 1], by name.
    """

    ahead: int = 0
    steps: tuple[Step, ...] = ()
    notes: tuple[str, ...] = ()
    pictures: dict[str, Tensor] = field(default_factory=dict)


class JobProgress:
    """A `Progress` listener that keeps a job's state, and stops the run when nobody waits for it any more."""

    def __init__(self) -> None:
        self.state = JobState()
        self.stopped = False

    def begin(self, name: str, total: int, quantity: str = "loss") -> None:
        """Append a step. Raises StoppedError."""
        self._update(steps=(*self.state.steps, Step(name, total, quantity=quantity)))

    def advance(self, done: int, value: float) -> None:
        """Change the last step. Raises StoppedError."""
        *before, last = self.state.steps
        self._update(steps=(*before, replace(last, done=done, value=value)))

    def note(self, text: str) -> None:
        """Append a sentence. Raises StoppedError."""
        self._update(notes=(*self.state.notes, text))

    def picture(self, name: str, image: Float[Tensor, "3 h w"]) -> None:
        """Add or replace a picture. Raises StoppedError."""
        self._update(pictures=self.state.pictures | {name: image.detach().cpu()})

    def _update(self, **changes: object) -> None:
        if self.stopped:
            raise StoppedError("The job was stopped.")
        self.state = replace(self.state, **changes)  # type: ignore[arg-type]


@dataclass(frozen=True, eq=False)
class Job:
    """One run. name: random, so that nobody can guess another's."""

    name: str
    folder: Path
    progress: JobProgress
    future: Future[None]
    began_s: float = field(default_factory=time.monotonic)

    def stop(self) -> None:
        """Cancel it if it waits, and end it at its next iteration if it runs."""
        self.progress.stopped = True
        self.future.cancel()


class Jobs:
    """The jobs of a server. As a context it stops them all at its end.

    Args:
        root: folder of the jobs' folders.
        max_jobs: that run or wait at a time; more are refused.
    """

    def __init__(self, root: Path, max_jobs: int) -> None:
        self.root, self.max_jobs = root, max_jobs
        self._jobs: dict[str, Job] = {}
        self._lock = Lock()
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="g2s-job")

    def __enter__(self) -> Jobs:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for job in self._jobs.values():
            job.stop()
        self._worker.shutdown(cancel_futures=True)

    def submit(self, work: Work) -> Job:
        """Append work to the queue.

        Raises:
            UsageError: `max_jobs` run or wait already.
        """
        with self._lock:
            if len(self._unfinished()) >= self.max_jobs:
                count = "a photo" if self.max_jobs == 1 else f"{self.max_jobs} photos"
                raise UsageError(f"This server works on {count} already.", "Try again in a minute.")
            self._delete_old()
            name = secrets.token_urlsafe(16)
            folder, progress = self.root / name, JobProgress()
            folder.mkdir(parents=True)
            self._jobs[name] = Job(name, folder, progress, self._worker.submit(work, folder, progress))
            return self._jobs[name]

    def watch(self, job: Job) -> Iterator[JobState]:
        """The states of a job until it is done. A listener that goes away stops the job.

        Raises:
            Exception: what the job raised; StoppedError if it was stopped.
        """
        shown: tuple[JobState, int] | None = None
        try:
            while not job.future.done():
                state, ahead = job.progress.state, self._ahead(job)
                if shown is None or state is not shown[0] or ahead != shown[1]:
                    shown = state, ahead
                    yield replace(state, ahead=ahead)
                wait([job.future], timeout=POLL_S)
            if job.future.cancelled():
                raise StoppedError("The job was stopped.")
            job.future.result()
            yield job.progress.state
        finally:
            job.stop()

    def find(self, name: str) -> Job | None:
        """A finished job by its name."""
        job = self._jobs.get(name)
        return job if job and job.future.done() else None

    def file(self, name: str, file: str) -> Path | None:
        """A file of a finished job's folder itself; None for anything else, links among it."""
        job = self.find(name)
        path = job.folder / file if job and Path(file).name == file else None
        return path if path and path.is_file() and not path.is_symlink() else None

    def _ahead(self, job: Job) -> int:
        return sum(other.began_s < job.began_s for other in self._unfinished())

    def _unfinished(self) -> list[Job]:
        return [job for job in list(self._jobs.values()) if not job.future.done()]

    def _delete_old(self) -> None:
        """Delete the folders of finished jobs beyond the newest ones, and of old ones."""
        finished = sorted((job for job in self._jobs.values() if job.future.done()), key=lambda job: -job.began_s)
        oldest_s = time.monotonic() - MAX_AGE_S
        for job in [*finished[MAX_FOLDERS:], *(job for job in finished[:MAX_FOLDERS] if job.began_s < oldest_s)]:
            del self._jobs[job.name]
            shutil.rmtree(job.folder, ignore_errors=True)
