"""A result folder: its files, what they hold, and atomic replacement."""

from __future__ import annotations

import json
import os
import shutil
import stat
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trimesh
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from g2s_cli.errors import UsageError
from g2s_cli.mesh.options import MeshOptions
from g2s_cli.result.page import write_page
from g2s_cli.result.read import read_result
from g2s_cli.result.schema import Result, missing_files
from g2s_cli.result.write import encode_depth, write_result

IMAGES = ["input", "original", "inverted", "mask", "depth", "normal", "albedo", "reconstruction", "aligned"]
IMAGES += ["texture", "texture_albedo", "depth_large", "normal_large", "albedo_large"]
OTHERS = ["depth.npy", "mesh.obj", "mesh.mtl", "mesh.glb", "camera.json", "light.json", "state.safetensors"]
FILES = sorted([f"{name}.png" for name in IMAGES] + OTHERS + ["report.json"])


@pytest.fixture(scope="module")
def folder(result: Result, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A result folder that no test changes."""
    write_result(result, folder := tmp_path_factory.mktemp("results") / "out")
    return folder


@pytest.fixture(scope="module")
def sharp_folder(sharp: Result, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same of a photo of 320 pixels."""
    write_result(sharp, folder := tmp_path_factory.mktemp("results") / "sharp")
    return folder


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image).astype(np.float64)


def camera_facts(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "camera.json").read_text())


def load_mesh(path: Path, **options: object) -> trimesh.Trimesh:
    return trimesh.load(path, force="mesh", **options)


def project(mesh: trimesh.Trimesh, facts: dict[str, Any], intrinsics: dict[str, Any]) -> np.ndarray:
    """Column, row and depth of the vertices, by the OpenCV pose of camera.json."""
    x, y, z, _ = np.array(facts["world_to_camera_opencv"]) @ np.c_[mesh.vertices, np.ones(len(mesh.vertices))].T
    return np.stack((*(intrinsics["centre_px"][0] + intrinsics["focal_px"] * np.stack((x, y)) / z), z))


def rasterize(mesh: trimesh.Trimesh, facts: dict[str, Any]) -> np.ndarray:
    """Which pixel centres a mesh covers, by the OpenGL pose of camera.json."""
    camera = np.c_[mesh.vertices, np.ones(len(mesh.vertices))] @ np.array(facts["world_to_camera_opengl"]).T
    x = facts["centre_px"][0] + facts["focal_px"] * camera[:, 0] / -camera[:, 2]
    y = facts["centre_px"][1] - facts["focal_px"] * camera[:, 1] / -camera[:, 2]
    row, column = np.mgrid[: facts["size_px"], : facts["size_px"]]
    covered = np.zeros(row.shape, dtype=bool)
    for a, b, c in mesh.faces:
        sides = [(x[q] - x[p]) * (row - y[p]) - (y[q] - y[p]) * (column - x[p]) for p, q in ((a, b), (b, c), (c, a))]
        covered |= np.all([side >= 0 for side in sides], axis=0) | np.all([side <= 0 for side in sides], axis=0)
    return covered


