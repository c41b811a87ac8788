"""Many photos: their list, their result folders, and the outcome of each.

A run that was stopped resumes by the same command: a result of the same photo (by its hash) and settings is kept.
"""

from __future__ import annotations

import json
import os
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from g2s_cli.atomic_folder import check_file_target, check_target, max_name_bytes, parent_folders
from g2s_cli.errors import G2SError, UsageError, as_g2s_error, try_call
from g2s_cli.executors.execution import Executor
from g2s_cli.files import atomic_write, read_json, sha256_of_input
from g2s_cli.mesh.options import MeshOptions
from g2s_cli.photo.decode import list_images
from g2s_cli.result.read import read_report
from g2s_cli.result.schema import REPORT, STATE, Result, missing_files
from g2s_cli.result.write import ResultFiles, write_result

SUMMARY = "g2s-summary.json"
FIGURES = ("inversion_psnr_db", "reconstruction_psnr_db", "warnings")

State = Literal["made", "kept", "failed"]


@dataclass(frozen=True)
class Job:
    """A photo, and the folder of its result."""

    photo: Path
    folder: Path


@dataclass(frozen=True)
class Outcome:
    """The outcome of a job: its result was made now, kept from an earlier run, or failed with an error."""

    job: Job
    state: State
    report: dict[str, Any]
    error: Exception | None = None


def find_photos(arguments: Sequence[Path]) -> tuple[list[Path], list[str]]:
    """The photos of files and folders.

    Returns:
        The photos, each once; of a folder its images in natural order, without hidden files and sub-folders.
        Notes on files that were left out.

    Raises:
        UsageError: A folder has no images, or cannot be read.
    """
    photos: dict[Path, Path] = {}
    notes = []
    for argument in arguments:
        paths = [argument]
        if argument.is_dir():
            try:
                images, others = list_images(argument)
            except OSError as error:
                raise UsageError(f"{argument} cannot be read: {error.strerror}.", "Allow it, or name files.") from error
            paths = sorted(images, key=_natural_key)
            if not paths:
                raise UsageError(f"{argument} has no images.", "Name a folder with JPEG or PNG files, or the files.")
            if others:
                notes.append(
                    f"Not taken for photos: {', '.join(str(path) for path in sorted(others, key=_natural_key))}."
                )
        for path in paths:
            if photos.setdefault(path.resolve(), path) is not path:
                notes.append(f"{path} is named more than once, and taken once.")
    return list(photos.values()), notes


def make_jobs(photos: Sequence[Path], out: Path) -> list[Job]:
    """A job for each photo, with a folder in `out` named after its stem; repeated stems get -2, -3, ...

    Stems that are too long for the file system are cut.

    Raises:
        UsageError: `out` is a file, or the result of one photo, or cannot be written to.
        G2SError: The disk is full.
    """
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file.", "Name a folder with -o.")
    if (out / STATE).is_file():
        raise UsageError(f"{out} is the result of one photo.", "Name another folder with -o for those of many.")
    check_file_target(out / SUMMARY)
    limit = max_name_bytes(out)
    stems = [_shorten(_stem(photo), limit) for photo in photos]
    known, taken, jobs = {_compared(stem) for stem in stems}, {SUMMARY}, []
    for photo, stem in zip(photos, stems, strict=True):
        name, number = stem, 1
        while _compared(name) in taken or (number > 1 and _compared(name) in known):
            number += 1
            name = f"{_shorten(stem, limit - len(f'-{number}'))}-{number}"
        taken.add(_compared(name))
        jobs.append(Job(photo, out / name))
    return jobs


def finished_outcome(job: Job, settings: Mapping[str, object]) -> Outcome | None:
    """The outcome of a job that an earlier run finished with the same photo and settings; None if it has no result.

    Raises:
        UsageError: The folder holds the result of another photo or other settings.
        G2SError: The result is damaged or incomplete.
    """
    if not (job.folder / STATE).is_file():
        return None
    photo_sha256 = sha256_of_input(job.photo)
    damaged = G2SError(f"{job.folder} is damaged: its {REPORT} cannot be read.", "Add --overwrite.")
    try:
        report = read_report(job.folder)
    except G2SError as error:
        raise damaged from error
    changed = [name for name, value in settings.items() if report.get(name) != value]
    if "meshes" in changed and _has_meshes(report, settings["meshes"]):
        changed.remove("meshes")
    if report.get("photo_sha256") != photo_sha256:
        changed = ["photo"]
    if changed:
        what = f"{job.folder} has another run's {' and '.join(changed).replace('_', ' ')}."
        raise UsageError(what, "Add --overwrite to replace it, or name another folder with -o.")
    if not _has_figures(report):
        raise damaged
    if missing := missing_files(job.folder, report):
        what = f"{job.folder} is incomplete: it lacks {', '.join(missing)}."
        raise G2SError(what, "Add --overwrite to make it again.")
    return Outcome(job, "kept", report)


def _has_meshes(report: dict[str, Any], wanted: Any) -> bool:
    """Whether a result has the wanted meshes, and a body for printing that `g2s mesh` added."""
    return isinstance(found := report.get("meshes"), dict) and found | {"body": None} == wanted


