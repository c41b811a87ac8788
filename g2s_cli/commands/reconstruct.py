"""g2s reconstruct: a photo → a result folder; many photos → a folder of result folders."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from g2s_cli import STARTED_S
from g2s_cli.commands import options
from g2s_cli.commands.batch import print_details, reconstruct_batch
from g2s_cli.console import output
from g2s_cli.errors import UsageError
from g2s_cli.malloc import KEEP_FREED, configure_malloc
from g2s_cli.options import Execution, ReconstructOptions
from g2s_cli.photo.decode import check_file

KEY_FILES = ("mesh.glb", "mesh.obj", "reconstruction.png", "report.json")  # printed; the folder holds more
SOLID_FILES = ("mesh.stl", "mesh.ply")


def reconstruct(
    photos: options.Photos,
    category: options.CategoryIfAny = None,
    gan: options.GanFile = None,
    latent: options.LatentFile = None,
    no_align: options.NoAlign = False,
    face: options.Face = None,
    crop: options.Crop = None,
    mask: options.Mask = None,
    preset: options.Preset = "fast",
    iterations: options.Iterations = None,
    symmetry: options.Symmetry = None,
    background: options.Background = None,
    seed: options.Seed = 0,
    out: options.Out = Path("out"),
    overwrite: options.Overwrite = False,
    mesh_size: options.MeshSize = None,
    texture_size: options.TextureSize = None,
    max_faces: options.MaxFaces = None,
    extent: options.Extent = None,
    texture: options.Texture = "photo",
    solid: options.Solid = False,
    height_mm: options.HeightMm = None,
    thickness_mm: options.ThicknessMm = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    device: options.Device = "auto",
    rasterizer: options.Rasterizer = None,  # noqa: ARG001 (its callback sets it)
    workers: options.Workers = None,
    ray: options.Ray = None,
    hub_repo: options.HubRepo = "",
) -> None:
    """Turn one photo into a textured, relightable 3D shape. Weights that are not here are fetched first.

    In categories of faces the photo is turned, scaled and cropped so that the face lies where the GAN has faces. A
    small square picture whose face lies there already is taken whole. report.json has the transform ("alignment").

    Several photos, or a folder of them, are reconstructed in one run, which is faster: each gets a folder in FOLDER,
    named after it. If one fails the others go on; run again, finished ones are kept, and --overwrite replaces those of
    other photos or options. The exit code is that of the failures, or 1 where they differ. --workers and --ray spread
    them over processes or machines.

    Example: g2s reconstruct face.jpg -o out/
    """
    output.set(quiet=quiet, verbose=verbose, as_json=as_json)
    batch = len(photos) > 1 or photos[0].is_dir()
    if batch and Path("-") in photos:
        raise UsageError(f"- reads one photo from stdin, and {len(photos)} are named.", "Let - stand alone.")
    if ray and not batch:
        raise UsageError("--ray spreads several photos over a cluster, and one is named.", "Leave --ray out.")
    if not batch and str(photos[0]) != "-":
        check_file(photos[0])  # before PyTorch is imported, which takes seconds

    from g2s_cli.machine import Machine
    from g2s_cli.photo.align import CropOptions
    from g2s_cli.weights.registry import Sources

    # Whatever cannot work is refused before weights are fetched or read.
    chosen = ReconstructOptions(
        category=category,
        preset=preset,
        iterations=iterations,
        symmetry=symmetry,
        background=background,
        gan=gan,
        latent=latent,
        seed=seed,
        crop=CropOptions(not no_align, face, options.read_crop(crop) if crop else None, mask).check(),
        sources=Sources.from_environment(hub_repo),
        detail=options.read_detail(mesh_size, texture_size, max_faces, solid, height_mm, thickness_mm, extent, texture),
    )
    execution = Execution(device, workers, ray)
    if not ray:
        Machine.named(device)
    run = reconstruct_batch if batch else _reconstruct_one
    run(photos, out, chosen, execution, overwrite=overwrite)


def _reconstruct_one(
    photos: Sequence[Path], out: Path, chosen: ReconstructOptions, execution: Execution, *, overwrite: bool
) -> None:
    """Reconstruct the one photo, write its result folder, and print its paths or its report."""
    from g2s_cli.atomic_folder import check_target, parent_folders
    from g2s_cli.machine import Machine
    from g2s_cli.photo.align import find_faces
    from g2s_cli.photo.decode import read_image
    from g2s_cli.photo.load import open_photo
    from g2s_cli.pipeline import Pipeline
    from g2s_cli.result.schema import STATE
    from g2s_cli.result.write import write_result
    from g2s_cli.weights.latent_file import LatentFile

    configure_malloc(KEEP_FREED)
    [photo], config, detail = photos, options.category_of(chosen), chosen.detail
    mask, latent = chosen.crop and chosen.crop.mask, chosen.latent and LatentFile.parse(chosen.latent).path
    inputs = [path for path in (photo, mask, chosen.gan, latent) if path]
    check_target(out, STATE, overwrite=overwrite, inputs=parent_folders(inputs))
    with options.as_file(photo, out) as file:
        with output.step("detect"):  # fails before weights are fetched
            opened = open_photo(file, config.image_size, config.face_template, chosen.crop)
            if chosen.crop and not chosen.crop.align and config.face_template and not find_faces(read_image(file, [])):
                output.info(f"Note: {photo} shows no face that g2s can find, and the category is of faces.")
        plan = options.plan_of(chosen)
        with output.progress() as progress:
            progress.begin("load", 1)
            pipeline = Pipeline.of(plan, Machine.named(execution.device))
            progress.advance(1, 0.0)
            if opened.image.shape[-1] != pipeline.loaded.category.image_size:  # that of the user's GAN
                opened = pipeline.open(file)
            result = pipeline(opened, progress)
            facts = {"command": options.command_line(), "meshes": asdict(detail)}
            result = replace(result, report=facts | result.report)
            report = write_result(
                result, out, overwrite=overwrite, detail=detail, progress=progress, started_s=STARTED_S
            )
    _print_result(report, out, solid=detail.body is not None)


def _print_result(report: dict[str, Any], out: Path, *, solid: bool) -> None:
    print_details(report)
    output.info(
        f"Done in {report['seconds']['total']:.0f} s. Turn and light it: g2s view {shlex.quote(str(out))} --open"
    )
    files = {name: str(out / name) for name in (*KEY_FILES, *(SOLID_FILES if solid else ()))}
    lines = [out] if output.quiet else [out, *files.values()]
    output.print_result(lines, report | {"folder": str(out), "files": files})
