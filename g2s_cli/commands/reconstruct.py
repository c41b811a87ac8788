"""g2s reconstruct: a photo → a result folder."""

from __future__ import annotations

import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import typer

from g2s_cli.commands.options import (
    Device,
    HeightMm,
    HubRepo,
    Json,
    MaxFaces,
    MeshSize,
    Quiet,
    Solid,
    TextureSize,
    ThicknessMm,
    Verbose,
    read_detail,
)
from g2s_cli.console import output

Symmetry = Literal["on", "off", "first-stage"]

# What most people came for; the folder holds more.
KEY_FILES = ("mesh.glb", "mesh.obj", "reconstruction.png", "report.json")


def reconstruct(
    photo: Annotated[Path, typer.Argument(metavar="PHOTO", help="An image of one object of the category.")],
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
    mesh_size: MeshSize = None,
    texture_size: TextureSize = None,
    max_faces: MaxFaces = None,
    solid: Solid = False,
    height_mm: HeightMm = 100.0,
    thickness_mm: ThicknessMm = 3.0,
    hub_repo: HubRepo = "",
    seed: Annotated[int, typer.Option("--seed", help="The same seed gives the same result.", min=0)] = 0,
    device: Device = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing result folder.")] = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Turn one photo into a textured, relightable 3D shape. Weights that are not here are fetched first.

    Example: g2s reconstruct face.png --category synface -o out/
    """
    output.set(quiet=quiet, verbose=verbose)

    from g2s_cli import pipeline
    from g2s_cli.photo import open_photo
    from g2s_cli.result import check_target, write_result
    from g2s_cli.zoo.sources import Sources, category_from, obtain

    # What cannot work is refused here, before weights are read: options, the folder, the photo.
    detail = read_detail(mesh_size, texture_size, max_faces, solid, height_mm, thickness_mm)
    sources = Sources.of_environment(hub_repo)
    kind = category_from(category or ("own" if gan else "synface"), sources)
    needed = kind.needs(kind.preset(preset))
    check_target(out, overwrite=overwrite)
    open_photo(photo, kind.image_size)
    with output.fetching() as fetching:
        obtain(kind, [part for part in needed if not gan or part not in {"gan", "networks"}], sources, fetching)
    with output.watch() as watch:
        made = pipeline.reconstruct(
            photo,
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
    made = replace(made, report={"command": shlex.join(("g2s", *sys.argv[1:]))} | made.report)
    write_result(made, out, overwrite=overwrite, detail=detail)

    paths = {name: str(out / name) for name in (*KEY_FILES, *(("mesh.stl", "mesh.ply") if solid else ()))}
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