def _has_figures(report: dict[str, Any]) -> bool:
    """Whether a report has the figures of tables and summaries."""
    try:
        numbers = (report["inversion_psnr_db"], report["reconstruction_psnr_db"], report["seconds"]["total"])
        return all(isinstance(number, int | float) for number in numbers) and isinstance(report["warnings"], list)
    except (KeyError, TypeError):
        return False


def run_jobs(
    jobs: Sequence[Job],
    settings: Mapping[str, object],
    execute: Executor,
    detail: MeshOptions,
    *,
    command: str,
    overwrite: bool,
    gan: Path | None = None,
) -> Iterator[Outcome]:
    """Run jobs, and yield each outcome as soon as it is known; those of finished and refused jobs come first.

    Args:
        jobs: The jobs.
        settings: What a result depends on beside its photo, as its report states it.
        execute: Reconstructs photos; not called without photos.
        detail: Sizes of the meshes.
        command: The command line, for the reports.
        overwrite: Replace results of another photo or other settings, unless an input lies in their folder.
        gan: The user's own GAN, an input beside the photos.
    """
    inputs = parent_folders([job.photo for job in jobs] + ([gan] if gan else []))
    settings, pending = {**settings, "meshes": asdict(detail)}, []
    for job in jobs:
        before = try_call(finished_outcome, job, settings)
        if isinstance(before, Outcome):
            yield before
            continue
        # A folder without a result passes `check_target` only if it is empty.
        error = try_call(check_target, job.folder, STATE, overwrite=True, inputs=inputs)
        if error := error or (None if overwrite else before):
            yield Outcome(job, "failed", {}, error)
        else:
            pending.append(job)
    if not pending:
        return
    for index, result in execute([job.photo for job in pending]):
        job = pending[index]
        if isinstance(result, Exception):
            yield Outcome(job, "failed", {}, result)
            continue
        report = {"command": command, "meshes": settings["meshes"]} | result.report
        written = try_call(_write, replace(result, report=report), job.folder, detail, overwrite=overwrite)
        if not isinstance(written, Exception):
            yield Outcome(job, "made", written)
        elif isinstance(other := try_call(finished_outcome, job, settings), Outcome):
            yield other  # of another run, meanwhile
        else:
            yield Outcome(job, "failed", {}, written)


def _write(result: Result | ResultFiles, folder: Path, detail: MeshOptions, *, overwrite: bool) -> dict[str, Any]:
    """Write a result's folder, and return its report."""
    if isinstance(result, ResultFiles):
        result.save(folder, overwrite=overwrite)
        return result.report
    return write_result(result, folder, overwrite=overwrite, detail=detail)


def summarize(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """All outcomes, JSON-able."""
    counts = _count_states([outcome.state for outcome in outcomes])
    return {"photos": [_summary_entry(outcome) for outcome in outcomes], **counts}


def write_summary(summary: dict[str, Any], out: Path) -> None:
    """Write the summary into the folder of results. Raises G2SError if the disk refuses.

    A photo that failed keeps the entry of the earlier run whose result is in its folder; if all failed, the earlier
    summary stays.
    """
    earlier, failed = _results_of_summary(out), summary["failed"]
    if earlier and failed == len(summary["photos"]):
        return
    photos = [
        earlier.get(Path(entry["folder"]).name, entry) if entry["state"] == "failed" else entry
        for entry in summary["photos"]
    ]
    summary = summary | {"photos": photos} | _count_states([entry["state"] for entry in photos])
    with atomic_write(out / SUMMARY, "Free space.") as temporary:
        temporary.write_text(json.dumps(summary, indent=2) + "\n")


def _results_of_summary(out: Path) -> dict[str, dict[str, Any]]:
    """The entries of the summary in a folder whose results are there, by the names of their folders."""
    try:
        entries = {Path(entry["folder"]).name: entry for entry in read_json(out / SUMMARY)["photos"]}
        return {
            name: entry
            for name, entry in entries.items()
            if entry["state"] != "failed" and (out / name / STATE).is_file()
        }
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return {}


def _count_states(states: Sequence[str]) -> dict[str, int]:
    return {state: states.count(state) for state in get_args(State)}


def _summary_entry(outcome: Outcome) -> dict[str, Any]:
    entry: dict[str, Any] = {"photo": str(outcome.job.photo), "folder": str(outcome.job.folder), "state": outcome.state}
    if outcome.error:
        error = as_g2s_error(outcome.error, traceback_shown=True)
        return entry | {"error": str(error), "exit_code": error.exit_code}
    seconds = {"seconds": outcome.report["seconds"]["total"]} if outcome.state == "made" else {}
    return entry | {name: outcome.report[name] for name in FIGURES} | seconds


def _stem(photo: Path) -> str:
    """A file's stem without dots at its ends, which would make a hidden folder or none."""
    return photo.stem.strip(".") or photo.name.strip(".")


def _shorten(name: str, limit: int) -> str:
    """A name of at most `limit` bytes."""
    while len(os.fsencode(name)) > limit:
        name = name[:-1]
    return name


def _compared(name: str) -> str:
    """What names have in common that some file system takes for one: it ignores case, or composes accents."""
    return unicodedata.normalize("NFC", name).casefold()


def _natural_key(path: Path) -> list[tuple[int, str]]:
    """A sort key that puts img2 before img10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", path.name.casefold())]
