"""g2s reconstruct: a photo → a result folder; many photos → a folder of result folders."""

from __future__ import annotations

import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from g2s_cli.commands.many import jobs_of, reconstruct_many
from g2s_cli.commands.options import Device, HubRepo, Json, Quiet, Symmetry, Verbose
from g2s_cli.console import output

# What most people came for; the folder holds more.
KEY_FILES = ("mesh.glb", "mesh.obj", "reconstruction.png", "report.json")


def reconstruct(
    photos: Annotated[
        list[Path],
        typer.Argument(metavar="PHOTO...", help="Images of one object of the category each, or folders of such."),
    ],
    category: Annotated[
        str | None, typer.Option("--category", "-c", help="What the photo shows.", show_default="synface")
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FOLDER", help="Where the result goes.")] = Path("out"),
    preset: Annotated[str, typer.Option("--preset", help="How much work: fast, or the paper's schedule.")] = "fast",
    iterations: Annotated[
        int | None, typer.Option("--iterations", min=0, help="At most so many iterations a step: for a quick try.")
    ] = None,
    symmetry: Annotated[
        Symmetry | None,
        typer.Option("--symmetry", help="Whether left and right are alike.", show_default="the preset's"),
    ] = None,
    gan: Annotated[
        Path | None, typer.Option("--gan", metavar="FILE", help="A StyleGAN2 checkpoint instead of the category's.")
    ] = None,
    latent: Annotated[
        Path | None, typer.Option("--latent", metavar="FILE", help="The photo's w, if you have it: no inversion.")
    ] = None,
    hub_repo: HubRepo = "",
    seed: Annotated[int, typer.Option("--seed", help="The same seed gives the same result.", min=0)] = 0,
    device: Device = "auto",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a result folder; of many, those of other photos or options.")
    ] = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Turn one photo into a textured, relightable 3D shape. Weights that are not here are fetched first.

    Several photos, or a folder of them, are done in one run, which is faster: each gets a folder in FOLDER, named after
    it. One's failure does not stop the others; run again, those that are finished are kept. The exit code is that of
    the failures, or 1 where they differ.

    Example: g2s reconstruct face.png --category synface -o out/
    """
    output.set(quiet=quiet, verbose=verbose)

    from g2s_cli import pipeline
    from g2s_cli.loading import Machine, Plan
    from g2s_cli.photo import open_photo
    from g2s_cli.result import check_target, write_result
    from g2s_cli.zoo.sources import Sources, category_from, obtain

    # What cannot work is refused here, before weights are read: options, the folder, the photo.
    sources = Sources.of_environment(hub_repo)
    kind = category_from(category or ("own" if gan else "synface"), sources)
    needed = kind.needs(kind.preset(preset))
    many = len(photos) > 1 or photos[0].is_dir()
    if many:
        jobs = jobs_of(photos, out, latent)
    else:
        check_target(out, overwrite=overwrite)
        open_photo(photos[0], kind.image_size)
    with output.fetching() as fetching:
        obtain(kind, [part for part in needed if not gan or part not in {"gan", "networks"}], sources, fetching)
    command = shlex.join(("g2s", *sys.argv[1:]))
    if many:
        plan = Plan.of(
            category=kind.name,
            preset=preset,
            iterations=iterations,
            symmetry=symmetry,
            gan=gan,
            sources=sources,
            seed=seed,
        )
        reconstruct_many(jobs, out, plan, Machine.named(device), command, overwrite=overwrite, as_json=as_json)
        return
    with output.watch() as watch:
        made = pipeline.reconstruct(
            photos[0],
            category=kind.name,
            preset=preset,
            iterations=iterations,
            symmetry=symmetry,
            gan=gan,
            latent=latent,
            sources=sources,
            seed=seed,
            device=device,
            watch=watch,
        )
    made = replace(made, report={"command": command} | made.report)
    write_result(made, out, overwrite=overwrite)

    paths = {name: str(out / name) for name in KEY_FILES}
    for note in made.report["photo_notes"]:
        output.detail(f"The photo was {note}.")
    report = made.report
    output.say(
        f"Done in {report['seconds']['total']:.0f} s. PSNR to the photo: the GAN's version of it "
        f"{report['inversion_psnr_db']:.1f} dB, the shape's rendering {report['reconstruction_psnr_db']:.1f} dB."
    )
    if as_json:
        output.put_json(report | {"folder": str(out), "files": paths})
        return
    output.put(out)
    if not quiet:
        for path in paths.values():
            output.put(path)
