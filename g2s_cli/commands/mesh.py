"""g2s mesh: a result folder → its meshes anew, as fine or as coarse as asked."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from g2s_cli.commands.options import (
    HeightMm,
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


def mesh(
    folder: Annotated[Path, typer.Argument(metavar="OUT", help="A folder that g2s reconstruct made.")],
    mesh_size: MeshSize = None,
    texture_size: TextureSize = None,
    max_faces: MaxFaces = None,
    solid: Solid = False,
    height_mm: HeightMm = None,
    thickness_mm: ThicknessMm = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Write the meshes and textures of a result again, without reconstructing.

    Earlier ones are replaced; without --solid an earlier body for printing is removed.

    Example: g2s mesh out/ --max-faces 20000 --solid
    """
    output.set(quiet=quiet, verbose=verbose)
    detail = read_detail(mesh_size, texture_size, max_faces, solid, height_mm, thickness_mm)

    from g2s_cli.result.folder import read_result, rewrite_meshes

    written = rewrite_meshes(read_result(folder), folder, detail)
    if as_json:
        output.print_json({"folder": str(folder), "files": [str(path) for path in written]})
        return
    for path in written:
        output.print(path)
