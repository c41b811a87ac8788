"""g2s train: a GAN, or photos alone → a category with all networks."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from g2s_cli.commands import options
from g2s_cli.console import output
from g2s_cli.errors import StoppedError, UsageError

VERB = "g2s train"


def train(
    gan: Annotated[
        Path | None,
        typer.Argument(metavar="GAN", help="A StyleGAN2 checkpoint; without it one is trained on --photos."),
    ] = None,
    photos: Annotated[
        Path | None,
        options.input_option(
            "--photos",
            metavar="FOLDER",
            help="Unlabelled photos of the same kind, or a .npy file of crops.",
            show_default="the GAN's random images",
        ),
    ] = None,
    begin: Annotated[
        Path | None,
        options.input_option("--from", metavar="FILE", help="A GAN to begin with, of the photos' size or half of it."),
    ] = None,
    pairs: Annotated[
        Path | None,
        options.input_option(
            "--pairs", metavar="FILE", help="Pairs of image and depth (.npy) that the depth network learns from, too."
        ),
    ] = None,
    config_file: Annotated[
        Path | None,
        options.method_option("--config", metavar="TOML", help="All numbers; docs/training.md has its keys."),
    ] = None,
    budget: Annotated[
        Literal["full", "tiny"], options.method_option("--budget", help="tiny: every stage, in two minutes.")
    ] = "full",
    stage: Annotated[str | None, options.method_option("--stage", metavar="NAME", help="This stage alone.")] = None,
    until: Annotated[str | None, options.method_option("--until", metavar="NAME", help="The last stage to do.")] = None,
    dry_run: Annotated[
        bool, options.method_option("--dry-run", help="Print the stages and the time they will take, and stop.")
    ] = False,
    seed: options.Seed = 0,
    out: options.Out = Path("category"),
    save_every: Annotated[
        float, options.output_option("--save-every", min=0, metavar="SECONDS", help="Between two checkpoints.")
    ] = 300.0,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    device: options.Device = "auto",
    rasterizer: options.Rasterizer = None,  # noqa: ARG001 (its callback sets it)
) -> None:
    """Make a category of any StyleGAN2: networks, morphable model and depth network, without 3D labels.

    If it is stopped or killed, run the same command again: it resumes, and the result is the same. torchrun shares the
    GAN's training over several processes: torchrun --nproc-per-node 2 -m g2s_cli train --photos cars/ -o cars-category/

    Example: g2s train my-gan.pt --photos faces/ -o my-faces/, then g2s reconstruct face.jpg --category my-faces/
    """
    from g2s_cli.machine import Machine
    from g2s_cli.run_folder import open_run_folder
    from g2s_cli.training.category import CategoryTraining
    from g2s_cli.training.distributed import Group
    from g2s_cli.training.train_config import TrainConfig

    group = Group.from_environment()
    output.set(quiet=quiet or not group.is_main, verbose=verbose, as_json=as_json)
    if gan is None and photos is None:
        raise UsageError("There is neither a GAN nor photos.", "Name a checkpoint, or a folder: --photos FOLDER.")
    if gan is not None and begin is not None:
        raise UsageError("--from begins the training of a GAN, and GAN is one.", "Leave one of them out.")
    for path in (gan, photos, begin, pairs):
        if path is not None and not path.exists():
            raise UsageError(f"There is no {path}.", "Check the path.")
    config = TrainConfig.read(config_file)
    config = config.tiny() if budget == "tiny" else config
    with ExitStack() as stack:
        machine = Machine.named(group.device(device))
        progress = stack.enter_context(output.progress())
        training = CategoryTraining(config, gan, photos, begin, out, seed, machine, progress, group, save_every, pairs)
        if dry_run:
            seconds = training.estimate()
            output.print_result([f"{name}: about {each:.0f} s" for name, each in seconds.items()], {"seconds": seconds})
            return
        if group.is_main:
            stack.enter_context(open_run_folder(out, training.settings, VERB))
            training.work.mkdir(exist_ok=True)
        stack.enter_context(group.connected(machine.device))
        group.barrier()
        try:
            figures = training.run(stage, until)
        except KeyboardInterrupt:
            raise StoppedError("Stopped. The same command goes on from what was last saved.") from None
    if group.is_main:
        _report(figures, out)


def _report(figures: dict[str, Any], out: Path) -> None:
    """The stages that are done, and how to use the category."""
    for name, values in figures.items():
        output.info(f"{name}: {', '.join(f'{key} {value}' for key, value in values.items())}")
    if "category" in figures:
        output.info(f"The category is ready: g2s reconstruct PHOTO --category {out}/")
    output.print_result([out], {"folder": str(out), "stages": figures})
