"""g2s sample: what a category's GAN knows, as a contact sheet and as photos to try."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from g2s_cli.commands.options import Device, HubRepo, Json, Quiet, Seed, Verbose
from g2s_cli.console import output

if TYPE_CHECKING:
    from g2s_cli.weights.catalog import Category


def sample(
    category: Annotated[str | None, typer.Option("--category", "-c", help="Whose GAN.", show_default="synface")] = None,
    count: Annotated[int, typer.Option("--count", "-n", help="How many pictures.")] = 16,
    truncation: Annotated[
        float,
        typer.Option(
            "--truncation",
            metavar="PSI",
            help="How far latents keep from the mean one: 1 as drawn, less is plainer and cleaner, 0 is all alike.",
        ),
    ] = 0.7,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="The sheet, a PNG.")] = Path("samples.png"),
    save: Annotated[
        bool, typer.Option("--save", help="Also each picture by itself, in a folder of the sheet's name: samples/.")
    ] = False,
    gan: Annotated[
        Path | None, typer.Option("--gan", metavar="FILE", help="A StyleGAN2 checkpoint instead of the category's.")
    ] = None,
    hub_repo: HubRepo = "",
    seed: Seed = 0,
    device: Device = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier sheet, and its folder.")] = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Show what a category's GAN knows: random pictures of it on a contact sheet, row by row.

    --save also writes every picture as a PNG, good input for g2s reconstruct, and the latents w of all of them
    (latents.safetensors, a row each). A picture depends on the GAN, the seed, its number and --truncation, not on how
    many are made.

    Example: g2s sample --category synface --count 16 --save
    """
    output.set(quiet=quiet, verbose=verbose)

    from g2s_cli import samples
    from g2s_cli.loading import Machine, Weights
    from g2s_cli.weights.sources import Sources, category_from, obtain

    draw = samples.Draw(count, truncation, seed).check()
    target = samples.Target.of(out, save=save, overwrite=overwrite, gan=gan)
    sources = Sources.of_environment(hub_repo)
    config = category_from(category or ("own" if gan else "synface"), sources)
    machine = Machine.named(device)
    with output.fetching() as fetching:
        files = {} if gan else obtain(config, ["gan"], sources, fetching)
    with output.progress(brief=True) as progress:
        facts = samples.sample(config, Weights(files, gan), draw, machine, target, progress)

    pictures = [target.folder / name for name in facts["pictures"]] if target.folder else []
    latents = target.folder / samples.LATENTS if target.folder else None
    if pictures:
        output.info(f"Try one: {_trial(pictures[0], config, category, gan)}")
    if as_json:
        paths = {"sheet": str(out), "latents": str(latents) if latents else None, "files": [str(p) for p in pictures]}
        output.print_json(facts | paths)
        return
    for path in (out, *pictures, *([latents] if latents else [])):
        output.print(path)


def _trial(picture: Path, config: Category, category: str | None, gan: Path | None) -> str:
    """The command that reconstructs a picture as it is: it lies where the GAN has its objects, for there it is from."""
    words = ["g2s", "reconstruct", str(picture)]
    words += ["--category", config.name] if category or not gan else []
    words += ["--gan", str(gan)] if gan else []
    words += ["--no-align"] if config.align else []
    return shlex.join([*words, "-o", "out/"])
