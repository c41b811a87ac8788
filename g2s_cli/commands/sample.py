"""g2s sample: random pictures of a category's GAN, as a contact sheet and as photos to try."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from g2s_cli.commands import options
from g2s_cli.console import output

if TYPE_CHECKING:
    from g2s_cli.config import Category


def sample(
    category: options.CategoryIfAny = None,
    gan: options.GanFile = None,
    count: Annotated[int, options.method_option("--count", "-n", help="How many pictures.")] = 16,
    truncation: Annotated[
        float,
        options.method_option(
            "--truncation", metavar="PSI", help="Truncation ψ: 1 as drawn, less is plainer and cleaner, 0 is all alike."
        ),
    ] = 0.7,
    seed: options.Seed = 0,
    out: Annotated[Path, options.output_option("--out", "-o", metavar="FILE", help="The sheet, a PNG.")] = Path(
        "samples.png"
    ),
    save: Annotated[
        bool, options.output_option("--save", help="Also each picture, in a folder of the sheet's name: samples/.")
    ] = False,
    overwrite: options.Overwrite = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    device: options.Device = "auto",
    hub_repo: options.HubRepo = "",
) -> None:
    """Show what a category's GAN generates: random pictures on a contact sheet, row by row.

    --save also writes every picture as a PNG, good input for g2s reconstruct, and the latents w of all of them
    (latents.safetensors, a row each). A picture depends on the GAN, the seed, its number and --truncation, not on the
    number of pictures.

    Example: g2s sample --category synface --count 16 --save
    """
    output.set(quiet=quiet, verbose=verbose, as_json=as_json)

    from g2s_cli import samples
    from g2s_cli.loading import Weights
    from g2s_cli.machine import Machine
    from g2s_cli.weights.registry import Sources, find_category

    draw = samples.SampleOptions(count, truncation, seed).check()
    target = samples.SampleOutput.of(out, save=save, overwrite=overwrite, gan=gan)
    sources = Sources.from_environment(hub_repo)
    config = find_category(category or ("own" if gan else "synface"), sources)
    machine = Machine.named(device)
    files = {} if gan else options.fetch(config, ["gan"], sources)
    with output.progress(brief=True) as progress:
        facts = samples.sample(config, Weights(files, gan), draw, machine, target, progress)

    pictures = [target.folder / name for name in facts["pictures"]] if target.folder else []
    latents = target.folder / samples.LATENTS if target.folder else None
    if pictures:
        output.info(f"Try one: {_trial(pictures[0], config, category, gan)}")
    paths = {"sheet": str(out), "latents": str(latents) if latents else None, "files": [str(path) for path in pictures]}
    output.print_result([out, *pictures, *([latents] if latents else [])], facts | paths)


def _trial(picture: Path, config: Category, category: str | None, gan: Path | None) -> str:
    """The command that reconstructs a picture, which needs no alignment: it comes from the GAN."""
    words = ["g2s", "reconstruct", str(picture)]
    words += ["--category", config.name] if category or not gan else []
    words += ["--gan", str(gan)] if gan else []
    words += ["--no-align"] if config.face_template else []
    return shlex.join([*words, "-o", "out/"])
