"""Mesh files as other programs read them, and their number of triangles."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import trimesh
from PIL import Image

from g2s_cli.commands.options import MeshSize, PictureSize, TextureSize
from g2s_cli.errors import G2SError, UsageError
from g2s_cli.mesh import options
from g2s_cli.mesh.export import make_body, simplify, simplify_front, write_meshes
from g2s_cli.mesh.extract import Mesh
from g2s_cli.mesh.options import MESH_SIZES, TEXTURE_SIZES, Body, MeshOptions
from g2s_cli.mesh.texture import Texture
from g2s_cli.result.pictures import PICTURE_SIZES
from g2s_cli.result.schema import Result
from g2s_cli.result.surface import textured_mesh


@pytest.fixture(scope="module")
def textured(sharp: Result) -> tuple[Mesh, Texture]:
    return textured_mesh(sharp, MeshOptions())


def read(path: Path) -> trimesh.Trimesh:
    return trimesh.load(path, force="mesh")


def size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as picture:
        return picture.size


def test_the_options_set_the_sizes(sharp: Result, tmp_path: Path) -> None:
    options = MeshOptions(mesh_size=40, texture_size=100)
    paths = write_meshes(tmp_path, *textured_mesh(sharp, options), options)
    assert sorted(paths) == sorted(tmp_path.iterdir())
    assert size_of(tmp_path / "texture.png") == size_of(tmp_path / "texture_albedo.png") == (100, 100)
    assert 400 < len(read(tmp_path / "mesh.glb").faces) < 2 * 40**2


def test_body_files_are_watertight_in_millimetres_and_coloured(textured: tuple[Mesh, Texture], tmp_path: Path) -> None:
    write_meshes(tmp_path, *textured, MeshOptions(body=Body(height_mm=80.0, thickness_mm=5.0)))
    for name in ("mesh.stl", "mesh.ply"):
        body = read(tmp_path / name)
        assert body.is_watertight
        assert body.volume > 0
        assert body.extents[1] == pytest.approx(80, rel=1e-3)
    assert thickness_of(body) == pytest.approx(5, rel=1e-3)
    nose = body.vertices[:, 2].argmax()
    red, green, blue, _ = body.visual.vertex_colors[nose]
    assert red > 1.5 * max(green, blue)


def thickness_of(body: trimesh.Trimesh) -> float:
    """Distance of the back behind the farthest point of the front. The back is the second half of the vertices."""
    front = body.vertices[: len(body.vertices) // 2]
    return front[:, 2].min() - body.bounds[0, 2]


@pytest.mark.parametrize(("height", "thickness"), [(100.0, 3.0), (80.0, 20.0), (30.0, 30.0)])
@pytest.mark.parametrize("max_faces", [None, 700])
def test_a_body_has_its_height_and_thickness(
    textured: tuple[Mesh, Texture], height: float, thickness: float, max_faces: int | None
) -> None:
    if max_faces:
        pytest.importorskip("fast_simplification")
    mesh, texture = textured
    body = make_body(mesh, texture.lit, Body(height, thickness), max_faces)
    assert body.extents[1] == pytest.approx(height, rel=1e-3)
    assert thickness_of(body) == pytest.approx(thickness, rel=1e-3)
    assert body.is_watertight


def test_a_body_below_the_cameras_axis_has_its_height(textured: tuple[Mesh, Texture]) -> None:
    mesh, texture = textured
    below = replace(mesh, vertices=mesh.vertices - (0, 0.3, 0))
    body = make_body(below, texture.lit, Body(60.0, 10.0), None)
    assert body.extents[1] == pytest.approx(60, rel=1e-3)


@pytest.mark.parametrize("options", [MeshOptions(mesh_size=0), MeshOptions(mesh_size=1), MeshOptions(texture_size=-1)])
def test_mesh_options_out_of_range_are_refused(sharp: Result, options: MeshOptions) -> None:
    with pytest.raises(UsageError, match=r"-size .* is out of range"):
        textured_mesh(sharp, options)


def test_the_command_line_has_the_same_ranges() -> None:
    bounds = {MeshSize: MESH_SIZES, TextureSize: TEXTURE_SIZES, PictureSize: PICTURE_SIZES}
    for option, (least, most) in bounds.items():
        [metadata] = option.__metadata__
        assert (metadata.min, metadata.max) == (least, most)


def test_a_body_thicker_than_tall_is_refused() -> None:
    with pytest.raises(UsageError, match="10 mm tall cannot be 11 mm thick") as refusal:
        MeshOptions(body=Body(height_mm=10.0, thickness_mm=11.0)).check()
    assert "--thickness-mm" in refusal.value.remedy


@pytest.mark.parametrize("size", [float("nan"), float("inf"), 0.0, -3.0, 1e9])
@pytest.mark.parametrize("name", ["height_mm", "thickness_mm"])
def test_a_body_out_of_range_is_refused(name: str, size: float) -> None:
    with pytest.raises(UsageError, match=f"--{name.replace('_', '-')} .* is out of range"):
        MeshOptions(body=Body(**{name: size})).check()


@pytest.mark.parametrize("max_faces", [5000, 700, 250])
def test_simplified_meshes_keep_shape_and_texture_coordinates(
    textured: tuple[Mesh, Texture], tmp_path: Path, max_faces: int
) -> None:
    pytest.importorskip("fast_simplification")
    mesh, texture = textured
    write_meshes(tmp_path, mesh, texture, MeshOptions(max_faces=max_faces, body=Body()))
    for name in ("mesh.glb", "mesh.obj", "mesh.stl", "mesh.ply"):
        simple = read(tmp_path / name)
        assert max_faces / 2 < len(simple.faces) <= max_faces
    assert simple.is_watertight
    assert simple.volume > 0
    # Every vertex lies close to one of the full mesh, in the texture too.
    glb = read(tmp_path / "mesh.glb")
    distance = np.linalg.norm(glb.vertices[:, None] - mesh.vertices[None, ::5], axis=-1)
    assert distance.min(axis=1).max() < 0.02
    assert np.abs(glb.visual.uv - mesh.uv[::5][distance.argmin(axis=1)]).max() < 0.06


def test_a_simple_mesh_is_kept_and_too_few_triangles_are_refused(textured: tuple[Mesh, Texture]) -> None:
    mesh, _ = textured
    assert simplify(mesh, len(mesh.faces)) is mesh
    pytest.importorskip("fast_simplification")
    with pytest.raises(UsageError, match="needs more than 30 triangles"):
        simplify_front(mesh, 30)


def test_a_missing_library_is_named_before_any_work(
    textured: tuple[Mesh, Texture], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(options, "SIMPLIFIER", "no_such_library")
    with pytest.raises(G2SError, match=r"pip install 'g2s-cli\[simplify\]'"):
        write_meshes(tmp_path, *textured, MeshOptions(max_faces=500))
    assert not list(tmp_path.iterdir())
    MeshOptions(body=Body()).check()
