"""g2s mesh: a result folder → its meshes, written again at another resolution."""

from __future__ import annotations

from g2s_cli.commands import options
from g2s_cli.console import output


def mesh(
    folder: options.ResultFolder,
    mesh_size: options.MeshSize = None,
    texture_size: options.TextureSize = None,
    max_faces: options.MaxFaces = None,
    solid: options.Solid = False,
    height_mm: options.HeightMm = None,
    thickness_mm: options.ThicknessMm = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Write the meshes and textures of a result again, without reconstructing.

    Earlier ones are replaced; without --solid an earlier body for printing is removed.

    Example: g2s mesh out/ --max-faces 20000 --solid
    """
    output.set(quiet=quiet, verbose=verbose, as_json=as_json)
    detail = options.read_detail(mesh_size, texture_size, max_faces, solid, height_mm, thickness_mm)

    from g2s_cli.result.read import read_result
    from g2s_cli.result.write import rewrite_meshes

    with output.step("mesh"):
        written = rewrite_meshes(read_result(folder), folder, detail)
    output.print_result(written, {"folder": str(folder), "files": [str(path) for path in written]})
