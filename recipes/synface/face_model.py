"""The ICT face model: a neutral head, what makes heads differ, and where on it things are.

The model is a .npz made of a checkout of https://github.com/ICT-VGL/ICT-FaceKit (MIT licence) by
`recipes.synface.facekit`. Lengths in cm, x to the head's left, y up, z out of the face; texture coordinates
(u right, v up) run over the face in [0, 1]².
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64, Int32

from g2s_cli.errors import G2SError
from g2s_cli.zoo.store import sha256_of
from recipes.synface.markings import Markings, mark

REMEDY = "Make it again: python -m recipes.synface model ICT-FaceKit/ -o ict_face_model.npz"
# Skin, mouth and eyes. Left out: the transparent layers over the eyes, and lashes, which need them.
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
VERTICES = 26719  # parts and landmarks are told by a vertex's number, so another mesh cannot be used


@dataclass(frozen=True)
class FaceModel:
    """What does not differ from head to head.

    triangles: those of `SHOWN`. uv: a vertex's texture coordinates; on seams, those of its last triangle.
    identities: offsets whose coefficients are unit normal among people. expressions: offsets of whole expressions.
    sha256: of the file.
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
    vertices, shown = arrays["v"].astype(np.float32), np.isin(arrays["m"], _numbers(arrays["mats"]))
    triangles = arrays["f"].astype(np.int32)[shown]
    uv = np.zeros((len(vertices), 2), np.float32)
    uv[triangles.ravel()] = arrays["vt"][arrays["ft"][shown].ravel()]
    return FaceModel(
        vertices=vertices,
        triangles=triangles,
        uv=uv,
        identities=arrays["ids"].astype(np.float64),
        expressions=arrays["ex"].astype(np.float32),
        markings=mark(vertices, uv),
        sha256=sha256_of(path),
    )


def _numbers(materials: np.ndarray) -> list[int]:
    return [list(materials).index(name) for name in SHOWN]


def _read(path: Path) -> dict[str, Any]:
    """The arrays of a .npz, after a look at whether they go together."""
    if not path.is_file():
        raise G2SError(f"{path} is no file.", REMEDY)
    try:
        with np.load(path) as file:
            arrays = {name: file[name] for name in ("v", "vt", "f", "ft", "m", "mats", "ids", "ex")}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise G2SError(f"{path} is no face model, or damaged: {error}.", REMEDY) from error
    return arrays
