"""The ICT face model: a neutral head, what makes heads differ, and where on it things are.

The model is a .npz that `recipes.synface.facekit` makes of a checkout of
https://github.com/ICT-VGL/ICT-FaceKit (MIT licence). Lengths in cm; x to the head's left, y up, z out of the face;
texture coordinates (u to the head's left, v up) are in [0, 1] on the face.
"""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64, Int32

from g2s_cli.errors import G2SError
from g2s_cli.files import sha256_of
from recipes.synface.markings import Markings, mark

REMEDY = "The recipe's README says where the face model is from, and how to make it."
# Every array, and its shape after the first axis; `None` for a list of names.
ARRAYS: dict[str, tuple[int, ...]] = {
    "v": (3,),  # neutral vertices
    "vt": (2,),  # texture coordinates
    "f": (3,),  # triangles, by vertices
    "ft": (3,),  # the same, by texture coordinates
    "m": (),  # their materials, by place in `mats`
    "mats": (),
    "ids": (26719, 3),  # offsets of identities
    "ex": (26719, 3),  # offsets of expressions
    "exn": (),  # the expressions' names
}
VERTICES = 26719  # parts and landmarks are told by a vertex's number, so no other mesh will do
# Skin, mouth and eyes. Left out: transparent layers over the eyes, and the lashes.
SHOWN = (
    "M_Face",
    "M_BackHead",
    "M_GumsTongue",
    "M_Teeth",
    "M_ScleraLeft",
    "M_IrisLeft",
    "M_ScleraRight",
    "M_IrisRight",
)


@dataclass(frozen=True)
class FaceModel:
    """What does not differ from head to head, of the materials in `SHOWN`.

    uv: a vertex's texture coordinates; on a seam, those its last triangle has there.
    identities: offsets whose coefficients are unit normal among people, in double precision, so that their sum
    is exact. expressions: offsets of whole expressions. sha256: of the file.
    """

    vertices: Float32[np.ndarray, "v 3"]
    triangles: Int32[np.ndarray, "t 3"]
    uv: Float32[np.ndarray, "v 2"]
    identities: Float64[np.ndarray, "i v 3"]
    expressions: Float32[np.ndarray, "e v 3"]
    markings: Markings
    sha256: str


def read_face_model(path: Path) -> FaceModel:
    """Read a .npz. Raises G2SError if it is missing, damaged, or of another mesh."""
    arrays = _read(path)
    shown = np.isin(arrays["m"], [list(arrays["mats"]).index(name) for name in SHOWN])
    triangles = arrays["f"][shown].astype(np.int32)
    used = triangles.max() + 1  # what is not shown comes last
    vertices, uv = arrays["v"][:used].astype(np.float32), np.zeros((used, 2), np.float32)
    uv[triangles.ravel()] = arrays["vt"][arrays["ft"][shown].ravel()]
    return FaceModel(
        vertices=vertices,
        triangles=triangles,
        uv=uv,
        identities=arrays["ids"][:, :used].astype(np.float64),
        expressions=arrays["ex"][:, :used].astype(np.float32),
        markings=mark(vertices, uv),
        sha256=sha256_of(path),
    )


def _read(path: Path) -> dict[str, Any]:
    """The arrays of a .npz that go together."""
    if not path.is_file():
        raise G2SError(f"{path} is missing.", REMEDY)
    try:
        with np.load(path) as file:
            arrays = {name: file[name] for name in ARRAYS}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise G2SError(f"{path} is no face model, or damaged: {str(error).rstrip('.')}.", REMEDY) from error
    for name, shape in ARRAYS.items():
        if arrays[name].ndim == 0 or arrays[name].shape[1:] != shape:
            raise G2SError(f"{path} is no face model: {name} is {arrays[name].shape}.", REMEDY)
    fits = (
        len(arrays["v"]) == VERTICES
        and len(arrays["f"]) == len(arrays["ft"]) == len(arrays["m"])
        and arrays["f"].max() < VERTICES
        and arrays["ft"].max() < len(arrays["vt"])
        and set(SHOWN) <= set(arrays["mats"])
        and all(np.isfinite(arrays[name]).all() for name in ("v", "vt", "ids", "ex"))
    )
    if not fits:
        raise G2SError(f"{path} is of another mesh than ICT-FaceKit's, or damaged.", REMEDY)
    return arrays
