"""A result folder that version 0.1.0 wrote, stripped of its meshes, is read and used by this version."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image
from safetensors.torch import load_file

from g2s_cli import read_result, relight, rotate
from g2s_cli.geometry.image import from_uint8
from g2s_cli.mesh.options import MeshOptions
from g2s_cli.result import paste_back
from g2s_cli.result.page import write_page
from g2s_cli.result.schema import Result, missing_files
from g2s_cli.result.write import rewrite_meshes, write_result

FOLDER = Path(__file__).parents[2] / "data" / "result-0.1.0"
SMALL = MeshOptions(mesh_size=32, texture_size=32)


@pytest.fixture(scope="module")
def old() -> Result:
    return read_result(FOLDER)


def image(name: str) -> torch.Tensor:
    with Image.open(FOLDER / name) as file:
        return from_uint8(np.array(file))


def test_it_is_read(old: Result) -> None:
    assert (old.category, old.camera.size, len(old.aligned), len(old.latent)) == ("synface", 64, 256, 512)
    assert (old.report["g2s"], old.is_symmetric, old.offset_net) == ("0.1.0", True, {})
    assert old.factors.depth_residual is not None
    assert old.original == (FOLDER / "original.png").read_bytes()


def test_images_are_those_of_its_version(old: Result) -> None:
    ambient, strength = old.factors.light[:2].tolist()  # which that version kept under every light
    [relit] = relight(old, [(0.8, 0.3)], strength=strength, ambient=ambient, size=64)
    [rotated] = rotate(old, [(0.3, -0.1)], size=64)
    torch.testing.assert_close(relit, image("expected_relit.png"), rtol=0, atol=3 / 255)
    torch.testing.assert_close(rotated, image("expected_rotated.png"), rtol=0, atol=3 / 255)


def test_it_is_pasted_back(old: Result) -> None:
    for photos in (paste_back.relight(old, [(0.8, 0.3)]), paste_back.rotate(old, [(0.3, -0.1)])):
        assert np.abs(next(photos).astype(int) - old.aligned).mean() > 3


def test_its_mesh_and_page_are_rebuilt(old: Result, tmp_path: Path) -> None:
    (tmp_path / "report.json").touch()
    paths = rewrite_meshes(old, tmp_path, SMALL)
    assert len(trimesh.load(tmp_path / "mesh.glb", force="mesh").faces) > 500
    page = tmp_path / "view.html"
    write_page(old, page, SMALL)
    assert {path.name for path in tmp_path.iterdir()} == {"report.json", page.name, *(path.name for path in paths)}


def test_written_again_it_is_the_same(old: Result, tmp_path: Path) -> None:
    write_result(old, tmp_path / "out", detail=SMALL)
    again = read_result(tmp_path / "out")
    assert missing_files(tmp_path / "out", again.report) == []
    before, after = (load_file(folder / "state.safetensors") for folder in (FOLDER, tmp_path / "out"))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert again.report | {"seconds": None} == old.report | {"seconds": None}
    assert (tmp_path / "out" / "original.png").read_bytes() == (FOLDER / "original.png").read_bytes()
    mask, old_mask = (np.array(Image.open(folder / "mask.png")) for folder in (tmp_path / "out", FOLDER))
    np.testing.assert_array_equal(mask, old_mask)
    for name in ("light.json", "camera.json"):
        before, after = (json.loads((folder / name).read_text()) for folder in (FOLDER, tmp_path / "out"))
        assert before.keys() == after.keys()
    depth, old_depth = np.load(tmp_path / "out" / "depth.npy"), np.load(FOLDER / "depth.npy")
    farther = old_depth - depth  # version 0.1.0 turned depth away near the silhouette, and limited its slope
    assert (np.isnan(depth) == np.isnan(old_depth)).all()
    assert (farther < -1e-5).mean() < 0.003  # steep pixels alone
    assert np.nanmax(farther) < 0.006
    assert np.nanmedian(abs(farther)) < 1e-5
