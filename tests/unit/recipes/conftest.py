"""A small face model: ICT-FaceKit's mesh with three of its identities and three of its expressions."""

from __future__ import annotations

from pathlib import Path

import pytest

from recipes.synface.face_model import FaceModel, read_face_model

DATA = Path(__file__).parents[2] / "data"


@pytest.fixture(scope="session")
def model_file() -> Path:
    return DATA / "face_model.npz"


@pytest.fixture(scope="session")
def model(model_file: Path) -> FaceModel:
    return read_face_model(model_file)
