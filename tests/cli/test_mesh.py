"""g2s mesh: other meshes of a result, and what they are made of."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path

import pytest
import trimesh
from PIL import Image

from g2s_cli.mesh.export import Body, MeshOptions

FILES = ["mesh.glb", "mesh.obj", "mesh.mtl", "texture.png", "texture_albedo.png"]


def faces(path: Path) -> int:
    return len(trimesh.load(path, force="mesh").faces)


def test_the_same_options_give_the_same_meshes_and_touch_nothing_else(g2s: Callable, out: Path) -> None:
    said = json.loads((out / "report.json").read_text()) | {"meshes": asdict(MeshOptions())}
    (out / "report.json").write_text(json.dumps(said, indent=2) + "\n")
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    answer = g2s("mesh", out)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.splitlines() == [str(out / name) for name in FILES]
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_sizes_and_a_body_for_printing(g2s: Callable, out: Path) -> None:
    before = faces(out / "mesh.glb")
    answer = g2s("mesh", out, "--mesh-size", "40", "--texture-size", "200", "--solid", "--height-mm", "60", "--json")
    document = json.loads(answer.stdout)
    assert [Path(file).name for file in document["files"]] == [*FILES, "mesh.stl", "mesh.ply"]
    assert faces(out / "mesh.glb") < before / 4
    with Image.open(out / "texture.png") as texture:
        assert texture.size == (200, 200)
    body = trimesh.load(out / "mesh.stl", force="mesh")
    assert body.is_watertight
    assert body.volume > 0
    assert body.extents[1] == pytest.approx(60, rel=1e-3)
    meshes = json.loads((out / "report.json").read_text())["meshes"]
    assert meshes == asdict(MeshOptions(40, 200, None, Body(height_mm=60.0)))


def test_a_body_of_earlier_meshes_does_not_stay_beside_new_ones(g2s: Callable, out: Path) -> None:
    assert g2s("mesh", out, "--solid").returncode == 0
    before = {path.name for path in out.iterdir()}
    assert g2s("mesh", out, "--mesh-size", "40").returncode == 0
    assert before - {path.name for path in out.iterdir()} == {"mesh.stl", "mesh.ply"}


@pytest.mark.skipif(find_spec("fast_simplification") is None, reason="fast-simplification is not installed")
def test_no_more_faces_than_asked(g2s: Callable, out: Path) -> None:
    assert g2s("mesh", out, "--max-faces", "500", "--solid").returncode == 0
    assert all(250 < faces(out / name) <= 500 for name in ("mesh.glb", "mesh.obj", "mesh.stl", "mesh.ply"))


def test_without_the_library_reconstruct_and_mesh_say_so_at_once(start: Callable, out: Path, tmp_path: Path) -> None:
    # A folder that hides the library from the interpreter of the installed command.
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden" / "sitecustomize.py").write_text("import sys; sys.modules['fast_simplification'] = None")
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    paths = ":".join([str(tmp_path / "hidden"), *sys.path])
    unread = tmp_path / "unread.jpg"
    unread.write_bytes(b"no picture")
    for verb in (["mesh", out], ["reconstruct", unread]):
        process = start(*verb, "--max-faces", "500", PYTHONPATH=paths)
        _, stderr = process.communicate(timeout=120)
        assert process.returncode == 1
        assert stderr == (
            "g2s: --max-faces needs fast-simplification, which is not installed. "
            "pip install 'g2s-cli[simplify]', or choose a coarser --mesh-size.\n"
        )
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


@pytest.mark.parametrize(
    ("arguments", "code", "hint"),
    [
        (["nowhere"], 2, "is not a g2s result folder"),
        (["out", "--mesh-size", "4"], 2, "--mesh-size"),
        (["out", "--max-faces", "3"], 2, "--max-faces"),
        (["out", "--texture-size", "100000"], 2, "--texture-size"),
    ],
)
def test_what_cannot_be_meant(g2s: Callable, out: Path, arguments: list[str], code: int, hint: str) -> None:
    answer = g2s("mesh", *arguments)
    assert answer.returncode == code
    assert answer.stdout == ""
    assert hint in answer.stderr
    assert "Traceback" not in answer.stderr
