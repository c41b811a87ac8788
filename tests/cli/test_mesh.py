"""g2s mesh: a result's meshes at another resolution, simplified, or closed for printing."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path

import pytest
import trimesh
from installed import Command
from PIL import Image

from g2s_cli.mesh.options import Body, MeshOptions

FILES = ["mesh.glb", "mesh.obj", "mesh.mtl", "texture.png", "texture_albedo.png"]


def faces(path: Path) -> int:
    return len(trimesh.load(path, force="mesh").faces)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_same_options_give_the_same_files(g2s: Command, out: Path) -> None:
    report = json.loads((out / "report.json").read_text()) | {"meshes": asdict(MeshOptions())}
    (out / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    before = contents(out)
    assert g2s.ok("mesh", out).stdout.splitlines() == [str(out / name) for name in FILES]
    assert contents(out) == before


def test_sizes_and_a_body_for_printing(g2s: Command, out: Path) -> None:
    before = faces(out / "mesh.glb")
    sizes = ("--mesh-size", 40, "--texture-size", 200, "--solid", "--height-mm", 60)
    document = g2s.json("mesh", out, *sizes, "--overwrite")
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


def test_without_solid_an_earlier_body_is_removed(g2s: Command, out: Path) -> None:
    assert " mm high and " in g2s.ok("mesh", out, "--solid").stderr
    before = set(contents(out))
    message = g2s.fails(2, "mesh", out)
    assert "mesh.ply in" in message
    assert "would be replaced or deleted. Add --overwrite, or name another folder with -o." in message
    g2s.ok("mesh", out, "--mesh-size", "40", "--overwrite")
    assert before - set(contents(out)) == {"mesh.stl", "mesh.ply"}


@pytest.mark.skipif(find_spec("fast_simplification") is None, reason="fast-simplification is not installed")
def test_max_faces_bounds_every_mesh(g2s: Command, out: Path) -> None:
    g2s.ok("mesh", out, "--max-faces", "500", "--solid", "--overwrite")
    assert all(250 < faces(out / name) <= 500 for name in ("mesh.glb", "mesh.obj", "mesh.stl", "mesh.ply"))


@pytest.mark.parametrize("verb", ["reconstruct", pytest.param("mesh", marks=pytest.mark.slow)])
def test_without_its_library_max_faces_is_refused_at_once(
    start: Callable, out: Path, tmp_path: Path, verb: str
) -> None:
    # A folder that hides the library from the interpreter of the installed command.
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden" / "sitecustomize.py").write_text("import sys; sys.modules['fast_simplification'] = None")
    (tmp_path / "unread.jpg").write_bytes(b"no picture")
    before, paths = contents(out), ":".join([str(tmp_path / "hidden"), *sys.path])
    process = start(verb, out if verb == "mesh" else "unread.jpg", "--max-faces", "500", PYTHONPATH=paths)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 1
    assert stderr == (
        "g2s: --max-faces needs fast-simplification, which is not installed. "
        "pip install 'g2s-cli[simplify]', or choose a coarser --mesh-size.\n"
    )
    assert contents(out) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "is not a g2s result folder"),
        (["out", "--mesh-size", "4"], "--mesh-size"),
        (["out", "--max-faces", "3"], "--max-faces"),
        (["out", "--texture-size", "100000"], "--texture-size"),
    ],
)
def test_wrong_arguments_are_refused(g2s: Command, out: Path, arguments: list[str], message: str) -> None:
    assert message in g2s.fails(2, "mesh", *arguments)


def test_meshes_that_would_change_are_refused_and_go_elsewhere(g2s: Command, out: Path, tmp_path: Path) -> None:
    before = contents(out)
    message = g2s.fails(2, "mesh", out, "--mesh-size", "40")
    assert "mesh.glb in" in message
    assert "would be replaced or deleted. Add --overwrite" in message
    (tmp_path / "small").mkdir()
    for overwrite in ([], ["--overwrite"]):
        printed = g2s.ok("mesh", out, "--mesh-size", "40", "-o", "small", *overwrite).stdout.splitlines()
        assert printed == [f"small/{name}" for name in FILES]
        (tmp_path / "small" / "mine.blend").touch()
    assert sorted(contents(tmp_path / "small")) == sorted([*FILES, "mine.blend"])
    assert "Add --overwrite" in g2s.fails(2, "mesh", out, "-o", "small")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "state.safetensors").touch()
    assert "other is another result" in g2s.fails(2, "mesh", out, "-o", "other", "--overwrite")
    assert contents(out) == before


def test_a_true_mesh_is_compared_if_eyes_and_open3d_are_known(g2s: Command, out: Path) -> None:
    assert "out detected no face. Give the distance of the eyes" in g2s.fails(2, "compare-mesh", "out", "out/mesh.obj")
    scores = ("compare-mesh", "out", "out/mesh.glb", "--interocular", 0.02, "-o", "errors.ply")
    for path in ("out/mesh.glb", "out/mesh.obj"):
        assert f"{path} would be replaced" in g2s.fails(2, *scores[:-1], path)
    if find_spec("open3d") is None:
        assert "pip install 'g2s-cli[open3d]'" in g2s.fails(1, *scores)
        assert not Path("errors.ply").exists()
    else:
        assert g2s.json(*scores)["chamfer"] < 0.1
