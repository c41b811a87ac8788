"""What a result holds, and the names of the files in its folder."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from torch import Tensor

from g2s_cli.geometry.camera import Camera
from g2s_cli.geometry.factors import Factors
from g2s_cli.geometry.placement import Placement
from g2s_cli.geometry.resample import center_slice
from g2s_cli.mesh.export import BODY_FILES, SURFACE_FILES, MeshOptions

SCHEMA = 2
STATE, REPORT, ALIGNED, PAGE = "state.safetensors", "report.json", "aligned.png", "view.html"
MAPS = ("input.png", "inverted.png", "mask.png", "depth.npy", "depth.png", "normal.png", "albedo.png")
LARGE_MAPS = ("depth_large.png", "normal_large.png", "albedo_large.png")  # rendered from the mesh
# Files of every result, beside its meshes and the original photo.
REQUIRED_FILES = (*MAPS, *LARGE_MAPS, "reconstruction.png", "camera.json", "light.json", STATE, REPORT, ALIGNED)
# Regular expressions: the files of `g2s rotate` and `g2s relight`; every path that g2s writes into a result folder.
FRAME_FILES = r"(in_place_)?\d{3,}\.png|(rotate|relight|in_place)\.gif"
FIXED_NAMES = "|".join(map(re.escape, (*REQUIRED_FILES, *SURFACE_FILES, *BODY_FILES, PAGE)))
OWNED_PATHS = rf"{FIXED_NAMES}|original(\.[^/]*)?|(rotate|relight)/({FRAME_FILES})"
MAX_PICTURE_SIZE = 512  # default size of rendered pictures, pixels a side, at most
MAX_SUFFIX_BYTES = 100  # of the original photo; some file systems have 143 for a name
# Keys of the optional tensors in STATE.
OFFSET_PREFIX, RESIDUAL_KEY = "offset_net.", "apart"


@dataclass(frozen=True)
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

    @property
    def center_crop(self) -> UInt8[np.ndarray, "m m 3"]:
        """The part of the aligned crop that the depth map covers."""
        kept = center_slice(len(self.aligned), self.frame_share)
        return np.ascontiguousarray(self.aligned[kept, kept])

    @property
    def picture_size(self) -> int:
        """Default size of rendered pictures, pixels a side."""
        return max(self.camera.size, min(len(self.center_crop), MAX_PICTURE_SIZE))

    @property
    def is_symmetric(self) -> bool:
        """Whether the run assumed a left-right symmetric object."""
        return self.report.get("symmetry", "off") != "off"

    def save(self, folder: Path | str, *, overwrite: bool = False, detail: MeshOptions | None = None) -> None:
        """Write the result folder; see `g2s_cli.result.write.write_result`."""
        from g2s_cli.result.write import write_result  # noqa: PLC0415 (it imports this module)

        write_result(self, Path(folder), overwrite=overwrite, detail=detail)


def original_path(folder: Path, report: dict[str, Any]) -> Path:
    """Path of the original photo in a result folder; its suffix is the photo's own, unless it makes a long name."""
    suffix = Path(report.get("photo", "")).suffix.lower()
    return folder / f"original{suffix if len(os.fsencode(suffix)) <= MAX_SUFFIX_BYTES else ''}"


def missing_files(folder: Path, report: dict[str, Any]) -> list[str]:
    """Names of the files that a result folder with this report lacks."""
    body = BODY_FILES if (report.get("meshes") or {}).get("body") else ()
    names = (*REQUIRED_FILES, original_path(folder, report).name, *SURFACE_FILES, *body)
    return [name for name in names if not (folder / name).is_file()]
