"""g2s evaluate: data with known depth → how good the shapes are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from g2s_cli import __version__
from g2s_cli.commands.options import Device, HubRepo, Json, Preset, Quiet, Seed, Verbose
from g2s_cli.console import format_number, output
from g2s_cli.errors import StoppedError

if TYPE_CHECKING:
    from g2s_cli.result.folder import Result

NOTHING_COMMON = "missed: no pixel inside both masks"


def evaluate(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="image/NAME_image.png and depth/NAME_depth.png.")],
    category: Annotated[str, typer.Option("--category", "-c", help="What the photos show.")] = "synface",
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FOLDER", help="Where the report goes.")] = Path("scores"),
    preset: Preset = "fast",
    iterations: Annotated[
        int | None, typer.Option("--iterations", min=0, help="At most so many iterations a step: for a quick try.")
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="The first so many photos alone.")] = None,
    hub_repo: HubRepo = "",
    seed: Seed = 0,
    device: Device = "auto",
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Score reconstructions against known depth: SIDE, MAD, mask coverage, inversion PSNR.

    FOLDER gets images.csv, summary.json and worst.png. Run again, it goes on where it stopped, and scores photos
    anew whose files are other ones. Beside the figures stand those of answers that do not look at the photo: a flat
    depth, and the mean true depth of all the other photos. A photo whose object was missed has neither SIDE nor MAD; it
    is counted apart, left out of their means, and the first of the worst.

    Example: g2s evaluate synface/test --limit 20 -o scores/
    """
    output.set(quiet=quiet, verbose=verbose)

    from rich.table import Table

    from g2s_cli.evaluation.benchmark import baselines, evaluate, write_report
    from g2s_cli.evaluation.ground_truth import pairs_in
    from g2s_cli.loading import Machine, Plan
    from g2s_cli.photo.align import CropOptions
    from g2s_cli.pipeline import reconstruct_each
    from g2s_cli.weights.sources import Sources, category_from, obtain

    machine = Machine.named(device)
    sources = Sources.of_environment(hub_repo)
    config = category_from(category, sources)
    needed = config.needs(config.preset(preset))
    pairs = pairs_in(data)[:limit]
    trivial = baselines(pairs, config)
    with output.fetching() as fetching:
        obtain(config, needed, sources, fetching, config.welcomes)
    plan = Plan.of(
        category=config.name,
        preset=preset,
        iterations=iterations,
        sources=sources,
        seed=seed,
        crop_options=CropOptions(align=False),  # the true depth lies where the photo has it
    )
    told = ("category", "preset", "effort", "iterations_at_most", "seed", "weights")
    # Figures of two versions are not to be averaged.
    settings = {"g2s_version": __version__} | {name: plan.facts[name] for name in told}
    rows = []
    try:
        with output.progress(brief=True) as progress:

            def run(photos: Sequence[Path]) -> Iterator[Result | Exception]:
                return reconstruct_each(photos, plan, machine, progress)

            for row in evaluate(pairs, config, out, run, settings):
                rows.append(row)
                errors = f"SIDE {row.side_e2:.3f}e-2  MAD {row.mad_deg:.2f}°"
                output.info(
                    f"{len(rows)}/{len(pairs)}  {row.image}  {NOTHING_COMMON if row.missed else errors}  "
                    f"coverage {row.coverage:.3f}  inversion {row.inversion_psnr_db:.1f} dB  {row.seconds:.0f} s"
                )
        summary = write_report(rows, trivial, out, settings)
    except KeyboardInterrupt:
        raise StoppedError(f"Stopped after {len(rows)} of {len(pairs)} photos. The same command goes on.") from None
    if as_json:
        output.print_json(summary)
        return
    columns = ("SIDE x 10⁻²", "MAD, degrees", "coverage", "inversion, dB", "seconds a photo", "missed")
    table = Table("", *columns, box=None)
    for one in trivial:
        table.add_row(one.name, format_number(one.side_e2), format_number(one.mad_deg, 2))
    figures = (_with_error(one) for one in summary["figures"].values())
    table.add_row(f"{config.name}, {preset}", *figures, f"{len(summary['missed'])} of {len(rows)}")
    output.print_table(table)
    output.print(out)


def _with_error(found: dict[str, float | None]) -> str:
    mean, error = found["mean"], found["standard_error"]
    return format_number(mean) if mean is None else f"{format_number(mean)} ± {format_number(error)}"
