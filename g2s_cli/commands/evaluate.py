"""g2s evaluate: photos with known depth → the errors of their reconstructions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from g2s_cli import __version__
from g2s_cli.commands import options
from g2s_cli.console import format_number, output
from g2s_cli.errors import StoppedError
from g2s_cli.options import Execution, ReconstructOptions

if TYPE_CHECKING:
    from rich.table import Table

    from g2s_cli.evaluation.benchmark import ImageMetrics
    from g2s_cli.evaluation.report import Baseline

SETTINGS = ("category", "preset", "settings", "iterations_at_most", "seed", "weights")  # that a folder of scores states


def evaluate(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="image/NAME_image.png and depth/NAME_depth.png.")],
    category: options.Category = "synface",
    limit: options.Limit = None,
    preset: options.Preset = "fast",
    iterations: options.Iterations = None,
    seed: options.Seed = 0,
    out: options.Out = Path("scores"),
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    device: options.Device = "auto",
    rasterizer: options.Rasterizer = None,  # noqa: ARG001 (its callback sets it)
    workers: options.Workers = None,
    ray: options.Ray = None,
    hub_repo: options.HubRepo = "",
) -> None:
    """Score reconstructions against known depth: SIDE, MAD, mask coverage, inversion PSNR.

    FOLDER gets images.csv, summary.json and worst.png; ± is the standard error of the mean. Run again, it goes on where
    it stopped; photos whose files have changed are scored again. Two baselines do not look at the photo: a flat depth,
    and the mean true depth of all other photos. A photo whose object was missed has neither SIDE nor MAD; such photos
    are counted, left out of the means, and come first among the worst.

    Example: g2s evaluate synface/test --limit 20 -o scores/
    """
    output.set(quiet=quiet, verbose=verbose, as_json=as_json)

    from g2s_cli.evaluation.benchmark import evaluate
    from g2s_cli.evaluation.ground_truth import find_pairs
    from g2s_cli.evaluation.report import mean_baselines, write_report
    from g2s_cli.executors.execution import open_executor
    from g2s_cli.executors.worker import Work
    from g2s_cli.machine import Machine
    from g2s_cli.photo.align import CropOptions
    from g2s_cli.weights.registry import Sources

    if not ray:
        Machine.named(device)  # before weights are fetched
    execution, sources = Execution(device, workers, ray), Sources.from_environment(hub_repo)
    crop = CropOptions(align=False)  # the true depth lies where the photo has it
    chosen = ReconstructOptions(category, preset, iterations, seed=seed, crop=crop, sources=sources)
    config, pairs = options.category_of(chosen), find_pairs(data)[:limit]
    trivial, plan = mean_baselines(pairs, config), options.plan_of(chosen)
    settings = {"g2s_version": __version__} | {name: plan.facts[name] for name in SETTINGS}
    rows: list[ImageMetrics] = []
    try:
        with (
            output.progress(brief=True) as progress,
            open_executor(execution, Work(plan, None), progress, output.info) as execute,
        ):
            for row in evaluate(pairs, config, out, execute, settings):
                rows.append(row)
                output.info(f"{len(rows)}/{len(pairs)}  {_line(row)}")
        places = {pair.photo.name: place for place, pair in enumerate(pairs)}
        rows.sort(key=lambda row: places[row.image])  # workers finish in any order
        summary = write_report(rows, trivial, out, settings)
    except KeyboardInterrupt:
        raise StoppedError(f"Stopped after {len(rows)} of {len(pairs)} photos. The same command goes on.") from None
    if as_json:
        output.print_json(summary)
        return
    output.print_table(_table(f"{config.name}, {preset}", trivial, summary))
    output.print(out)


def _line(row: ImageMetrics) -> str:
    errors = f"SIDE {row.side_e2:.3f}e-2  MAD {row.mad_deg:.2f}°"
    return (
        f"{row.image}  {'missed: no pixel inside both masks' if row.missed else errors}  "
        f"coverage {row.coverage:.3f}  inversion {row.inversion_psnr_db:.1f} dB  {row.seconds:.0f} s"
    )


def _table(name: str, trivial: Sequence[Baseline], summary: dict[str, Any]) -> Table:
    from rich.table import Table

    columns = ("SIDE x 10⁻²", "MAD, degrees", "coverage", "inversion, dB", "seconds a photo", "missed")
    table = Table("", *columns, box=None, caption="Means ± standard error of the mean", caption_justify="left")
    for baseline in trivial:
        table.add_row(baseline.name, format_number(baseline.side_e2), format_number(baseline.mad_deg, 2))
    means = (_with_error(statistic) for statistic in summary["figures"].values())
    table.add_row(name, *means, f"{len(summary['missed'])} of {summary['images']}")
    return table


def _with_error(statistic: dict[str, float | None]) -> str:
    mean = format_number(statistic["mean"])
    return mean if statistic["mean"] is None else f"{mean} ± {format_number(statistic['standard_error'])}"
