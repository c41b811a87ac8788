"""g2s reconstruct: a photo → a result folder; many photos → a folder of result folders."""

from __future__ import annotations

import shlex
import sys
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from g2s_cli.commands.many import jobs_of, reconstruct_many
from g2s_cli.commands.options import (
    Background,
    Device,
    HeightMm,
    HubRepo,
    Json,
    MaxFaces,
    MeshSize,
    Preset,
    Quiet,
    Seed,
    Solid,
    Symmetry,
    TextureSize,
    ThicknessMm,
    Verbose,
    named_file,
    read_crop,
    read_detail,
)
from g2s_cli.console import output
from g2s_cli.errors import UsageError
from g2s_cli.photo.decode import check_file

# What most people came for; the folder holds more.
KEY_FILES = ("mesh.glb", "mesh.obj", "reconstruction.png", "report.json")


def reconstruct(
    photos: Annotated[
        list[Path],
        typer.Argument(
            metavar="PHOTO...", help="Images of one object of the category each, or folders of such; - reads stdin."
        ),
    ],
    category: Annotated[
        str | None, typer.Option("--category", "-c", help="What the photo shows.", show_default="synface")
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FOLDER", help="Where the result goes.")] = Path("out"),
    preset: Preset = "fast",
    iterations: Annotated[
        int | None, typer.Option("--iterations", min=0, help="At most so many iterations a step: for a quick try.")
    ] = None,
    symmetry: Annotated[
        Symmetry | None,
        typer.Option("--symmetry", help="Whether left and right are alike.", show_default="the preset's"),
    ] = None,
    background: Annotated[
        Background | None,
        typer.Option("--background", help="Fit what is behind the object too, or not.", show_default="the preset's"),
    ] = None,
    gan: Annotated[
        Path | None, typer.Option("--gan", metavar="FILE", help="A StyleGAN2 checkpoint instead of the category's.")
    ] = None,
    latent: Annotated[
        Path | None,
        typer.Option("--latent", metavar="FILE[:ROW]", help="The photo's w, if you have it: no inversion."),
    ] = None,
    no_align: Annotated[
        bool, typer.Option("--no-align", help="Look for no face: take the middle square as it is.")
    ] = False,
    face: Annotated[
        int | None, typer.Option("--face", min=1, help="Which face of several.", show_default="1, the largest")
    ] = None,
    crop: Annotated[
        str | None,
        typer.Option("--crop", metavar="X,Y,W,H", help="Where the object is, in pixels of the upright photo."),
    ] = None,
    mask: Annotated[
        Path | None,
        typer.Option(
            "--mask", metavar="FILE", help="Of the photo's size, white on the object; else black or transparent."
        ),
    ] = None,
    mesh_size: MeshSize = None,
    texture_size: TextureSize = None,
    max_faces: MaxFaces = None,
    solid: Solid = False,
    height_mm: HeightMm = None,
    thickness_mm: ThicknessMm = None,
    hub_repo: HubRepo = "",
    seed: Seed = 0,
    device: Device = "auto",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a result folder; of many, those of other photos or options.")
    ] = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Turn one photo into a textured, relightable 3D shape. Weights that are not here are fetched first.

    In categories of faces the photo is turned, scaled and cropped so that the face lies where the GAN has faces. A
    small square picture counts as cropped already. What was done is in report.json under "alignment".

    Several photos, or a folder of them, are done in one run, which is faster: each gets a folder in FOLDER, named after
    it. One's failure does not stop the others; run again, those that are finished are kept. The exit code is that of
    the failures, or 1 where they differ.

    Example: g2s reconstruct face.png --category synface -o out/
    """
    output.set(quiet=quiet, verbose=verbose)
    many = len(photos) > 1 or photos[0].is_dir()
    if many and Path("-") in photos:
        raise UsageError(f"- reads one photo from stdin, and {len(photos)} are named.", "Let - stand alone.")
    if not many and str(photos[0]) != "-":
        check_file(photos[0])  # before PyTorch is imported, which takes seconds

    from g2s_cli.atomic_folder import check_target, folders_of
    from g2s_cli.loading import Machine, Plan
    from g2s_cli.photo.align import CropOptions
    from g2s_cli.photo.load import open_photo
    from g2s_cli.pipeline import reconstruct_as
    from g2s_cli.result.folder import STATE, write_result
    from g2s_cli.weights.importers import LatentFile
    from g2s_cli.weights.sources import Sources, category_from, obtain

    # What cannot work is refused here, before weights are read: options, the folder, the photo.
    detail = read_detail(mesh_size, texture_size, max_faces, solid, height_mm, thickness_mm)
    machine = Machine.named(device)
    sources = Sources.of_environment(hub_repo)
    config = category_from(category or ("own" if gan else "synface"), sources)
    needed = config.needs(config.preset(preset), own_gan=gan is not None)
    crop_options = CropOptions(not no_align, face, read_crop(crop) if crop else None, mask).check()
    command = shlex.join(("g2s", *sys.argv[1:]))
    asked = partial(
        Plan.of,
        category=config.name,
        preset=preset,
        iterations=iterations,
        symmetry=symmetry,
        background=background,
        gan=gan,
        latent=latent,
        sources=sources,
        seed=seed,
        crop_options=crop_options,
    )
    if many:
        jobs = jobs_of(photos, out, latent, mask)
        with output.fetching() as fetching:
            obtain(config, needed, sources, fetching, config.welcomes)
        reconstruct_many(jobs, out, asked(), detail, machine, command, overwrite=overwrite, as_json=as_json)
        return
    read = [file for file in (photos[0], mask, gan, LatentFile.named(latent).path if latent else None) if file]
    check_target(out, STATE, overwrite=overwrite, needed=folders_of(read))
    with named_file(photos[0]) as file:
        open_photo(file, config.image_size, config.align, crop_options)
        with output.fetching() as fetching:
            obtain(config, needed, sources, fetching, config.welcomes)
        with output.progress() as progress:
            result = reconstruct_as(asked(), file, machine, progress)
    result = replace(result, report={"command": command, "meshes": asdict(detail)} | result.report)
    write_result(result, out, overwrite=overwrite, detail=detail)

    paths = {name: str(out / name) for name in (*KEY_FILES, *(("mesh.stl", "mesh.ply") if solid else ()))}
    for note in result.report["photo_notes"]:
        output.debug(f"The photo was {note}.")
    report = result.report
    output.info(
        f"Done in {report['seconds']['total']:.0f} s. PSNR to the photo: the GAN's version of it "
        f"{report['inversion_psnr_db']:.1f} dB, the shape's rendering {report['reconstruction_psnr_db']:.1f} dB."
    )
    if as_json:
        output.print_json(report | {"folder": str(out), "files": paths})
        return
    output.print(out)
    if not quiet:
        for path in paths.values():
            output.print(path)
