"""g2s compare-mesh: a result and a true mesh → the distances of their surfaces."""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from g2s_cli.commands import options
from g2s_cli.console import output
from g2s_cli.errors import UsageError


def compare_mesh(
    folder: options.ResultFolder,
    truth: Annotated[Path, typer.Argument(metavar="TRUTH", help="The true mesh: PLY, OBJ, GLB or STL.")],
    interocular: Annotated[
        float | None,
        options.input_option(
            "--interocular",
            min=1e-9,
            metavar="LENGTH",
            help="Distance of the eyes, in the true mesh's unit.",
            show_default="of the detected face",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        options.output_option(
            "--out", "-o", metavar="FILE", help="The coloured mesh.", show_default="RESULT/errors.ply"
        ),
    ] = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Compare a result's mesh with a true one: accuracy, completeness, chamfer distance and F-score.

    The result is aligned by point-to-plane ICP, in scale too. The true mesh is to be upright (+Y) and to look along +Z,
    within about 30°. Distances are in percent of the interocular distance. FILE is the result's mesh in the place of
    the true one: red where it lies outside, blue inside, in full colour at 20 %.

    Example: g2s compare-mesh out/ scan.ply
    """
    output.set(quiet=quiet, verbose=verbose, as_json=as_json)

    import trimesh

    from g2s_cli.evaluation.mesh_comparison import F_SCORE_SHARE, align, compare, error_colours, eye_distance, read_mesh
    from g2s_cli.files import atomic_write
    from g2s_cli.result.read import read_result
    from g2s_cli.result.schema import OWNED_PATHS

    eyes = eye_distance(read_result(folder))
    if not (eyes or interocular):
        raise UsageError(f"The run of {folder} detected no face.", "Give the distance of the eyes with --interocular.")
    path = out or folder / "errors.ply"
    if path.resolve() == truth.resolve() or (
        path.resolve().parent == folder.resolve() and re.fullmatch(OWNED_PATHS, path.name)
    ):
        raise UsageError(f"{path} would be replaced, which is compared.", "Name another file with -o.")
    ours, theirs = read_mesh(folder / "mesh.obj"), read_mesh(truth)
    similarity = align(ours, theirs)
    aligned = trimesh.Trimesh(similarity(ours.vertices), ours.faces, process=False)
    comparison, signed = compare(aligned, theirs, interocular or similarity.scale * (eyes or 0.0))
    colours = (255 * error_colours(signed)).astype("uint8")
    aligned.visual = trimesh.visual.ColorVisuals(aligned, vertex_colors=colours)
    with atomic_write(path, "Free space, or name another file.") as temporary:
        temporary.write_bytes(trimesh.exchange.ply.export_ply(aligned))
    figures = asdict(comparison) | {"chamfer": comparison.chamfer}
    lines = [f"{name} {figures[name]:.2f} %" for name in ("accuracy", "completeness", "chamfer")]
    lines.append(f"F-score at {100 * F_SCORE_SHARE:.0f} % {comparison.f_score:.3f}")
    output.print_result([*lines, path], figures | {"scale": similarity.scale, "file": str(path)})
