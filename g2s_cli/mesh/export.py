"""Mesh files: GLB and OBJ with their textures, and a closed body for printing as STL and PLY."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import trimesh
from jaxtyping import Float, UInt8
from numpy import ndarray
from PIL import Image
from torch import Tensor

from g2s_cli.errors import UsageError
from g2s_cli.geometry.camera import Camera
from g2s_cli.geometry.image import to_uint8
from g2s_cli.mesh.back import back_surface
from g2s_cli.mesh.extract import Mesh, keep_largest_component, texture_coordinates, vertex_normals
from g2s_cli.mesh.options import BODY_FILES, SURFACE_FILES, Body, MeshOptions, TextureKind, too_thick
from g2s_cli.mesh.render import extend_to_back
from g2s_cli.mesh.solid import close_mesh, closed_face_count, scale_to_height, stand
from g2s_cli.mesh.texture import Texture

VERTICES, INDICES = 34962, 34963  # targets of glTF's buffer views
PNG_LEVEL = 1  # a third of the time of Pillow's own 6, and a quarter more bytes
MIN_FACES = 20  # of a simplified front


def write_meshes(folder: Path, mesh: Mesh, texture: Texture, options: MeshOptions) -> list[Path]:
    """Write every mesh file and texture into a folder.

    Returns:
        The paths of the files.

    Raises:
        G2SError: as `MeshOptions.check`.
    """
    options.check()
    names = [*SURFACE_FILES]
    surface = mesh
    if options.max_faces:
        surface = (simplify_front if mesh.back else simplify)(mesh, options.max_faces)
    with ThreadPoolExecutor() as pool:  # compression releases the interpreter's lock
        textures = {"texture.png": texture.lit, "texture_albedo.png": texture.albedo}
        written = [pool.submit(_write_texture, folder / name, colours) for name, colours in textures.items()]
        written.append(pool.submit(_write_glb, folder / "mesh.glb", surface, texture, options.texture))
        _write_obj(folder / "mesh.obj", surface, options.texture)
        for file in written:
            file.result()
    if options.body:
        body = make_body(mesh, texture.lit, options.body, options.max_faces)
        for name in BODY_FILES:
            body.export(folder / name)
            names.append(name)
    return [folder / name for name in names]


def simplify(mesh: Mesh, max_faces: int) -> Mesh:
    """Simplify a mesh by collapsing edges (Garland and Heckbert 1997). Raises UsageError if `max_faces` is too few."""
    if len(mesh.faces) <= max_faces:
        return mesh
    original = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
    simple = original.simplify_quadric_decimation(face_count=max_faces)
    # A collapse may leave a boundary that touches itself, or an edge of three triangles.
    vertices, faces = keep_largest_component(np.asarray(simple.vertices), np.asarray(simple.faces, dtype=np.int64))
    if not 0 < len(faces) <= max_faces:
        raise _too_few(max_faces)
    return replace(mesh, vertices=vertices, faces=faces)


def simplify_front(mesh: Mesh, max_faces: int) -> Mesh:
    """Simplify a mesh until it has at most `max_faces` triangles when closed. Raises UsageError if that is too few.

    Simplifying the closed body instead would fold its flat back over.
    """
    count = max_faces // 2
    while count >= MIN_FACES:
        front = simplify(mesh, count)
        if closed_face_count(front) <= max_faces:
            return front
        count = count * 9 // 10
    raise _too_few(max_faces)


def make_body(mesh: Mesh, lit: Float[Tensor, "3 t t"], body: Body, max_faces: int | None) -> trimesh.Trimesh:
    """Close the mesh to a watertight body in mm, coloured at its vertices. Raises UsageError as `simplify_front`.

    A mesh with a back becomes a bust that stands on a foot, another one a relief with a flat back.
    """
    front = simplify_front(mesh, max_faces) if max_faces else mesh
    if front.back:
        closed = front.closed
        vertices = stand(closed.vertices, closed.faces)
        scale, faces = body.height_mm / np.ptp(vertices[:, 1]), closed.faces
        colours = back_colours(front, closed.vertices, lit)
        colours[: len(front.vertices)] = vertex_colours(front.vertices, front.camera, to_uint8(lit))
        return trimesh.Trimesh(vertices * scale, faces, vertex_colors=colours, process=False)
    scale = scale_to_height(front, body.height_mm, body.thickness_mm)
    if scale <= 0:  # with a very wide field of view
        raise too_thick(body)
    vertices, faces = close_mesh(front, body.thickness_mm / scale)
    colours = vertex_colours(vertices, mesh.camera, to_uint8(lit))
    return trimesh.Trimesh(vertices * scale, faces, vertex_colors=colours, process=False)


def vertex_colours(
    vertices: Float[ndarray, "n 3"], camera: Camera, texture: UInt8[ndarray, "t t 3"]
) -> UInt8[ndarray, "n 3"]:
    """The texel of each vertex."""
    column, row = (texture_coordinates(vertices, camera) * (1, -1) + (0, 1)).T * len(texture)
    last = len(texture) - 1
    return texture[row.astype(int).clip(0, last), column.astype(int).clip(0, last)]


def back_colours(front: Mesh, vertices: Float[ndarray, "n 3"], lit: Float[Tensor, "3 t t"]) -> UInt8[ndarray, "n 3"]:
    """Colours of vertices on the back of a mesh."""
    return vertex_colours(vertices, front.camera, to_uint8(extend_to_back(lit, front.rim)))


def _too_few(max_faces: int) -> UsageError:
    return UsageError(f"The mesh needs more than {max_faces} triangles.", "Allow more with --max-faces.")


def textured_trimesh(mesh: Mesh, texture: Texture, kind: TextureKind = "photo") -> trimesh.Trimesh:
    """A mesh and its texture, which its alpha cuts out, as trimesh's."""
    image = Image.fromarray(to_uint8(texture.lit if kind == "photo" else texture.albedo))
    if texture.alpha is not None:
        image.putalpha(Image.fromarray((texture.alpha * 255).round().byte().cpu().numpy()))
    material = trimesh.visual.material.PBRMaterial(
        name="surface",
        baseColorTexture=image,
        metallicFactor=0.0,
        roughnessFactor=1.0,
        doubleSided=True,
        alphaMode="OPAQUE" if texture.alpha is None else "MASK",
    )
    return trimesh.Trimesh(
        mesh.vertices,
        mesh.faces,
        vertex_normals=mesh.normals,  # trimesh's own need scipy
        visual=trimesh.visual.TextureVisuals(uv=mesh.uv, material=material),
        process=False,
    )


