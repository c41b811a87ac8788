"""Many photos in one g2s reconstruct: a line for each photo, and a table at the end."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from g2s_cli.commands.options import command_line, plan_of
from g2s_cli.console import output
from g2s_cli.errors import SomeFailedError, StoppedError, UsageError, as_g2s_error

if TYPE_CHECKING:
    from rich.table import Table

    from g2s_cli.batch import Job, Outcome
    from g2s_cli.options import Execution, ReconstructOptions


def reconstruct_batch(
    arguments: Sequence[Path], out: Path, chosen: ReconstructOptions, execution: Execution, *, overwrite: bool
) -> None:
    """Reconstruct the photos that files and folders name, each into a folder in `out`, and print a summary.

    Raises:
        UsageError: an option is for one photo only, or the arguments name no photos.
        SomeFailedError: some photos failed.
        StoppedError: Ctrl-C; the finished results are kept.
    """
    from g2s_cli.batch import find_photos, make_jobs, run_jobs, summarize, write_summary
    from g2s_cli.executors.execution import open_executor
    from g2s_cli.executors.worker import Work
    from g2s_cli.pipeline import facts_of

    if chosen.latent:
        raise UsageError("--latent is the w of one photo, and several are named.", "Name one, or leave --latent out.")
    if chosen.crop and chosen.crop.mask:
        raise UsageError("--mask is that of one photo, and several are named.", "Name one, or leave --mask out.")
    photos, notes = find_photos(arguments)
    jobs = make_jobs(photos, out)
    for note in notes:
        output.info(f"Note: {note}")
    plan, started = plan_of(chosen), time.perf_counter()
    outcomes: dict[Job, Outcome] = {}
    try:
        facts, detail, gan, command = (
            facts_of(plan),
            chosen.detail,
            plan.weights.gan_file,
            command_line(),
        )
        with (
            output.progress(brief=True) as progress,
            open_executor(execution, Work(plan, detail), progress, output.info) as execute,
        ):
            for outcome in run_jobs(jobs, facts, execute, detail, command=command, overwrite=overwrite, gan=gan):
                outcomes[outcome.job] = outcome
                _print_outcome(outcome, f"{len(outcomes)}/{len(jobs)}")
    except KeyboardInterrupt:
        finished = sum(outcome.state != "failed" for outcome in outcomes.values())
        raise StoppedError(f"Stopped; {finished} of {len(jobs)} results are whole. The same command goes on.") from None
    finally:
        done = [outcomes[job] for job in jobs if job in outcomes]
        summary = {"folder": str(out)} | summarize(done) | {"seconds": round(time.perf_counter() - started, 2)}
        if out.is_dir():
            write_summary(summary, out)
    _print_summary(done, summary)


def _print_outcome(outcome: Outcome, number: str) -> None:
    """Print a photo's line on stderr."""
    photo, report = outcome.job.photo, outcome.report
    if outcome.error:
        sentence = str(as_g2s_error(outcome.error, traceback_shown=output.verbose))
        named = sentence if str(photo) in sentence else f"{photo}: {sentence}"
        output.error(f"{number}  {named}", outcome.error)
    elif outcome.state == "kept":
        output.info(f"{number}  {photo} was finished before.")
    else:
        output.info(f"{number}  {photo}  {report['seconds']['total']:.0f} s")
        print_details(report)
        for warning in report["warnings"]:
            output.info(f"Note: {warning}")


def print_details(report: dict[str, Any]) -> None:
    """With -v, print how a photo was opened, and how close the result is to it."""
    for note in report["photo_notes"]:
        output.debug(f"The photo was {note}.")
    output.debug(
        f"PSNR to the photo: of the inversion {report['inversion_psnr_db']:.1f} dB, of the shape's rendering "
        f"{report['reconstruction_psnr_db']:.1f} dB."
    )


def _print_summary(outcomes: Sequence[Outcome], summary: dict[str, Any]) -> None:
    """Print the table and the folders. Raises SomeFailedError if a photo failed."""
    output.info_table(_table(outcomes))
    errors = [outcome.error for outcome in outcomes if outcome.error]
    failure = SomeFailedError(f"{len(errors)} of {len(outcomes)} photos failed.", errors) if errors else None
    document = summary | (failure.document() if failure else {})
    output.print_result([outcome.job.folder for outcome in outcomes if not outcome.error], document)
    if failure:
        raise failure


def _table(outcomes: Sequence[Outcome]) -> Table:
    from rich.table import Table

    table = Table("photo", "", "folder", "seconds", "warnings", box=None)
    for outcome in outcomes:
        photo, report = str(outcome.job.photo), outcome.report
        if outcome.error:
            table.add_row(photo, outcome.state)
            continue
        seconds, warnings = f"{report['seconds']['total']:.1f}", str(len(report["warnings"]) or "")
        table.add_row(photo, outcome.state, str(outcome.job.folder), seconds, warnings)
    return table
