"""Mesh files: GLB and OBJ with their textures, and a closed body for printing as STL and PLY."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import trimesh
from jaxtyping import Float, UInt8
from numpy import ndarray
from PIL import Image
from torch import Tensor

from g2s_cli.errors import G2SError, UsageError
from g2s_cli.geometry.camera import Camera
from g2s_cli.geometry.image import to_uint8
from g2s_cli.mesh.extract import Mesh, keep_largest_component, texture_coordinates, vertex_normals
from g2s_cli.mesh.render import extend_to_back
from g2s_cli.mesh.solid import close_mesh, closed_face_count, scale_to_height, stand
from g2s_cli.mesh.texture import Texture

SURFACE_FILES = ("mesh.glb", "mesh.obj", "mesh.mtl", "texture.png", "texture_albedo.png")
BODY_FILES = ("mesh.stl", "mesh.ply")
PNG_LEVEL = 3  # of textures: a third of the time of Pillow's own 6, and 15 % more bytes
Extent = Literal["crop", "head", "person"]
TextureKind = Literal["photo", "albedo"]
SIMPLIFIER = "fast_simplification"
MAX_MM = 10_000.0  # of a body; no printer is larger
MESH_SIZES, TEXTURE_SIZES = (16, 1024), (16, 4096)  # least and largest
MIN_FACES = 20  # of a simplified front


@dataclass(frozen=True)
class Body:
    """A body for printing.

    A relief is no thicker than tall: its back widens along the camera's rays and would outgrow its front.
    """

    height_mm: float = 100.0  # of the whole body
    thickness_mm: float = 3.0  # of a relief, behind the farthest point of the surface

    def check(self) -> None:
        """Raise UsageError unless the body can be printed."""
        _check_range("--height-mm", self.height_mm, 1.0, MAX_MM)
        _check_range("--thickness-mm", self.thickness_mm, 0.1, MAX_MM)
        if self.thickness_mm > self.height_mm:
            raise _too_thick(self)


@dataclass(frozen=True)
class MeshOptions:
    """The resolution and the extent of a mesh and its texture; None chooses by the photo, or the result."""

    mesh_size: int | None = None  # grid points a side
    texture_size: int | None = None  # pixels a side
    max_faces: int | None = None  # of any mesh
    body: Body | None = None  # also write a closed body for printing
    extent: Extent | None = None  # how much of the photo's object
    texture: TextureKind = "photo"  # of GLB and OBJ: lit by the photo's light, or to be lit by the viewer

    def check(self) -> None:
        """Raise UsageError for values out of range, G2SError if an optional dependency is missing."""
        _check_range("--mesh-size", self.mesh_size, *MESH_SIZES)
        _check_range("--texture-size", self.texture_size, *TEXTURE_SIZES)
        if self.body:
            self.body.check()
        if self.max_faces and importlib.util.find_spec(SIMPLIFIER) is None:
            raise G2SError(
                "--max-faces needs fast-simplification, which is not installed.",
                "pip install 'g2s-cli[simplify]', or choose a coarser --mesh-size.",
            )


def _check_range(option: str, value: float | int | None, least: float | int, most: float | int) -> None:
    if value is not None and not least <= value <= most:  # NaN is out of range, too
        raise UsageError(f"{option} {value:g} is out of range.", f"Give {least:g} to {most:g}.")


def write_meshes(folder: Path, mesh: Mesh, texture: Texture, options: MeshOptions) -> list[Path]:
    """Write every mesh file and texture into a folder.

    Returns:
        The paths of the files.

    Raises:
        G2SError: as `MeshOptions.check`.
    """
    options.check()
    lit = to_uint8(texture.lit)
    for name, colours in {"texture.png": lit, "texture_albedo.png": to_uint8(texture.albedo)}.items():
        Image.fromarray(colours).save(folder / name, compress_level=PNG_LEVEL)
    names = [*SURFACE_FILES]
    surface = mesh
    if options.max_faces:
        surface = (simplify_front if mesh.back else simplify)(mesh, options.max_faces)
    _write_glb(folder / "mesh.glb", surface, texture, options.texture)
    _write_obj(folder / "mesh.obj", surface, options.texture)
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
        raise _too_thick(body)
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


def _too_thick(body: Body) -> UsageError:
    return UsageError(
        f"A body {body.height_mm:g} mm tall cannot be {body.thickness_mm:g} mm thick.",
        "Choose a smaller --thickness-mm or a larger --height-mm.",
    )


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


def _write_glb(path: Path, mesh: Mesh, texture: Texture, kind: TextureKind) -> None:
    """Write the mesh, and its back with colours at its vertices; the photo's is lit already (KHR_materials_unlit)."""
    surface = textured_trimesh(mesh, texture, kind)
    visual: Any = surface.visual
    image = visual.material.baseColorTexture
    image.save = partial(image.save, compress_level=PNG_LEVEL)  # trimesh names no level
    scene = trimesh.Scene()
    scene.add_geometry(surface, geom_name="surface")
    if mesh.back:
        closed = mesh.closed
        used, faces = np.unique(closed.faces[len(mesh.faces) :], return_inverse=True)
        vertices, faces = closed.vertices[used], faces.reshape(-1, 3)
        colours = back_colours(mesh, vertices, texture.lit if kind == "photo" else texture.albedo)
        normals = vertex_normals(vertices, faces)
        scene.add_geometry(
            trimesh.Trimesh(vertices, faces, vertex_normals=normals, vertex_colors=colours, process=False),
            geom_name="back",
        )
    finish = _mark_unlit if kind == "photo" else _add_material
    path.write_bytes(trimesh.exchange.gltf.export_glb(scene, include_normals=True, tree_postprocessor=finish))


def _mark_unlit(tree: dict[str, Any]) -> None:
    """Add KHR_materials_unlit to the materials of a glTF document."""
    _add_material(tree)
    tree["extensionsUsed"] = ["KHR_materials_unlit"]
    for material in tree["materials"]:
        material["extensions"] = {"KHR_materials_unlit": {}}


def _add_material(tree: dict[str, Any]) -> None:
    """Give the parts of a glTF document that have vertex colours alone a matt, two-sided material."""
    plain = [part for one in tree["meshes"] for part in one["primitives"] if "material" not in part]
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