def _write_texture(path: Path, colours: Float[Tensor, "3 t t"]) -> None:
    Image.fromarray(to_uint8(colours)).save(path, compress_level=PNG_LEVEL)


def _write_glb(path: Path, mesh: Mesh, texture: Texture, kind: TextureKind) -> None:
    """Write the mesh, and its back with colours at its vertices; the photo's is lit already (KHR_materials_unlit)."""
    surface = textured_trimesh(mesh, texture, kind)
    visual: Any = surface.visual
    image = visual.material.baseColorTexture
    image.save = partial(image.save, compress_level=PNG_LEVEL)  # trimesh names no level
    scene = trimesh.Scene()
    scene.add_geometry(surface, geom_name="surface")
    if mesh.back:
        vertices, faces = back_surface(mesh)
        colours = back_colours(mesh, vertices, texture.lit if kind == "photo" else texture.albedo)
        normals = vertex_normals(vertices, faces)
        scene.add_geometry(
            trimesh.Trimesh(vertices, faces, vertex_normals=normals, vertex_colors=colours, process=False),
            geom_name="back",
        )
    finish = _mark_unlit if kind == "photo" else _complete
    path.write_bytes(trimesh.exchange.gltf.export_glb(scene, include_normals=True, tree_postprocessor=finish))


def _mark_unlit(tree: dict[str, Any]) -> None:
    """Add KHR_materials_unlit to the materials of a glTF document."""
    _complete(tree)
    tree["extensionsUsed"] = ["KHR_materials_unlit"]
    for material in tree["materials"]:
        material["extensions"] = {"KHR_materials_unlit": {}}


def _complete(tree: dict[str, Any]) -> None:
    """Add to a glTF document the targets of buffers, and a matt, two-sided material for vertex colours alone."""
    parts = [part for one in tree["meshes"] for part in one["primitives"]]
    for part in parts:
        for accessor, target in [
            (part["indices"], INDICES),
            *((index, VERTICES) for index in part["attributes"].values()),
        ]:
            tree["bufferViews"][tree["accessors"][accessor]["bufferView"]]["target"] = target
    plain = [part for part in parts if "material" not in part]
    for part in plain:
        part["material"] = len(tree["materials"])
    if plain:
        pbr = {"metallicFactor": 0.0, "roughnessFactor": 1.0}
        tree["materials"].append({"name": "back", "doubleSided": True, "pbrMetallicRoughness": pbr})


def _write_obj(path: Path, mesh: Mesh, kind: TextureKind) -> None:
    """Write the mesh, and beside it the .mtl that refers to its texture."""
    shading = "illum 0\nmap_Kd texture.png" if kind == "photo" else "illum 1\nmap_Kd texture_albedo.png"
    path.with_suffix(".mtl").write_text(f"newmtl surface\nKa 1 1 1\nKd 1 1 1\nKs 0 0 0\n{shading}\n")
    rows = [
        ("v %.6f %.6f %.6f", mesh.vertices),
        ("vt %.6f %.6f", mesh.uv),
        ("vn %.4f %.4f %.4f", mesh.normals),
        ("f %d/%d/%d %d/%d/%d %d/%d/%d", np.repeat(mesh.faces + 1, 3, axis=1)),
    ]
    lines = ["# g2s: +Y up, facing +Z, scene units about the pivot", "mtllib mesh.mtl", "usemtl surface"]
    lines += ["\n".join([row] * len(values)) % tuple(values.ravel().tolist()) for row, values in rows]
    path.write_text("\n".join(lines) + "\n")
