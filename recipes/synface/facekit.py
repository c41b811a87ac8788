"""The face model as one file, of a checkout of ICT-FaceKit: https://github.com/ICT-VGL/ICT-FaceKit (MIT licence).

Its folder FaceXModel has a neutral head, 100 identities and 57 expressions as OBJ files, all of the same mesh.
Offsets from the neutral head are kept in half precision, within 0.001 cm of the original.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
from jaxtyping import Float16, Float32

from g2s_cli.errors import G2SError
from g2s_cli.files import atomic_write

NEUTRAL, IDENTITY = "generic_neutral_mesh", "identity"
REMEDY = "Get it anew: git clone https://github.com/ICT-VGL/ICT-FaceKit"


def write_face_model(checkout: Path, path: Path) -> None:
    """Write the .npz that `read_face_model` reads. Raises G2SError if the checkout is not whole."""
    folder = checkout / "FaceXModel"
    neutral = folder / f"{NEUTRAL}.obj"
    if not neutral.is_file():
        raise G2SError(f"{checkout} is no checkout of ICT-FaceKit: {neutral} is missing.", REMEDY)
    vertices = _numbers(neutral, "v", 3)
    others = sorted(file.stem for file in folder.glob("*.obj") if file != neutral)
    identities = [name for name in others if name.startswith(IDENTITY)]
    expressions = [name for name in others if not name.startswith(IDENTITY)]
    if not identities or not expressions:
        raise G2SError(f"{folder} has no identities or no expressions.", REMEDY)
    triangles, texture_triangles, owners, materials = _triangles(neutral)
    arrays = {
        "v": vertices,
        "vt": _numbers(neutral, "vt", 2),
        "f": triangles,
        "ft": texture_triangles,
        "m": owners,
        "mats": materials,
        "ids": np.stack([_offsets(folder / f"{name}.obj", vertices) for name in identities]),
        "ex": np.stack([_offsets(folder / f"{name}.obj", vertices) for name in expressions]),
        "exn": np.array(expressions),
    }
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def _numbers(path: Path, category: str, count: int) -> Float32[np.ndarray, "n count"]:
    """The first numbers of every line of a kind. Raises G2SError if a line has none."""
    lines = (line.split() for line in path.read_text().splitlines())
    try:
        return np.array([line[1 : count + 1] for line in lines if line and line[0] == category], np.float64).astype(
            np.float32
        )
    except ValueError as error:
        raise G2SError(f"{path} is damaged: {error}.", REMEDY) from error


def _offsets(path: Path, neutral: Float32[np.ndarray, "v 3"]) -> Float16[np.ndarray, "v 3"]:
    vertices = _numbers(path, "v", 3)
    if vertices.shape != neutral.shape:
        raise G2SError(f"{path} has {len(vertices)} vertices, the neutral head {len(neutral)}.", REMEDY)
    return (vertices - neutral).astype(np.float16)


def _triangles(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Triangles by vertices and by texture coordinates, the number of each one's material, and the materials' names.

    A polygon becomes the fan from its first corner.
    """
    corners, owners, materials = [], [], []
    try:
        for line in path.read_text().splitlines():
            category, *words = line.split() or [""]
            if category == "usemtl":
                materials.append(words[0])
            elif category == "f":
                polygon = [[int(number) - 1 for number in word.split("/")[:2]] for word in words]
                fan = [(polygon[0], *pair) for pair in pairwise(polygon[1:])]
                corners += fan
                owners += [len(materials) - 1] * len(fan)
        by_vertex, by_texture = np.array(corners, np.uint16).transpose(2, 0, 1)
    except (ValueError, IndexError, OverflowError) as error:
        raise G2SError(f"{path} is damaged: {error}.", REMEDY) from error
    return by_vertex, by_texture, np.array(owners, np.uint8), np.array(materials)