def test_the_folder_holds_every_file_and_no_other(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == FILES
    assert missing_files(folder, read_result(folder).report) == []
    assert sorted(missing_files(folder / "none", {"photo": "made-up.png"})) == FILES


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_permissions_are_those_of_the_umask(result: Result, tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        write_result(result, tmp_path / "out")
        write_page(result, tmp_path / "out" / "view.html", MeshOptions(mesh_size=16, texture_size=16))
    finally:
        os.umask(before)
    modes = {path.name: oct(stat.S_IMODE(path.stat().st_mode)) for path in (tmp_path / "out").iterdir()}
    assert modes == dict.fromkeys([*FILES, "view.html"], oct(0o666 & ~umask))


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are text there")
def test_a_folder_may_have_a_name_that_is_not_utf_8(result: Result, tmp_path: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/gr\xfc\xdfe"))
    write_result(result, folder)
    assert torch.equal(read_result(folder).factors.depth, result.factors.depth)


def test_the_mesh_has_the_resolution_of_the_centre_crop(sharp: Result, sharp_folder: Path, tmp_path: Path) -> None:
    # The depth map may cover the centre of the aligned crop only, as for cats.
    aligned = np.pad(sharp.aligned, ((80, 80), (80, 80), (0, 0)), mode="edge")
    write_result(replace(sharp, aligned=aligned, frame_share=320 / 480), tmp_path / "out")
    assert np.array_equal(read_result(tmp_path / "out").center_crop, sharp.aligned)
    assert np.array_equal(pixels(tmp_path / "out" / "aligned.png"), aligned)
    assert (tmp_path / "out" / "mesh.obj").read_bytes() == (sharp_folder / "mesh.obj").read_bytes()


def test_the_mesh_seen_through_camera_json_reproduces_the_photo(
    sharp: Result, sharp_mask: torch.Tensor, sharp_folder: Path
) -> None:
    mesh, facts = load_mesh(sharp_folder / "mesh.glb"), camera_facts(sharp_folder)
    column, row, _ = project(mesh, facts, facts)
    # camera.json counts pixels of input.png; the aligned crop has five for each.
    i, j = ((np.stack((row, column)) + 0.5) * 5 - 0.5).round().astype(int)
    front = mesh.vertex_normals @ np.array(facts["world_to_camera_opencv"])[2, :3] < -0.3
    inside = front & (i >= 0) & (i < 320) & (j >= 0) & (j < 320)
    inside[inside] = sharp_mask.numpy()[i[inside], j[inside]]
    assert inside.sum() > 0.5 * len(inside)
    texture = pixels(sharp_folder / "texture.png")
    u, v = mesh.visual.uv[inside].T
    colours = texture[((1 - v) * len(texture)).astype(int), (u * len(texture)).astype(int)]
    # Nearest pixels on both sides of a weave of eight: two pixels off would differ by thirty.
    assert np.abs(colours - sharp.aligned[i[inside], j[inside]]).mean() < 12


def test_large_maps_are_those_of_the_mesh_in_camera_json(sharp_folder: Path) -> None:
    mesh, facts = load_mesh(sharp_folder / "mesh.glb", process=False), camera_facts(sharp_folder)
    column, row, z = project(mesh, facts, large := facts["large"])
    names = ("depth_large", "normal_large", "albedo_large", "reconstruction")
    code, normal, albedo, reconstruction = (pixels(sharp_folder / f"{name}.png") for name in names)
    assert code.shape == (large["size_px"],) * 2 == (320, 320)
    assert normal.shape == albedo.shape == reconstruction.shape == (320, 320, 3)
    visible = code > 0
    depth = 1.1 - 0.2 * code / 65535
    outward = mesh.vertex_normals @ np.array(facts["world_to_camera_opencv"])[:3, :3].T  # y down, z away
    flat = (outward[:, 2] < -0.7) & (np.minimum(row, column) > 1) & (np.maximum(row, column) < 318)
    i, j = row[flat].astype(int), column[flat].astype(int)
    flat[flat] = visible[i, j] & visible[i + 1, j] & visible[i, j + 1] & visible[i + 1, j + 1]
    assert flat.sum() > 0.5 * len(flat)
    i, j, down, right = (part[flat] for part in (row.astype(int), column.astype(int), row % 1, column % 1))
    upper, lower = (depth[k, j] * (1 - right) + depth[k, j + 1] * right for k in (i, i + 1))
    assert np.abs(upper * (1 - down) + lower * down - z[flat]).max() < 1e-4
    facing = (normal[i, j] / 127.5 - 1) * (1, -1, -1)
    assert np.median((facing * outward[flat]).sum(axis=1)) > 0.99
    assert np.array_equal(visible, normal.any(axis=2))
    # The shading is at most 1.
    assert (albedo[visible] - reconstruction[visible]).mean() > 10
    assert np.abs(albedo - reconstruction)[~visible].mean() < 1


def test_depth_is_finite_inside_the_mask_and_16_bits_hold_it(folder: Path, result: Result) -> None:
    depth = np.load(folder / "depth.npy")
    assert depth.dtype == np.float32
    assert np.array_equal(np.isfinite(depth), result.mask.numpy() >= 0.5)
    code = pixels(folder / "depth.png")
    assert np.array_equal(code == 0, np.isnan(depth))
    assert np.nanmax(np.abs(1.1 - 0.2 * code / 65535 - depth)) <= 0.2 / 65535


def test_the_depth_residual_is_added_to_the_depth_map(folder: Path, result: Result, tmp_path: Path) -> None:
    ramp = 0.001 * torch.linspace(-1, 1, result.camera.size).expand(result.camera.size, -1)
    write_result(replace(result, factors=replace(result.factors, depth_residual=ramp)), tmp_path / "out")
    difference = np.load(tmp_path / "out" / "depth.npy") - np.load(folder / "depth.npy") - ramp.numpy()
    assert np.nanmedian(np.abs(difference)) < 1e-6  # all but where the slope is limited


@given(depth=st.floats(0.9, 1.0999))
def test_depth_codes_are_rounded(depth: float) -> None:
    code = encode_depth(np.array([depth], dtype=np.float32))
    assert code.dtype == np.uint16
    assert abs(1.1 - 0.2 * code[0] / 65535 - depth) <= 0.55 * 0.2 / 65535


def test_depth_code_0_is_reserved_for_no_surface() -> None:
    assert encode_depth(np.array([1.1, 1.2, 0.8, np.nan], dtype=np.float32)).tolist() == [1, 1, 65535, 0]


def test_normals_have_opengl_colours(folder: Path, result: Result) -> None:
    red, green, blue = np.moveaxis(pixels(folder / "normal.png"), -1, 0) / 127.5 - 1
    visible = result.mask.numpy() >= 0.5
    row, column = np.nonzero(visible)
    # On a bulge normals lean to their side: right is red, up is green.
    assert np.corrcoef(column, red[visible])[0, 1] > 0.8
    assert np.corrcoef(row, green[visible])[0, 1] < -0.8
    assert (blue[visible] > 0).all()
    assert np.allclose((red**2 + green**2 + blue**2)[visible], 1, atol=0.05)
    assert (pixels(folder / "normal.png")[~visible] == 0).all()


def test_the_glb_is_textured_and_covers_the_mask_in_camera_json(folder: Path) -> None:
    mesh = load_mesh(folder / "mesh.glb")
    material = mesh.visual.material
    assert (material.metallicFactor, material.roughnessFactor) == (0.0, 1.0)
    assert np.array_equal(np.asarray(material.baseColorTexture.convert("RGB")), pixels(folder / "texture.png"))
    mask, covered = pixels(folder / "mask.png") > 127, rasterize(mesh, camera_facts(folder))
    assert (covered & mask).sum() / (covered | mask).sum() > 0.9
    assert np.all(mesh.face_normals[:, 2] > 0)


def test_mesh_colours_are_those_of_the_reconstruction(folder: Path) -> None:
    mesh, facts = load_mesh(folder / "mesh.glb"), camera_facts(folder)
    column, row, _ = project(mesh, facts, facts)
    expected = pixels(folder / "reconstruction.png")[row.round().astype(int), column.round().astype(int)]
    colours = np.asarray(mesh.visual.to_color().vertex_colors)[:, :3]
    # Nearest pixels on both sides: a vertical flip of the texture or the camera would differ by tens.
    assert np.median(np.abs(colours - expected)) < 6


def test_the_obj_finds_its_texture_after_the_folder_moved(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, moved := tmp_path / "elsewhere")
    obj, glb = load_mesh(moved / "mesh.obj", process=False), load_mesh(folder / "mesh.glb")
    assert np.array_equal(np.asarray(obj.visual.material.image.convert("RGB")), pixels(folder / "texture.png"))
    assert np.allclose(np.sort(obj.vertices, axis=0), np.sort(glb.vertices, axis=0), atol=1e-5)
    means = [np.asarray(mesh.visual.to_color().vertex_colors)[:, :3].mean(axis=0) for mesh in (obj, glb)]
    assert np.allclose(*means, atol=2)


def test_writing_does_not_need_scipy(
    result: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # trimesh computes normals with scipy, which is no dependency of ours; without it, it logs a traceback.
    monkeypatch.delattr("trimesh.geometry.scipy")
    write_result(result, tmp_path / "out")
    assert not caplog.records


def test_the_mesh_of_a_symmetric_object_is_symmetric(result: Result, tmp_path: Path) -> None:
    # The photo's left half shows background only: alone it cuts the mesh in two.
    half = result.mask.clone()
    half[:, :32] = 0
    for symmetry in ("off", "on"):
        write_result(replace(result, mask=half, report={"symmetry": symmetry}), tmp_path / symmetry)
    alone, both = (load_mesh(tmp_path / name / "mesh.glb").bounds[:, 0] for name in ("off", "on"))
    assert alone[0] > -0.6 * alone[1]
    assert both[0] == pytest.approx(-both[1], abs=0.01)


def test_light_json_states_the_position_of_the_light(folder: Path) -> None:
    light = json.loads((folder / "light.json").read_text())
    brightness, albedo = (pixels(folder / f"{name}.png").mean(axis=-1) for name in ("reconstruction", "albedo"))
    shading = np.where(pixels(folder / "mask.png") > 127, brightness / albedo.clip(1), np.nan)
    half = shading.shape[1] // 2
    assert (light["x"] > 0) == (np.nanmean(shading[:, half:]) > np.nanmean(shading[:, :half]))
    assert (light["y"] > 0) == (np.nanmean(shading[:half]) > np.nanmean(shading[half:]))


def test_an_existing_result_is_replaced_only_on_request(result: Result, tmp_path: Path) -> None:
    target = tmp_path / "out"
    write_result(result, target)
    for name in ("notes.txt", "mesh.stl", "view.html", "rotate/000.png", "rotate/mine.png"):
        (target / name).parent.mkdir(exist_ok=True)
        (target / name).touch()
    with pytest.raises(UsageError, match="--overwrite"):
        write_result(result, target)
    assert (target / "mesh.stl").exists()
    write_result(result, target, overwrite=True)
    files = {path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file()}
    assert files == {*FILES, "notes.txt", "rotate/mine.png"}  # what g2s did not write stays
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_empty_folders_missing_parents_and_links_are_targets(result: Result, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    for target in (tmp_path / "empty", tmp_path / "a" / "b" / "out", tmp_path / "link"):
        write_result(result, target)
        assert (target / "mesh.glb").is_file()
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real" / "mesh.glb").is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "empty", "link", "real"]


def test_the_report_counts_the_mesh_and_the_time_since_the_command_began(result: Result, tmp_path: Path) -> None:
    timed = replace(result, report=result.report | {"seconds": {"invert": 1.0, "total": 1.0}})
    report = write_result(timed, tmp_path / "a", started_s=time.perf_counter() - 100)
    assert report == json.loads((tmp_path / "a" / "report.json").read_text())
    seconds = report["seconds"]
    assert seconds["total"] == pytest.approx(100, abs=30)
    assert seconds.keys() == {"start", "invert", "mesh", "write", "total"}
    assert sum(seconds.values()) == pytest.approx(2 * seconds["total"], abs=0.1)
