"""g2s mesh: a result folder → its meshes, written again at another resolution."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from g2s_cli.commands import options
from g2s_cli.console import output


def mesh(
    folder: options.ResultFolder,
    out: Annotated[
        Path | None,
        options.output_option("--out", "-o", metavar="FOLDER", help="The folder of the meshes.", show_default="RESULT"),
    ] = None,
    overwrite: Annotated[
        bool, options.output_option("--overwrite", help="Replace other meshes, which is refused otherwise.")
    ] = False,
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
) -> None:
    """Write the meshes and textures of a result at another resolution, or add a body for printing.

    It refuses to change earlier meshes: --overwrite replaces them, -o writes the new ones elsewhere.

    Example: g2s mesh out/ --max-faces 20000 -o small/
    """
    output.set(quiet=quiet, verbose=verbose, as_json=as_json)
    detail = options.read_detail(mesh_size, texture_size, max_faces, solid, height_mm, thickness_mm, extent, texture)

    import trimesh

    from g2s_cli.mesh.options import BODY_FILES
    from g2s_cli.result.read import read_result
    from g2s_cli.result.write import export_meshes, rewrite_meshes

    target = out or folder
    write = rewrite_meshes if target.resolve() == folder.resolve() else export_meshes
    with output.step("mesh"):
        written = write(read_result(folder), target, detail, overwrite=overwrite)
    if detail.body:
        width, height, depth = trimesh.load(target / BODY_FILES[0]).extents
        output.info(f"The body is {width:.0f} mm wide, {height:.0f} mm high and {depth:.0f} mm deep.")
    output.print_result(written, {"folder": str(target), "files": [str(path) for path in written]})
