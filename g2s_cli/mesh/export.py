"""Mesh files: GLB and OBJ with their textures, and a closed body for printing as STL and PLY."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import trimesh
from jaxtyping import UInt8
from numpy import ndarray
from PIL import Image

from g2s_cli.errors import G2SError, UsageError
from g2s_cli.geometry.image import to_uint8
from g2s_cli.mesh.extract import Mesh, keep_largest_component, mesh_of, texture_coordinates
from g2s_cli.mesh.solid import close_mesh, closed_face_count, scale_to_height
from g2s_cli.mesh.texture import Texture

SURFACE_FILES = ("mesh.glb", "mesh.obj", "mesh.mtl", "texture.png", "texture_albedo.png")
BODY_FILES = ("mesh.stl", "mesh.ply")
SIMPLIFIER = "fast_simplification"
MAX_MM = 10_000.0  # of a body; no printer is larger
MESH_SIZES, TEXTURE_SIZES = (16, 1024), (16, 4096)  # from and to
MIN_FACES = 20  # a front of fewer triangles is no relief any more


@dataclass(frozen=True)
class Body:
    """A body for printing: how tall all of it is, and how thick behind the surface's farthest point, in millimetres.

    It is no thicker than tall: its back is drawn out along the camera's rays, and would outgrow its front.
    """

    height_mm: float = 100.0
    thickness_mm: float = 3.0

    def check(self) -> None:
        """Raise UsageError if nobody could print it."""
        for name, size, least in (("height", self.height_mm, 1.0), ("thickness", self.thickness_mm, 0.1)):
            if not least <= size <= MAX_MM:  # nor is nan
                raise UsageError(f"--{name}-mm {size:g} is out of range.", f"Give {least:g} to {MAX_MM:g} millimetres.")
        if self.thickness_mm > self.height_mm:
            raise _too_thick(self)


@dataclass(frozen=True)
class MeshOptions:
    """How fine a mesh is to be.

    mesh_size, texture_size: points of the relief's grid and pixels of the texture a side; None is what the photo is
    worth. max_faces: no more triangles than this in any mesh. body: whether to close the relief for printing.
    """

    mesh_size: int | None = None
    texture_size: int | None = None
    max_faces: int | None = None
    body: Body | None = None

    def check(self) -> None:
        """Raise UsageError if it cannot be meant, G2SError if this machine cannot make it."""
        for name, size, (least, most) in (
            ("mesh", self.mesh_size, MESH_SIZES),
            ("texture", self.texture_size, TEXTURE_SIZES),
        ):
            if size is not None and not least <= size <= most:
                raise UsageError(f"--{name}-size {size} is out of range.", f"Give {least} to {most}.")
        if self.body:
            self.body.check()
        if self.max_faces and importlib.util.find_spec(SIMPLIFIER) is None:
            raise G2SError(
                "--max-faces needs fast-simplification, which is not installed.",
                "pip install 'g2s-cli[simplify]', or choose a coarser --mesh-size.",
            )


def write_meshes(folder: Path, mesh: Mesh, texture: Texture, detail: MeshOptions) -> list[Path]:
    """Write every mesh file and texture into a folder; returns their paths. Raises G2SError as `MeshOptions.check`."""
    detail.check()
    lit = to_uint8(texture.lit)
    Image.fromarray(lit).save(folder / "texture.png")
    Image.fromarray(to_uint8(texture.albedo)).save(folder / "texture_albedo.png")
    names = [*SURFACE_FILES]
    surface = simplify(mesh, detail.max_faces) if detail.max_faces else mesh
    _write_glb(folder / "mesh.glb", surface, lit)
    _write_obj(folder / "mesh.obj", surface)
    if detail.body:
        body = make_body(mesh, lit, detail.body, detail.max_faces)
        for name in BODY_FILES:
            body.export(folder / name)
            names.append(name)
    return [folder / name for name in names]


def simplify(mesh: Mesh, max_faces: int) -> Mesh:
    """A mesh of no more than so many triangles and nearly the same shape, by collapsing edges (Garland, Heckbert 1997).

    Raises UsageError if there is none.
    """
    if len(mesh.faces) <= max_faces:
        return mesh
    whole = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
    fewer = whole.simplify_quadric_decimation(face_count=max_faces)
    # A collapse may leave a rim that touches itself, or an edge of three triangles.
    vertices, faces = keep_largest_component(np.asarray(fewer.vertices), np.asarray(fewer.faces, dtype=np.int64))
    if not 0 < len(faces) <= max_faces:
        raise _too_few(max_faces)
    return mesh_of(vertices, faces, mesh.camera)


def _too_thick(body: Body) -> UsageError:
    return UsageError(
        f"A body {body.height_mm:g} mm tall cannot be {body.thickness_mm:g} mm thick.",
        "Choose a smaller --thickness-mm or a larger --height-mm.",
    )


def _too_few(max_faces: int) -> UsageError:
    return UsageError(f"The mesh cannot be had with {max_faces} triangles.", "Allow more with --max-faces.")


def simplify_front(mesh: Mesh, max_faces: int) -> Mesh:
    """A relief that closed has no more than so many triangles. Raises UsageError if there is none.

    The front is made simpler and then closed: collapsing the edges of the body itself folds its flat back over.
    """
    count = max_faces // 2
    while count >= MIN_FACES:
        front = simplify(mesh, count)
        if closed_face_count(front) <= max_faces:
            return front
        count = count * 9 // 10
    raise _too_few(max_faces)


def make_body(mesh: Mesh, lit: UInt8[ndarray, "t t 3"], body: Body, max_faces: int | None) -> trimesh.Trimesh:
    """Close the mesh to a watertight body in mm, coloured at its vertices. Raises UsageError as `simplify_front`."""
    front = simplify_front(mesh, max_faces) if max_faces else mesh
    scale = scale_to_height(front, body.height_mm, body.thickness_mm)
    if scale <= 0:  # of a camera with a very wide view
        raise _too_thick(body)
    vertices, faces = close_mesh(front, body.thickness_mm / scale)
    column, row = (texture_coordinates(vertices, mesh.camera) * (1, -1) + (0, 1)).T * len(lit)
    colours = lit[row.astype(int).clip(0, len(lit) - 1), column.astype(int).clip(0, len(lit) - 1)]
    return trimesh.Trimesh(vertices * scale, faces, vertex_colors=colours, process=False)


def _write_glb(path: Path, mesh: Mesh, lit: UInt8[ndarray, "t t 3"]) -> None:
    material = trimesh.visual.material.PBRMaterial(
        name="surface", baseColorTexture=Image.fromarray(lit), metallicFactor=0.0, roughnessFactor=1.0
    )
    surface = trimesh.Trimesh(
        mesh.vertices,
        mesh.faces,
        vertex_normals=mesh.normals,  # trimesh's own need scipy
        visual=trimesh.visual.TextureVisuals(uv=mesh.uv, material=material),
        process=False,
    )
    path.write_bytes(trimesh.exchange.gltf.export_glb(trimesh.Scene(surface), include_normals=True))


def _write_obj(path: Path, mesh: Mesh) -> None:
    """The mesh, and the .mtl that names texture.png beside it."""
    path.with_suffix(".mtl").write_text("newmtl surface\nKa 1 1 1\nKd 1 1 1\nKs 0 0 0\nillum 1\nmap_Kd texture.png\n")
    lines = ["# g2s: +Y up, facing +Z, scene units about the pivot", "mtllib mesh.mtl", "usemtl surface"]
    lines += [f"v {x:.6f} {y:.6f} {z:.6f}" for x, y, z in mesh.vertices]
    lines += [f"vt {u:.6f} {v:.6f}" for u, v in mesh.uv]
    lines += [f"vn {x:.4f} {y:.4f} {z:.4f}" for x, y, z in mesh.normals]
    lines += ["f " + " ".join(f"{k}/{k}/{k}" for k in face) for face in mesh.faces + 1]
    path.write_text("\n".join(lines) + "\n")
