"""The options of mesh files, and the files' names. Imports neither torch nor trimesh."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import Literal

from g2s_cli.errors import G2SError, UsageError

SURFACE_FILES = ("mesh.glb", "mesh.obj", "mesh.mtl", "texture.png", "texture_albedo.png")
BODY_FILES = ("mesh.stl", "mesh.ply")
Extent = Literal["crop", "head", "person"]
TextureKind = Literal["photo", "albedo"]
SIMPLIFIER = "fast_simplification"
MAX_MM = 10_000.0  # of a body; no printer is larger
MESH_SIZES, TEXTURE_SIZES = (16, 1024), (16, 4096)  # least and largest


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
            raise too_thick(self)


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


def too_thick(body: Body) -> UsageError:
    """The error of a body that cannot be so thick."""
    return UsageError(
        f"A body {body.height_mm:g} mm tall cannot be {body.thickness_mm:g} mm thick.",
        "Choose a smaller --thickness-mm or a larger --height-mm.",
    )
