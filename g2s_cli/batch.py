"""Many photos in one run: which they are, where each result goes, and what became of each.

Each photo's result is a folder of its own, and whole as soon as it is there. A run that was stopped is taken up again
by the same command: what it finished is recognised by the photo's bytes and by what was asked, and kept.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from g2s_cli.atomic_folder import check_target, parent_folders
from g2s_cli.errors import G2SError, UsageError, as_g2s_error, try_call
from g2s_cli.files import atomic_write, sha256_of_input
from g2s_cli.mesh.export import Detail
from g2s_cli.photo.decode import pictures_in
from g2s_cli.result.schema import REPORT, STATE, Result, missing_files
from g2s_cli.result.write import write_result

SUMMARY = "g2s-summary.json"
FIGURES = ("inversion_psnr_db", "reconstruction_psnr_db", "warnings")

Facts = Mapping[str, object]
State = Literal["made", "kept", "failed"]


@dataclass(frozen=True)
class Job:
    """A photo, and the folder its result goes to."""

    photo: Path
    folder: Path


@dataclass(frozen=True)
class Outcome:
    """What became of a photo: made now or kept from an earlier run, with its report, or failed with an error."""

    job: Job
    state: State
    report: dict[str, Any]
    error: Exception | None = None


def find_photos(arguments: Sequence[Path]) -> tuple[list[Path], list[str]]:
    """The photos that files and folders name, each once, and a note on what was left out.

    A folder stands for the images in it, in natural order; hidden files and folders in it are passed over. Raises
    UsageError for a folder without any.
    """
    photos: dict[Path, Path] = {}
    notes = []
    for argument in arguments:
        named = [argument]
        if argument.is_dir():
            try:
                pictures, others = pictures_in(argument)
            except OSError as error:
                raise UsageError(f"{argument} cannot be read: {error.strerror}.", "Allow it, or name files.") from error
            named = sorted(pictures, key=_natural)
            if not named:
                raise UsageError(f"{argument} has no images.", "Name a folder with JPEG or PNG files, or the files.")
            if others:
                notes.append(f"Not taken for photos: {', '.join(str(path) for path in sorted(others, key=_natural))}.")
        for path in named:
            if photos.setdefault(path.resolve(), path) is not path:
                notes.append(f"{path} is named more than once, and taken once.")
    return list(photos.values()), notes


def make_jobs(photos: Sequence[Path], out: Path) -> list[Job]:
    """A folder in `out` for each photo, named after its stem; of equal stems the later ones end in -2, -3, ...

    Raises UsageError if `out` cannot be a folder of results.
    """
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file.", "Name a folder with -o.")
    if (out / STATE).is_file():
        raise UsageError(f"{out} is the result of one photo.", "Name another folder with -o for those of many.")
    # Stems that differ in case alone would be one folder on some disks.
    stems = {_stem(photo).casefold() for photo in photos}
    taken, jobs = {SUMMARY}, []
    for photo in photos:
        name, number = _stem(photo), 1
        while name.casefold() in taken or (number > 1 and name.casefold() in stems):
            number += 1
            name = f"{_stem(photo)}-{number}"
        taken.add(name.casefold())
        jobs.append(Job(photo, out / name))
    return jobs


def finished_outcome(job: Job, facts: Facts) -> Outcome | None:
    """The outcome of a job that an earlier run finished: the same photo's bytes, asked for the same. None: no result.

    Raises UsageError if its folder holds the result of something else, G2SError if that is damaged or not whole.
    """
    if not (job.folder / STATE).is_file():
        return None
    photo = sha256_of_input(job.photo)
    damaged = G2SError(f"{job.folder} is damaged: its {REPORT} cannot be read.", "Add --overwrite.")
    try:
        report = json.loads((job.folder / REPORT).read_text())
        said = {name: report.get(name) for name in ("photo_sha256", *facts)}
    except (OSError, ValueError, AttributeError) as error:
        raise damaged from error
    differing = [name for name, value in facts.items() if said[name] != value]
    if said["photo_sha256"] != photo:
        differing = ["photo"]
    if differing:
        what = f"{job.folder} was made with another {' and '.join(differing).replace('_', ' ')}."
        raise UsageError(what, "Add --overwrite to replace it, or name another folder with -o.")
    if not _is_telling(report):
        raise damaged
    if missing := missing_files(job.folder, report):
        what = f"{job.folder} is not whole: it lacks {', '.join(missing)}."
        raise G2SError(what, "Add --overwrite to make it again.")
    return Outcome(job, "kept", report)


def _is_telling(report: dict[str, Any]) -> bool:
    """Whether a report has what tables and summaries tell of it."""
    try:
        numbers = (report["inversion_psnr_db"], report["reconstruction_psnr_db"], report["seconds"]["total"])
        return all(isinstance(number, int | float) for number in numbers) and isinstance(report["warnings"], list)
    except (KeyError, TypeError):
        return False


def run_jobs(
    jobs: Sequence[Job],
    facts: Facts,
    run: Callable[[Sequence[Path]], Iterator[Result | Exception]],
    detail: Detail,
    *,
    command: str,
    overwrite: bool,
    gan: Path | None = None,
) -> Iterator[Outcome]:
    """Do jobs; what became of each as soon as it is known, first those that need no work.

    facts: what results depend on beside their photos. run: makes the reconstructions of photos, in their order; it is
    not called if none are left. detail: how fine their meshes are. overwrite: replace what was made of another photo or
    asked for otherwise, but no folder that a photo or the user's own GAN lies in.
    """
    inputs = parent_folders([job.photo for job in jobs] + ([gan] if gan else []))
    facts, left = {**facts, "meshes": asdict(detail)}, []
    for job in jobs:
        before = try_call(finished_outcome, job, facts)
        if isinstance(before, Outcome):
            yield before
            continue
        # Without a result, which `kept` would have refused or returned, only an empty folder passes.
        refused = try_call(check_target, job.folder, STATE, overwrite=True, inputs=inputs) or (
            None if overwrite else before
        )
        if refused:
            yield Outcome(job, "failed", {}, refused)
        else:
            left.append(job)
    if not left:
        return
    for job, result in zip(left, run([job.photo for job in left]), strict=True):
        if isinstance(result, Exception):
            yield Outcome(job, "failed", {}, result)
            continue
        told = replace(result, report={"command": command, "meshes": facts["meshes"]} | result.report)
        error = try_call(write_result, told, job.folder, overwrite=overwrite, detail=detail)
        yield Outcome(job, "failed", {}, error) if error else Outcome(job, "made", told.report)


def summarize(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """All outcomes as one document."""
    return {
        "photos": [_facts_of(outcome) for outcome in outcomes],
        **{state: sum(one.state == state for one in outcomes) for state in ("made", "kept", "failed")},
    }


def write_summary(summary: Mapping[str, object], out: Path) -> None:
    """Write the summary into the folder of results, in one move. Raises G2SError if the disk refuses."""
    with atomic_write(out / SUMMARY, "Free space.") as temporary:
        temporary.write_text(json.dumps(summary, indent=2) + "\n")


def _facts_of(outcome: Outcome) -> dict[str, Any]:
    told: dict[str, Any] = {"photo": str(outcome.job.photo), "folder": str(outcome.job.folder), "state": outcome.state}
    if outcome.error:
        failure = as_g2s_error(outcome.error, traceback_shown=True)
        return told | {"error": str(failure), "exit_code": failure.exit_code}
    seconds = {"seconds": outcome.report["seconds"]["total"]} if outcome.state == "made" else {}
    return told | {name: outcome.report[name] for name in FIGURES} | seconds


def _stem(photo: Path) -> str:
    """A file's name without its ending, and without dots that would make it a hidden folder or none."""
    return photo.stem.strip(".") or photo.name.strip(".")


def _natural(path: Path) -> list[tuple[int, str]]:
    """A key that puts img2 before img10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", path.name.casefold())]
