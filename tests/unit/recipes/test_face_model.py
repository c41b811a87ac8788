"""Reading a face model, and what is said of a file that is none."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from g2s_cli.errors import G2SError
from recipes.synface.face_model import FaceModel, read_face_model

Arrays = dict[str, np.ndarray]


def test_what_is_read(model: FaceModel, model_file: Path) -> None:
    assert model.vertices.shape == (24591, 3)  # without lashes and the layers over the eyes
    assert model.triangles.shape == (48836, 3)
    assert model.triangles.max() == 24590
    assert np.ptp(model.vertices, axis=0).max() < 40  # cm
    assert model.sha256 == hashlib.sha256(model_file.read_bytes()).hexdigest()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(G2SError, match=r"none\.npz is missing\. The recipe's README"):
        read_face_model(tmp_path / "none.npz")


def test_a_cut_file_is_damaged(tmp_path: Path, model_file: Path) -> None:
    crop_photo = tmp_path / "cut.npz"
    crop_photo.write_bytes(model_file.read_bytes()[:100_000])
    with pytest.raises(G2SError, match=r"cut\.npz is no face model, or damaged"):
        read_face_model(crop_photo)


def test_flipped_bytes_are_damaged(tmp_path: Path, model_file: Path) -> None:
    content = bytearray(model_file.read_bytes())
    content[50_000:50_100] = bytes(100)
    (tmp_path / "flipped.npz").write_bytes(content)
    with pytest.raises(G2SError, match="damaged"):
        read_face_model(tmp_path / "flipped.npz")


def without_expressions(arrays: Arrays) -> None:
    del arrays["ex"]


def other_mesh(arrays: Arrays) -> None:
    arrays["v"] = arrays["v"][:-1]


def corner_too_many(arrays: Arrays) -> None:
    arrays["f"][0, 0] = 60_000


def not_a_number(arrays: Arrays) -> None:
    arrays["v"][0, 0] = np.nan


def flat(arrays: Arrays) -> None:
    arrays["ids"] = arrays["ids"].reshape(len(arrays["ids"]), -1)


def unknown_materials(arrays: Arrays) -> None:
    arrays["mats"] = np.array(["Skin"])


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (without_expressions, "no face model"),
        (other_mesh, "another mesh"),
        (corner_too_many, "another mesh"),
        (not_a_number, "damaged"),
        (flat, r"ids is \(3, 80157\)"),
        (unknown_materials, "another mesh"),
    ],
)
def test_arrays_that_do_not_go_together(
    tmp_path: Path, model_file: Path, spoil: Callable[[Arrays], None], said: str
) -> None:
    with np.load(model_file) as file:
        arrays = {name: file[name] for name in file}
    arrays["ids"] = arrays["ids"][:3]
    spoil(arrays)
    np.savez(tmp_path / "spoilt.npz", **arrays)
    with pytest.raises(G2SError, match=f"spoilt.npz is.*{said}"):
        read_face_model(tmp_path / "spoilt.npz")
