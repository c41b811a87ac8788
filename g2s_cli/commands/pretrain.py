"""g2s pretrain: many photos → a category with networks trained jointly on all of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from g2s_cli.commands import options
from g2s_cli.console import format_number, output
from g2s_cli.errors import StoppedError, UsageError

if TYPE_CHECKING:
    from rich.table import Table


def pretrain(
    photos: Annotated[
        Path,
        typer.Argument(metavar="PHOTOS", help="A folder of photos; or with image/ and depth/, as of g2s evaluate."),
    ],
    category: options.Category = "synface",
    limit: options.Limit = None,
    iterations: options.TrainingIterations = None,
    cycles: Annotated[
        int | None, options.method_option("--cycles", min=1, help="The first so many cycles alone.")
    ] = None,
    symmetry: options.Symmetry = None,
    photos_a_step: Annotated[
        int | None,
        options.method_option(
            "--photos-a-step", min=1, help="Batch size over all processes.", show_default="one a process"
        ),
    ] = None,
    seed: options.Seed = 0,
    out: options.Out = Path("pretrained"),
    name: Annotated[
        str | None,
        options.output_option("--as", metavar="NAME", help="The new category.", show_default="FOLDER's name"),
    ] = None,
    save_every: Annotated[
        float,
        options.output_option(
            "--save-every", min=0, metavar="SECONDS", help="How often to save a checkpoint; 0 is at every step."
        ),
    ] = 300.0,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    device: options.Device = "auto",
    rasterizer: options.Rasterizer = None,  # noqa: ARG001 (its callback sets it)
    hub_repo: options.HubRepo = "",
) -> None:
    """Train networks on many photos jointly, as the paper does on 200; the result is a category of your own.

    If it is stopped or killed, run the same command again: it resumes, and the result is the same. Several processes
    share the photos of a step: torchrun --nproc-per-node 2 -m g2s_cli pretrain PHOTOS ...

    Example: g2s pretrain faces/ --category synface -o faces-run/ --as faces
    """
    from g2s_cli.machine import Machine
    from g2s_cli.training.distributed import Group
    from g2s_cli.training.pretrain_config import PhotoCollection, PretrainConfig, PretrainOptions, schedule_of
    from g2s_cli.training.pretraining import run
    from g2s_cli.weights.categories import optional_parts, required_parts
    from g2s_cli.weights.registry import Sources, find_category

    group = Group.from_environment()
    output.set(quiet=quiet or not group.is_main, verbose=verbose, as_json=as_json)
    photos_a_step = photos_a_step or group.size
    if photos_a_step < group.size:
        raise UsageError(
            f"{group.size} processes cannot share {photos_a_step} photos a step.", "Give each one: --photos-a-step."
        )
    sources = Sources.from_environment(hub_repo)
    config = find_category(category, sources)
    schedule_of(config)  # refuses a category without one before anything is fetched
    collection = PhotoCollection.of(photos, limit)
    for note in collection.notes:
        output.info(f"Note: {note}")
    machine = Machine.named(group.device(device))
    options.fetch(config, required_parts(config, networks=False), sources, optional_parts(config))
    chosen = PretrainOptions(name or out.resolve().name, config.name, iterations, cycles, symmetry, photos_a_step, seed)
    run_config = PretrainConfig.of(collection, out, chosen, sources)
    try:
        with group.connected(machine.device), output.progress(photos_a_step=photos_a_step) as progress:
            report = run(run_config, machine, group, progress, save_every)
    except KeyboardInterrupt:
        raise StoppedError("Stopped. The same command goes on from what was last saved.") from None
    if not group.is_main:
        return
    if not as_json:
        output.info_table(_table(report))
        output.info(f"The category {run_config.name} is ready: g2s reconstruct PHOTO --category {run_config.name}")
    output.print_result([report["entry"], out], report)


def _table(report: dict[str, Any]) -> Table:
    """How good the networks alone are, beside answers that do not look at the photo."""
    from rich.table import Table

    truths = bool(report["baselines"])
    columns = [
        "",
        "rendering, dB",
        "inversion, dB",
        *(["SIDE x 10⁻²", "MAD, degrees", "coverage", "missed"] if truths else []),
    ]
    table = Table(*columns, box=None)
    for one in report["baselines"]:
        table.add_row(one["name"], "", "", format_number(one["side_e2"]), format_number(one["mad_deg"], 2))
    names = ["reconstruction_psnr_db", "inversion_psnr_db", *(["side_e2", "mad_deg", "coverage"] if truths else [])]
    missed = [f"{len(report['missed'])} of {len(report['photos'])}"] if truths else []
    table.add_row("the networks alone", *(format_number(report["figures"][name]) for name in names), *missed)
    return table
