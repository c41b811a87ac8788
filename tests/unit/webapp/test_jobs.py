"""The web app's queue and its folders."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from threading import Event

import pytest
import torch

from g2s_cli.errors import ImageError, StoppedError, UsageError
from g2s_cli.webapp import jobs as module
from g2s_cli.webapp.jobs import Job, JobProgress, Jobs


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[Jobs]:
    with Jobs(tmp_path / "jobs", max_jobs=3) as jobs:
        yield jobs


def until(event: Event, folder: Path, progress: JobProgress) -> None:
    """Work of one step, which ends with the event, or when the job is stopped."""
    progress.begin("wait", 1)
    while not event.wait(0.01):
        progress.advance(0, 0.0)
    (folder / "mesh.glb").write_text("glTF")


def finished(jobs: Jobs) -> Job:
    (event := Event()).set()
    job = jobs.submit(partial(until, event))
    assert list(jobs.watch(job))
    return job


def test_of_ten_at_once_some_wait_in_order_and_the_others_get_a_sentence(jobs: Jobs) -> None:
    event, taken, refused = Event(), [], []
    for _ in range(10):
        try:
            taken.append(jobs.submit(partial(until, event)))
        except UsageError as error:
            refused.append(str(error))
    assert refused == ["This server works on 3 photos already. Try again in a minute."] * 7
    watched = [jobs.watch(job) for job in taken]
    assert [next(states).ahead for states in watched] == [0, 1, 2]
    event.set()
    for job, states in zip(taken, watched, strict=True):
        list(states)
        assert (job.folder / "mesh.glb").is_file()
    finished(jobs)


def test_a_listener_that_goes_away_stops_its_job_and_the_next_one_runs(jobs: Jobs) -> None:
    job = jobs.submit(partial(until, Event()))
    states = jobs.watch(job)
    while not next(states).steps:
        pass
    states.close()  # type: ignore[attr-defined]
    finished(jobs)
    assert isinstance(job.future.exception(), StoppedError)


def test_a_failure_is_its_own_job_s(jobs: Jobs) -> None:
    def fail(folder: Path, progress: JobProgress) -> None:
        progress.note("soon")
        raise ImageError("face.png is damaged.")

    with pytest.raises(ImageError, match="damaged"):
        list(jobs.watch(jobs.submit(fail)))
    finished(jobs)


def test_a_state_has_steps_values_notes_and_the_latest_pictures() -> None:
    progress = JobProgress()
    progress.begin("load", 1)
    progress.begin("invert", 100)
    progress.advance(7, 0.25)
    progress.note("A note.")
    for value in (0.0, 1.0):
        progress.picture("shape", torch.full((3, 2, 2), value))
    state = progress.state
    assert [(step.name, step.done, step.total, step.value) for step in state.steps] == [
        ("load", 0, 1, 0.0),
        ("invert", 7, 100, 0.25),
    ]
    assert state.notes == ("A note.",)
    assert state.pictures["shape"].eq(1).all()


def test_the_end_of_the_server_stops_what_runs_and_what_waits(tmp_path: Path) -> None:
    with Jobs(tmp_path, max_jobs=2) as jobs:
        running, waiting = (jobs.submit(partial(until, Event())) for _ in range(2))
    assert running.future.done()
    assert waiting.future.cancelled()


def test_only_files_of_the_folder_of_a_finished_job_are_found(jobs: Jobs, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    job, other = finished(jobs), finished(jobs)
    (job.folder / "link").symlink_to(secret)
    (job.folder / "inner").mkdir()
    (job.folder / "inner" / "file").touch()
    assert jobs.file(job.name, "mesh.glb") == job.folder / "mesh.glb"
    for name in ("link", "..", ".", "", "inner", "inner/file", f"../{other.name}/mesh.glb", str(secret), "missing"):
        assert jobs.file(job.name, name) is None, name
    for name in ("..", ".", "", f"{job.name}/inner", str(tmp_path)):
        assert jobs.file(name, "secret") is None, name
        assert jobs.file(name, "file") is None, name
    running = jobs.submit(partial(until, Event()))
    (running.folder / "mesh.glb").touch()
    assert jobs.file(running.name, "mesh.glb") is None
    running.stop()


def test_old_folders_are_deleted(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_FOLDERS", 2)
    done = [finished(jobs) for _ in range(4)]
    assert [job.folder.exists() for job in done] == [False, True, True, True]
    monkeypatch.setattr(module, "MAX_AGE_S", 0.0)
    finished(jobs)
    assert not any(job.folder.exists() for job in done)
    assert jobs.find(done[-1].name) is None
