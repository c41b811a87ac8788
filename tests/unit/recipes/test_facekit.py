"""A face model made of a made-up checkout: five vertices, a quad and a triangle."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from g2s_cli.errors import G2SError
from recipes.synface.facekit import write_face_model

CORNERS = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0], [0.5, 2, 0.25]])
REST = """\
vt 0 0 0
vt 1 0 0
vt 1 1 0
vt 0 1 0
usemtl M_Face
f 1/1 2/2 3/3 4/4
usemtl M_Teeth
f 4/1 3/2 5/4
"""


def written(folder: Path, name: str, corners: np.ndarray) -> None:
    lines = ["# made up", *("v " + " ".join(str(number) for number in corner) for corner in corners), REST]
    (folder / f"{name}.obj").write_text("\n".join(lines))


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "ICT-FaceKit" / "FaceXModel"
    folder.mkdir(parents=True)
    written(folder, "generic_neutral_mesh", CORNERS)
    written(folder, "identity000", CORNERS + np.array([0.25, 0, 0]))
    written(folder, "identity001", CORNERS + np.array([0, 0.5, 0]))
    written(folder, "jawOpen", CORNERS - np.array([0, 0, 0.125]))
    return folder.parent


def test_what_is_made(checkout: Path, tmp_path: Path) -> None:
    result = tmp_path / "model.npz"
    write_face_model(checkout, result)
    with np.load(result) as file:
        arrays = {name: file[name] for name in file}
    np.testing.assert_array_equal(arrays["v"], CORNERS.astype(np.float32))
    np.testing.assert_array_equal(arrays["vt"], [[0, 0], [1, 0], [1, 1], [0, 1]])
    np.testing.assert_array_equal(arrays["f"], [[0, 1, 2], [0, 2, 3], [3, 2, 4]])
    np.testing.assert_array_equal(arrays["ft"], [[0, 1, 2], [0, 2, 3], [0, 1, 3]])
    assert list(arrays["mats"][arrays["m"]]) == ["M_Face", "M_Face", "M_Teeth"]
    np.testing.assert_array_equal(arrays["ids"], np.array([[[0.25, 0, 0]] * 5, [[0, 0.5, 0]] * 5]))
    np.testing.assert_array_equal(arrays["ex"], np.array([[[0, 0, -0.125]] * 5]))
    assert list(arrays["exn"]) == ["jawOpen"]
    assert arrays["ids"].dtype == np.float16


def test_a_folder_that_is_no_checkout(tmp_path: Path) -> None:
    with pytest.raises(G2SError, match=r"is no checkout of ICT-FaceKit.*git clone https://"):
        write_face_model(tmp_path, tmp_path / "model.npz")


def test_a_checkout_without_identities(checkout: Path, tmp_path: Path) -> None:
    for file in checkout.glob("FaceXModel/identity*"):
        file.unlink()
    with pytest.raises(G2SError, match="no identities"):
        write_face_model(checkout, tmp_path / "model.npz")


@pytest.mark.parametrize(
    ("name", "line", "said"),
    [
        ("identity001", "v 1 2 3", "has 6 vertices, the neutral head 5"),
        ("jawOpen", "v 1 2", "is damaged"),
        ("jawOpen", "v 1 2 three", "is damaged"),
        ("generic_neutral_mesh", "f 1/1 2/2 3", "is damaged"),
        ("generic_neutral_mesh", "f 0/0 1/1 2/2", "is damaged"),
        ("generic_neutral_mesh", "usemtl", "is damaged"),
    ],
)
def test_a_damaged_file_is_named(checkout: Path, tmp_path: Path, name: str, line: str, said: str) -> None:
    path = checkout / "FaceXModel" / f"{name}.obj"
    path.write_text(path.read_text() + line)
    with pytest.raises(G2SError, match=rf"{name}\.obj {said}"):
        write_face_model(checkout, tmp_path / "model.npz")
    assert not (tmp_path / "model.npz").exists()
