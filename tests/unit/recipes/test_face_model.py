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


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda content: content[:0], "is no face model, or damaged"),
        (lambda content: content[:100_000], "is no face model, or damaged"),
        (lambda content: content[:50_000] + bytes(100) + content[50_100:], "damaged"),
    ],
    ids=["empty", "cut", "changed"],
)
def test_a_damaged_or_missing_file_is_named(
    tmp_path: Path, model_file: Path, spoil: Callable[[bytes], bytes], said: str
) -> None:
    with pytest.raises(G2SError, match=r"file\.npz is missing\. The recipe's README"):
        read_face_model(tmp_path / "file.npz")
    (tmp_path / "file.npz").write_bytes(spoil(model_file.read_bytes()))
    with pytest.raises(G2SError, match=rf"file\.npz {said}" if "no" in said else said):
        read_face_model(tmp_path / "file.npz")


def set_first(name: str, value: float) -> Callable[[Arrays], None]:
    return lambda arrays: arrays[name].__setitem__((0, 0), value)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda arrays: arrays.pop("ex"), "no face model"),
        (lambda arrays: arrays.update(v=arrays["v"][:-1]), "another mesh"),
        (set_first("f", 60_000), "another mesh"),
        (set_first("v", np.nan), "damaged"),
        (lambda arrays: arrays.update(ids=arrays["ids"].reshape(3, -1)), r"ids is \(3, 80157\)"),
        (lambda arrays: arrays.update(mats=np.array(["Skin"])), "another mesh"),
    ],
    ids=["no expressions", "other mesh", "a corner too many", "not a number", "flat", "unknown materials"],
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
