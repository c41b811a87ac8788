"""What a result holds, and the names of the files in its folder."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from g2s_cli.geometry.camera import Camera
from g2s_cli.geometry.factors import Factors
from g2s_cli.geometry.image import to_uint8
from g2s_cli.geometry.placement import Placement
from g2s_cli.geometry.resample import center_slice
from g2s_cli.mesh.options import BODY_FILES, SURFACE_FILES, Extent, MeshOptions
from g2s_cli.photo.crop import Matte

if TYPE_CHECKING:
    from trimesh import Trimesh

SCHEMA = 2
STATE, REPORT, ALIGNED, PAGE = "state.safetensors", "report.json", "aligned.png", "view.html"
MATTE = "matte.png"  # of results whose object is known beyond the crop
MAPS = ("input.png", "inverted.png", "mask.png", "depth.npy", "depth.png", "normal.png", "albedo.png")
LARGE_MAPS = ("depth_large.png", "normal_large.png", "albedo_large.png")  # rendered from the mesh
# Files of every result, beside its meshes and the original photo.
REQUIRED_FILES = (*MAPS, *LARGE_MAPS, "reconstruction.png", "camera.json", "light.json", STATE, REPORT, ALIGNED)
# Regular expressions: the files of `g2s rotate` and `g2s relight`; every path that g2s writes into a result folder.
FRAME_FILES = r"(in_place_)?\d{3,}\.png|(rotate|relight|in_place)\.(gif|mp4|webm|webp)"
FIXED_NAMES = "|".join(map(re.escape, (*REQUIRED_FILES, MATTE, *SURFACE_FILES, *BODY_FILES, PAGE)))
OWNED_PATHS = rf"{FIXED_NAMES}|original(\.[^/]*)?|(rotate|relight)/({FRAME_FILES})"
MAX_PICTURE_SIZE = 512  # default size of rendered pictures, pixels a side, at most
MAX_SUFFIX_BYTES = 100  # of the original photo; some file systems have 143 for a name
# Keys of the optional tensors in STATE.
OFFSET_PREFIX, RESIDUAL_KEY = "offset_net.", "apart"


@dataclass(frozen=True, repr=False, eq=False)
class Result:
    """The reconstruction of one photo; all tensors are on the CPU.

    photo, inverted: the centre crops of the aligned photo and of G(w), in [-1, 1].
    aligned: the aligned crop at the photo's own resolution.
    placement: position of the aligned crop in the upright photo.
    original: bytes of the photo's file.
    mask: object mask in the photo's view, at the working size.
    factors: depth, albedo, view and light.
    latent: w.
    offset_net: state dict of the offset encoder; empty for fixed latent directions.
    report: JSON-able facts about the run.
    frame_share: side of the centre crop, as a share of the aligned crop's side.
    matte: of the object beyond the crop, too; None if the mask is known in the crop alone.
    outline, support: of results in a wide frame (`result.wide`): the soft mask of `aligned`, and where the canonical
        depth is known.
    """

    category: str
    photo: Float[Tensor, "3 s s"]
    aligned: UInt8[np.ndarray, "n n 3"]
    placement: Placement
    original: bytes
    inverted: Float[Tensor, "3 s s"]
    mask: Float[Tensor, "h w"]
    factors: Factors
    latent: Float[Tensor, " d"]
    offset_net: dict[str, Tensor]
    camera: Camera
    report: dict[str, Any]
    frame_share: float = 1.0
    matte: Matte | None = None
    outline: Float[Tensor, "m m"] | None = None
    support: Float[Tensor, "h h"] | None = None

    @property
    def center_crop(self) -> UInt8[np.ndarray, "m m 3"]:
        """The part of the aligned crop that the depth map covers."""
        kept = center_slice(len(self.aligned), self.frame_share)
        return np.ascontiguousarray(self.aligned[kept, kept])

    def __repr__(self) -> str:
        photo, preset = (self.report.get(name, "") for name in ("photo", "preset"))
        return f"Result({photo!r}, category={self.category!r}, preset={preset!r}, {len(self.aligned)} px)"

    @property
    def picture_size(self) -> int:
        """Default size of rendered pictures, pixels a side."""
        return max(self.camera.size, min(len(self.center_crop), MAX_PICTURE_SIZE))

    @property
    def extent(self) -> Extent:
        """How much of the photo's object the meshes and pictures show."""
        return (self.report.get("meshes") or {}).get("extent") or "head"

    @property
    def is_symmetric(self) -> bool:
        """Whether the run assumed a left-right symmetric object."""
        return self.report.get("symmetry", "off") != "off"

    def save(self, folder: Path | str, *, overwrite: bool = False, detail: MeshOptions | None = None) -> None:
        """Write the result folder; see `g2s_cli.result.write.write_result`."""
        from g2s_cli.result.write import write_result  # noqa: PLC0415 (it imports this module)

        write_result(self, Path(folder), overwrite=overwrite, detail=detail)

    def image(
        self,
        *,
        yaw_deg: float = 0.0,
        pitch_deg: float = 0.0,
        light: tuple[float, float] | None = None,
        strength: float | None = None,
        ambient: float | None = None,
        size: int | None = None,
    ) -> Image.Image:
        """A Pillow image of the object on white, turned and lit; see `g2s_cli.result.pictures.picture`."""
        from g2s_cli.result.pictures import picture  # noqa: PLC0415 (it imports this module)

        rendered = picture(
            self, yaw_deg=yaw_deg, pitch_deg=pitch_deg, light=light, strength=strength, ambient=ambient, size=size
        )
        return Image.fromarray(to_uint8(rendered))

    def save_picture(
        self,
        path: Path | str,
        *,
        yaw_deg: float = 0.0,
        pitch_deg: float = 0.0,
        light: tuple[float, float] | None = None,
        strength: float | None = None,
        ambient: float | None = None,
        size: int | None = None,
    ) -> None:
        """Write `image` to a file, whose suffix is its format."""
        image = self.image(
            yaw_deg=yaw_deg, pitch_deg=pitch_deg, light=light, strength=strength, ambient=ambient, size=size
        )
        image.save(path)

    def mesh(self, detail: MeshOptions | None = None) -> Trimesh:
        """The mesh with its texture, as trimesh's; +Y up, the object faces +Z. `detail.body` is not closed here."""
        from g2s_cli.mesh.export import simplify, textured_trimesh  # noqa: PLC0415 (trimesh takes a second to import)
        from g2s_cli.result.surface import textured_mesh  # noqa: PLC0415 (it imports this module)
        from g2s_cli.result.wide import widen  # noqa: PLC0415 (likewise)

        detail = detail or MeshOptions()
        mesh, texture = textured_mesh(widen(self, detail.extent, detail.texture_size), detail)
        return textured_trimesh(simplify(mesh, detail.max_faces) if detail.max_faces else mesh, texture)


def original_path(folder: Path, report: dict[str, Any]) -> Path:
    """Path of the original photo in a result folder; its suffix is the photo's own, unless it makes a long name."""
    suffix = Path(report.get("photo", "")).suffix.lower()
    return folder / f"original{suffix if len(os.fsencode(suffix)) <= MAX_SUFFIX_BYTES else ''}"


def missing_files(folder: Path, report: dict[str, Any]) -> list[str]:
    """Names of the files that a result folder with this report lacks."""
    body = BODY_FILES if (report.get("meshes") or {}).get("body") else ()
    names = (*REQUIRED_FILES, original_path(folder, report).name, *SURFACE_FILES, *body)
    return [name for name in names if not (folder / name).is_file()]
