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

    from g2s_cli.training.distributed import Group


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
    hub_repo: options.HubRepo = "",
) -> None:
    """Train networks on many photos jointly, as the paper does on 200; the result is a category of your own.

    Stopped or killed, the same command goes on and ends with the same networks. Several processes share the photos of a
    step: torchrun --nproc-per-node 2 -m g2s_cli pretrain PHOTOS ...

    Example: g2s pretrain faces/ --category synface -o faces-run/ --as faces
    """
    from g2s_cli.loading import Machine
    from g2s_cli.training.distributed import Group
    from g2s_cli.training.pretraining import Collection, Order, run, schedule_of
    from g2s_cli.weights.registry import Sources, find_category

    group = Group.of_environment()
    output.set(quiet=quiet or not group.leads, verbose=verbose, as_json=as_json)
    batch = _batch_size(photos_a_step, group)
    sources = Sources.from_environment(hub_repo)
    config = find_category(category, sources)
    needed = config.needs(schedule_of(config).effort)
    collection = Collection.of(photos, limit)
    for note in collection.notes:
        output.info(f"Note: {note}")
    machine = Machine.named(group.device(device))
    options.fetch(config, needed, sources, config.welcomes)
    order = Order.of(
        collection,
        out,
        name=name or out.resolve().name,
        category=config.name,
        iterations=iterations,
        cycles=cycles,
        symmetry=symmetry,
        photos_a_step=batch,
        sources=sources,
        seed=seed,
    )
    try:
        with group.joined(machine.device), output.progress(photos_a_step=batch) as progress:
            report = run(order, machine, group, progress, save_every)
    except KeyboardInterrupt:
        raise StoppedError("Stopped. The same command goes on from what was last saved.") from None
    if not group.leads:
        return
    if not as_json:
        output.info_table(_table(report))
        output.info(f"The category {order.name} is ready: g2s reconstruct PHOTO --category {order.name}")
    output.print_result([report["entry"], out], report)


def _batch_size(photos_a_step: int | None, group: Group) -> int:
    if photos_a_step and photos_a_step < group.size:
        what = f"{group.size} processes cannot share {photos_a_step} photos a step."
        raise UsageError(what, "Give each one: --photos-a-step.")
    return photos_a_step or group.size


def _table(report: dict[str, Any]) -> Table:
    """The scores of the networks alone, below those of the baselines."""
    from rich.table import Table

    columns, names, missed = ["", "rendering, dB", "inversion, dB"], ["reconstruction_psnr_db", "inversion_psnr_db"], []
    if report["baselines"]:  # the photos have depths
        columns += ["SIDE x 10⁻²", "MAD, degrees", "coverage", "missed"]
        names += ["side_e2", "mad_deg", "coverage"]
        missed = [f"{len(report['missed'])} of {len(report['photos'])}"]
    table = Table(*columns, box=None)
    for baseline in report["baselines"]:
        scores = format_number(baseline["side_e2"]), format_number(baseline["mad_deg"], 2)
        table.add_row(baseline["name"], "", "", *scores)
    table.add_row("the networks alone", *(format_number(report["figures"][name]) for name in names), *missed)
    return table
