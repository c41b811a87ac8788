"""Mesh files as other programs read them, and how many triangles they have."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import trimesh
from PIL import Image

from g2s_cli.commands.options import MeshSize, PictureSize, TextureSize
from g2s_cli.errors import G2SError, UsageError
from g2s_cli.geometry.image import to_uint8
from g2s_cli.mesh import export as meshes
from g2s_cli.mesh.export import (
    MESH_SIZES,
    TEXTURE_SIZES,
    Body,
    MeshOptions,
    make_body,
    simplify,
    simplify_front,
    write_meshes,
)
from g2s_cli.mesh.extract import Mesh
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


def test_sizes_are_those_that_were_asked_for(sharp: Result, tmp_path: Path) -> None:
    detail = MeshOptions(mesh_size=40, texture_size=100)
    paths = write_meshes(tmp_path, *textured_mesh(sharp, detail), detail)
    assert sorted(paths) == sorted(tmp_path.iterdir())
    assert size_of(tmp_path / "texture.png") == size_of(tmp_path / "texture_albedo.png") == (100, 100)
    assert 400 < len(read(tmp_path / "mesh.glb").faces) < 2 * 40**2


def test_a_body_for_printing_is_watertight_in_millimetres_and_coloured(
    textured: tuple[Mesh, Texture], tmp_path: Path
) -> None:
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
    """How far the back lies behind the surface's farthest point. The back's vertices are the second half."""
    front = body.vertices[: len(body.vertices) // 2]
    return front[:, 2].min() - body.bounds[0, 2]


@pytest.mark.parametrize(("height", "thickness"), [(100.0, 3.0), (80.0, 20.0), (30.0, 30.0)])
@pytest.mark.parametrize("most", [None, 700])
def test_a_body_is_as_tall_and_as_thick_as_asked(
    textured: tuple[Mesh, Texture], height: float, thickness: float, most: int | None
) -> None:
    if most:
        pytest.importorskip("fast_simplification")
    mesh, texture = textured
    body = make_body(mesh, to_uint8(texture.lit), Body(height, thickness), most)
    assert body.extents[1] == pytest.approx(height, rel=1e-3)
    assert thickness_of(body) == pytest.approx(thickness, rel=1e-3)
    assert body.is_watertight


def test_a_body_below_the_cameras_axis_is_as_tall_as_asked(textured: tuple[Mesh, Texture]) -> None:
    mesh, texture = textured
    below = replace(mesh, vertices=mesh.vertices - (0, 0.3, 0))
    body = make_body(below, to_uint8(texture.lit), Body(60.0, 10.0), None)
    assert body.extents[1] == pytest.approx(60, rel=1e-3)


@pytest.mark.parametrize("detail", [MeshOptions(mesh_size=0), MeshOptions(mesh_size=1), MeshOptions(texture_size=-1)])
def test_a_size_that_the_command_line_refuses_is_refused_in_python(sharp: Result, detail: MeshOptions) -> None:
    with pytest.raises(UsageError, match=r"-size .* is out of range"):
        textured_mesh(sharp, detail)


def test_sizes_are_bounded_alike_at_the_command_line_and_in_python() -> None:
    bounds = {MeshSize: MESH_SIZES, TextureSize: TEXTURE_SIZES, PictureSize: PICTURE_SIZES}
    for option, (least, most) in bounds.items():
        [told] = option.__metadata__
        assert (told.min, told.max) == (least, most)


def test_a_body_thicker_than_tall_is_refused_before_any_work() -> None:
    with pytest.raises(UsageError, match="10 mm tall cannot be 11 mm thick") as refusal:
        MeshOptions(body=Body(height_mm=10.0, thickness_mm=11.0)).check()
    assert "--thickness-mm" in refusal.value.remedy


@pytest.mark.parametrize("size", [float("nan"), float("inf"), 0.0, -3.0, 1e9])
@pytest.mark.parametrize("name", ["height_mm", "thickness_mm"])
def test_a_body_of_no_size_is_refused_before_any_work(name: str, size: float) -> None:
    with pytest.raises(UsageError, match=f"--{name.replace('_', '-')} .* is out of range"):
        MeshOptions(body=Body(**{name: size})).check()


@pytest.mark.parametrize("most", [5000, 700, 150])
def test_no_more_triangles_than_asked_and_the_texture_still_fits(
    textured: tuple[Mesh, Texture], tmp_path: Path, most: int
) -> None:
    pytest.importorskip("fast_simplification")
    mesh, texture = textured
    write_meshes(tmp_path, mesh, texture, MeshOptions(max_faces=most, body=Body()))
    for name in ("mesh.glb", "mesh.obj", "mesh.stl", "mesh.ply"):
        fewer = read(tmp_path / name)
        assert most / 2 < len(fewer.faces) <= most
    assert fewer.is_watertight
    assert fewer.volume > 0
    # Every vertex lies close to one of the full mesh, with nearly the same place in the texture.
    glb = read(tmp_path / "mesh.glb")
    apart = np.linalg.norm(glb.vertices[:, None] - mesh.vertices[None, ::5], axis=-1)
    nearest = apart.argmin(axis=1)
    assert apart.min(axis=1).max() < 0.02
    assert np.abs(glb.visual.uv - mesh.uv[::5][nearest]).max() < 0.06


def test_few_enough_triangles_are_left_alone(textured: tuple[Mesh, Texture]) -> None:
    mesh, _ = textured
    same = simplify(mesh, len(mesh.faces))
    assert same.faces is mesh.faces


def test_a_mesh_that_cannot_be_that_simple_is_said(textured: tuple[Mesh, Texture]) -> None:
    pytest.importorskip("fast_simplification")
    with pytest.raises(UsageError, match="cannot be had with 30 triangles"):
        simplify_front(textured[0], 30)


def test_without_the_library_the_remedy_is_named_before_any_work(
    textured: tuple[Mesh, Texture], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(meshes, "SIMPLIFIER", "no_such_library")
    with pytest.raises(G2SError, match=r"pip install 'g2s-cli\[simplify\]'"):
        write_meshes(tmp_path, *textured, MeshOptions(max_faces=500))
    assert not list(tmp_path.iterdir())
    MeshOptions(body=Body()).check()
