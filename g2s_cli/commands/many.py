"""Many photos in one g2s reconstruct: a line a photo, a table at the end."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from g2s_cli.console import output
from g2s_cli.errors import SomeFailedError, StoppedError, UsageError, understood

if TYPE_CHECKING:
    from rich.table import Table

    from g2s_cli.batch import Job, Outcome
    from g2s_cli.loading import Machine, Plan
    from g2s_cli.mesh.export import Detail
    from g2s_cli.result.folder import Result


def jobs_of(arguments: Sequence[Path], out: Path, latent: Path | None, mask: Path | None) -> list[Job]:
    """What there is to do, with a word on what was not taken for a photo. Raises UsageError."""
    from g2s_cli.batch import jobs_for, photos_named

    if latent:
        raise UsageError("--latent is the w of one photo, and several are named.", "Name one, or leave --latent out.")
    if mask:
        raise UsageError("--mask is that of one photo, and several are named.", "Name one, or leave --mask out.")
    photos, notes = photos_named(arguments)
    jobs = jobs_for(photos, out)
    for note in notes:
        output.info(f"Note: {note}")
    return jobs


def reconstruct_many(
    jobs: Sequence[Job],
    out: Path,
    plan: Plan,
    detail: Detail,
    machine: Machine,
    command: str,
    *,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Do all jobs, tell of each, and sum them up. Raises SomeFailedError if any failed, StoppedError on Ctrl-C."""
    from g2s_cli.batch import run_all, summary_of, write_summary
    from g2s_cli.pipeline import facts_of, reconstruct_each

    begun = time.perf_counter()
    outcomes: dict[Job, Outcome] = {}
    try:
        with output.progress(brief=True) as progress:

            def run(photos: Sequence[Path]) -> Iterator[Result | Exception]:
                return reconstruct_each(photos, plan, machine, progress)

            found = run_all(
                jobs, facts_of(plan), run, detail, command=command, overwrite=overwrite, gan=plan.weights.gan_file
            )
            for outcome in found:
                outcomes[outcome.job] = outcome
                _tell(outcome, f"{len(outcomes)}/{len(jobs)}")
    except KeyboardInterrupt:
        whole = sum(outcome.state != "failed" for outcome in outcomes.values())
        raise StoppedError(f"Stopped; {whole} of {len(jobs)} results are whole. The same command goes on.") from None
    finally:
        told = [outcomes[job] for job in jobs if job in outcomes]
        summary = {"folder": str(out)} | summary_of(told) | {"seconds": round(time.perf_counter() - begun, 2)}
        if out.is_dir():
            write_summary(summary, out)
    output.info_table(_table(told))
    if as_json:
        output.print_json(summary)
    else:
        for outcome in told:
            if outcome.state != "failed":
                output.print(outcome.job.folder)
    errors = [outcome.error for outcome in told if outcome.error]
    if errors:
        raise SomeFailedError(f"{len(errors)} of {len(told)} photos failed.", errors)


def _tell(outcome: Outcome, number: str) -> None:
    """A line on what became of a photo."""
    photo, report = outcome.job.photo, outcome.report
    if outcome.error:
        sentence = str(understood(outcome.error, traced=output.verbose))
        said = sentence if str(photo) in sentence else f"{photo}: {sentence}"
        output.error(f"{number}  {said}", outcome.error)
    elif outcome.state == "kept":
        output.info(f"{number}  {photo} was finished before.")
    else:
        for note in report["photo_notes"]:
            output.debug(f"{photo} was {note}.")
        output.info(
            f"{number}  {photo}  inversion {report['inversion_psnr_db']:.1f} dB, "
            f"rendering {report['reconstruction_psnr_db']:.1f} dB, {report['seconds']['total']:.0f} s"
        )
        for warning in report["warnings"]:
            output.info(f"Note: {warning}")


def _table(outcomes: Sequence[Outcome]) -> Table:
    from rich.table import Table

    table = Table("photo", "", "folder", "inversion, dB", "rendering, dB", "seconds", "warnings", box=None)
    for outcome in outcomes:
        photo, report = str(outcome.job.photo), outcome.report
        if outcome.error:
            table.add_row(photo, outcome.state)
            continue
        figures = (report["inversion_psnr_db"], report["reconstruction_psnr_db"], report["seconds"]["total"])
        warnings = str(len(report["warnings"]) or "")
        table.add_row(photo, outcome.state, str(outcome.job.folder), *(f"{one:.1f}" for one in figures), warnings)
    return table
