"""The result folder: what is in it, that it comes back as it was, and that it never lies about half done."""

from __future__ import annotations

import json
import os
import shutil
import stat
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from g2s_cli.errors import G2SError, UsageError
from g2s_cli.mesh.export import MeshOptions
from g2s_cli.result.page import write_page
from g2s_cli.result.read import read_result
from g2s_cli.result.schema import STATE, Result, missing_files
from g2s_cli.result.write import encode_depth, write_result

PICTURES = ["input", "original", "inverted", "mask", "depth", "normal", "albedo", "reconstruction", "aligned"]
PICTURES += ["texture", "texture_albedo", "depth_large", "normal_large", "albedo_large"]
OTHERS = [
    "depth.npy",
    "mesh.obj",
    "mesh.mtl",
    "mesh.glb",
    "camera.json",
    "light.json",
    "state.safetensors",
    "report.json",
]
FILES = sorted([f"{name}.png" for name in PICTURES] + OTHERS)


@pytest.fixture(scope="module")
def folder(result: Result, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A result folder that tests read and leave alone."""
    target = tmp_path_factory.mktemp("results") / "out"
    write_result(result, target)
    return target


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_who_may_read_a_result_is_for_the_umask_to_say(result: Result, tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        write_result(result, tmp_path / "out")
        write_page(result, tmp_path / "out", MeshOptions(mesh_size=16, texture_size=16))
    finally:
        os.umask(before)
    modes = {path.name: oct(stat.S_IMODE(path.stat().st_mode)) for path in (tmp_path / "out").iterdir()}
    assert modes == dict.fromkeys([*FILES, "view.html"], oct(0o666 & ~umask))


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are text there")
def test_a_folder_may_have_a_name_that_is_not_utf_8(result: Result, tmp_path: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/gr\xfc\xdfe"))
    write_result(result, folder)
    assert torch.equal(read_result(folder).factors.depth, result.factors.depth)


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture).astype(np.float64)


def drawn(vertices: np.ndarray, faces: np.ndarray, facts: dict) -> np.ndarray:
    """Which pixel centres a mesh covers, seen through camera.json: a rasteriser of ten lines."""
    camera = np.c_[vertices, np.ones(len(vertices))] @ np.array(facts["world_to_camera_opengl"]).T
    x = facts["centre_px"][0] + facts["focal_px"] * camera[:, 0] / -camera[:, 2]
    y = facts["centre_px"][1] - facts["focal_px"] * camera[:, 1] / -camera[:, 2]
    row, column = np.mgrid[: facts["size_px"], : facts["size_px"]]
    covered = np.zeros(row.shape, dtype=bool)
    for a, b, c in faces:
        sides = [(x[q] - x[p]) * (row - y[p]) - (y[q] - y[p]) * (column - x[p]) for p, q in ((a, b), (b, c), (c, a))]
        covered |= np.all([side >= 0 for side in sides], axis=0) | np.all([side <= 0 for side in sides], axis=0)
    return covered


def test_the_folder_holds_every_file_and_nothing_else(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == FILES
    assert missing_files(folder, read_result(folder).report) == []
    assert sorted(missing_files(folder / "none", {"photo": "made-up.png"})) == FILES
    assert [path.name for path in folder.parent.iterdir()] == ["out"]


@settings(max_examples=6, deadline=None)
@given(size=st.integers(9, 20), seed=st.integers(0, 2**32))
def test_what_is_written_is_read_back(
    make: Callable[..., Result], tmp_path_factory: pytest.TempPathFactory, size: int, seed: int
) -> None:
    result = make(size, seed)
    target = tmp_path_factory.mktemp("trip") / "out"
    write_result(result, target)
    back = read_result(str(target))  # as the API's users write it
    assert back.category == result.category
    assert back.camera == result.camera
    assert back.report == result.report
    assert (back.placement, back.original) == (result.placement, result.original)
    assert np.array_equal(back.aligned, result.aligned)
    for field in ("photo", "inverted", "mask", "latent"):
        assert torch.equal(getattr(back, field), getattr(result, field))
    for field in ("depth", "albedo", "view", "light"):
        assert torch.equal(getattr(back.factors, field), getattr(result.factors, field))
    assert back.factors.depth_residual is None
    assert back.offset_net.keys() == result.offset_net.keys()
    assert all(torch.equal(back.offset_net[name], result.offset_net[name]) for name in result.offset_net)


def test_the_photo_comes_back_at_its_own_resolution(sharp: Result, tmp_path: Path) -> None:
    # The relief may cover the middle of the crop alone, as with cats.
    whole = np.pad(sharp.aligned, ((80, 80), (80, 80), (0, 0)), mode="edge")
    write_result(replace(sharp, aligned=whole, frame_share=320 / 480), tmp_path / "out")
    back = read_result(tmp_path / "out")
    assert np.array_equal(back.aligned, whole)
    assert np.array_equal(back.center_crop, sharp.aligned)
    assert np.array_equal(pixels(tmp_path / "out" / "aligned.png"), whole)
    write_result(sharp, tmp_path / "plain")
    assert (tmp_path / "out" / "mesh.obj").read_bytes() == (tmp_path / "plain" / "mesh.obj").read_bytes()


def test_the_mesh_seen_through_camera_json_reproduces_the_photo(
    sharp: Result, sharp_mask: torch.Tensor, tmp_path: Path
) -> None:
    write_result(sharp, tmp_path / "out")
    solid = trimesh.load(tmp_path / "out" / "mesh.glb", force="mesh")
    facts = json.loads((tmp_path / "out" / "camera.json").read_text())
    x, y, z, _ = np.array(facts["world_to_camera_opencv"]) @ np.c_[solid.vertices, np.ones(len(solid.vertices))].T
    column, row = facts["centre_px"][0] + facts["focal_px"] * np.stack((x, y)) / z
    # camera.json speaks of input.png's pixels; the aligned crop has five for each.
    i, j = ((np.stack((row, column)) + 0.5) * 5 - 0.5).round().astype(int)
    front = solid.vertex_normals @ np.array(facts["world_to_camera_opencv"])[2, :3] < -0.3
    inside = front & (i >= 0) & (i < 320) & (j >= 0) & (j < 320)
    inside[inside] = sharp_mask.numpy()[i[inside], j[inside]]
    assert inside.sum() > 0.5 * len(inside)
    texture = pixels(tmp_path / "out" / "texture.png")
    u, v = solid.visual.uv[inside].T
    colours = texture[((1 - v) * len(texture)).astype(int), (u * len(texture)).astype(int)]
    # Nearest pixels on both sides of a weave of eight: two pixels off, it would miss by thirty.
    assert np.abs(colours - sharp.aligned[i[inside], j[inside]]).mean() < 12


def test_large_maps_are_of_the_mesh_as_camera_json_sees_it(sharp: Result, tmp_path: Path) -> None:
    write_result(sharp, tmp_path / "out")
    solid = trimesh.load(tmp_path / "out" / "mesh.glb", force="mesh", process=False)
    facts = json.loads((tmp_path / "out" / "camera.json").read_text())
    pose, large = np.array(facts["world_to_camera_opencv"]), facts["large"]
    x, y, z, _ = pose @ np.c_[solid.vertices, np.ones(len(solid.vertices))].T
    column, row = large["centre_px"][0] + large["focal_px"] * np.stack((x, y)) / z
    code, normal, albedo, reconstruction = (
        pixels(tmp_path / "out" / f"{name}.png")
        for name in ("depth_large", "normal_large", "albedo_large", "reconstruction")
    )
    assert code.shape == (large["size_px"],) * 2 == (320, 320)
    assert normal.shape == albedo.shape == reconstruction.shape == (320, 320, 3)
    there = code > 0
    depth = 1.1 - 0.2 * code / 65535
    outward = solid.vertex_normals @ pose[:3, :3].T  # OpenCV's axes: y down, z away
    plain = (outward[:, 2] < -0.7) & (np.minimum(row, column) > 1) & (np.maximum(row, column) < 318)
    i, j = row[plain].astype(int), column[plain].astype(int)
    plain[plain] = there[i, j] & there[i + 1, j] & there[i, j + 1] & there[i + 1, j + 1]
    assert plain.sum() > 0.5 * len(plain)
    i, j, down, right = (part[plain] for part in (row.astype(int), column.astype(int), row % 1, column % 1))
    upper, lower = (depth[k, j] * (1 - right) + depth[k, j + 1] * right for k in (i, i + 1))
    assert np.abs(upper * (1 - down) + lower * down - z[plain]).max() < 1e-4
    facing = (normal[i, j] / 127.5 - 1) * (1, -1, -1)
    assert np.median((facing * outward[plain]).sum(axis=1)) > 0.99
    assert np.array_equal(there, normal.any(axis=2))
    # Where it is brightest, light takes nothing away; elsewhere the albedo is the brighter.
    assert (albedo[there] - reconstruction[there]).mean() > 10
    assert np.abs(albedo - reconstruction)[~there].mean() < 1


def test_depth_is_unseen_outside_the_mask_and_16_bits_hold_it(folder: Path, result: Result) -> None:
    depth = np.load(folder / "depth.npy")
    assert depth.dtype == np.float32
    assert np.array_equal(np.isfinite(depth), result.mask.numpy() >= 0.5)
    code = pixels(folder / "depth.png")
    assert np.array_equal(code == 0, np.isnan(depth))
    assert np.nanmax(np.abs(1.1 - 0.2 * code / 65535 - depth)) <= 0.2 / 65535


def test_what_is_known_of_depth_beside_the_relief_is_in_its_map_and_read_back(result: Result, tmp_path: Path) -> None:
    ramp = 0.001 * torch.linspace(-1, 1, result.camera.size).expand(result.camera.size, -1)
    plain, known = result, replace(result, factors=replace(result.factors, depth_residual=ramp))
    maps = []
    for some in (plain, known):
        write_result(some, tmp_path / "out", overwrite=True)
        maps.append(np.load(tmp_path / "out" / "depth.npy"))
    there = np.isfinite(maps[0])
    apart = (maps[1] - maps[0])[there] - ramp.numpy()[there]
    assert np.median(np.abs(apart)) < 1e-6  # but where a slope is too steep to be believed
    back = read_result(tmp_path / "out")
    assert back.factors.depth_residual is not None
    assert torch.equal(back.factors.depth_residual, ramp)
    tensors = load_file(tmp_path / "out" / STATE)
    with safe_open(tmp_path / "out" / STATE, "pt") as file:
        facts = file.metadata()
    save_file(tensors | {"apart": torch.zeros(3, 3)}, tmp_path / "out" / STATE, facts)
    with pytest.raises(G2SError, match="is damaged"):
        read_result(tmp_path / "out")


@given(depth=st.floats(0.9, 1.0999))
def test_depth_codes_round_to_the_nearest(depth: float) -> None:
    code = encode_depth(np.array([depth], dtype=np.float32))
    assert code.dtype == np.uint16
    assert abs(1.1 - 0.2 * code[0] / 65535 - depth) <= 0.55 * 0.2 / 65535


def test_depth_codes_keep_nothing_for_what_is_not_there() -> None:
    far, farther, near, nothing = encode_depth(np.array([1.1, 1.2, 0.8, np.nan], dtype=np.float32))
    assert (far, farther, near, nothing) == (1, 1, 65535, 0)


def test_normals_have_opengl_colours(folder: Path, result: Result) -> None:
    red, green, blue = np.moveaxis(pixels(folder / "normal.png"), -1, 0) / 127.5 - 1
    seen = result.mask.numpy() >= 0.5
    row, column = np.nonzero(seen)
    # On a bulge the normals lean to the side on which they lie: right is red, up is green.
    assert np.corrcoef(column, red[seen])[0, 1] > 0.8
    assert np.corrcoef(row, green[seen])[0, 1] < -0.8
    assert (blue[seen] > 0).all()
    assert np.allclose((red**2 + green**2 + blue**2)[seen], 1, atol=0.05)
    assert (pixels(folder / "normal.png")[~seen] == 0).all()


def test_the_glb_is_textured_and_seen_through_camera_json_covers_the_mask(folder: Path) -> None:
    solid = trimesh.load(folder / "mesh.glb", force="mesh")
    material = solid.visual.material
    assert (material.metallicFactor, material.roughnessFactor) == (0.0, 1.0)
    assert np.array_equal(np.asarray(material.baseColorTexture.convert("RGB")), pixels(folder / "texture.png"))
    facts = json.loads((folder / "camera.json").read_text())
    mask = pixels(folder / "mask.png") > 127
    covered = drawn(solid.vertices, solid.faces, facts)
    assert (covered & mask).sum() / (covered | mask).sum() > 0.9
    assert np.all(solid.face_normals[:, 2] > 0)


def test_writing_needs_nothing_that_is_not_installed(
    result: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # trimesh reckons normals with scipy, which is no dependency of ours; without it, it prints a traceback.
    monkeypatch.delattr("trimesh.geometry.scipy")
    write_result(result, tmp_path / "out")
    assert not caplog.records


def test_of_a_symmetric_object_the_far_side_is_as_wide_as_the_near_one(result: Result, tmp_path: Path) -> None:
    # The photo's left half shows nothing but background: alone it cuts the mesh in two.
    half = result.mask.clone()
    half[:, :32] = 0
    for symmetry in ("off", "on"):
        write_result(replace(result, mask=half, report={"symmetry": symmetry}), tmp_path / symmetry)
    alone, both = (trimesh.load(tmp_path / name / "mesh.glb", force="mesh").bounds[:, 0] for name in ("off", "on"))
    assert alone[0] > -0.6 * alone[1]
    assert both[0] == pytest.approx(-both[1], abs=0.01)


def test_mesh_colours_are_the_photo_s_where_the_camera_sees_them(folder: Path) -> None:
    solid = trimesh.load(folder / "mesh.glb", force="mesh")
    facts = json.loads((folder / "camera.json").read_text())
    x, y, z, _ = np.array(facts["world_to_camera_opencv"]) @ np.c_[solid.vertices, np.ones(len(solid.vertices))].T
    column, row = facts["centre_px"][0] + facts["focal_px"] * np.stack((x, y)) / z
    seen = pixels(folder / "reconstruction.png")[row.round().astype(int), column.round().astype(int)]
    colours = np.asarray(solid.visual.to_color().vertex_colors)[:, :3]
    # Nearest pixels on both sides: a vertical flip of the texture or the camera would miss by tens.
    assert np.median(np.abs(colours - seen)) < 6


def test_the_obj_finds_its_texture_after_the_folder_moved(folder: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    shutil.copytree(folder, moved)
    solid = trimesh.load(moved / "mesh.obj", process=False, force="mesh")
    assert np.array_equal(np.asarray(solid.visual.material.image.convert("RGB")), pixels(folder / "texture.png"))
    glb = trimesh.load(folder / "mesh.glb", force="mesh")
    assert np.allclose(np.sort(solid.vertices, axis=0), np.sort(glb.vertices, axis=0), atol=1e-5)
    by_obj = np.asarray(solid.visual.to_color().vertex_colors)[:, :3].mean(axis=0)
    by_glb = np.asarray(glb.visual.to_color().vertex_colors)[:, :3].mean(axis=0)
    assert np.allclose(by_obj, by_glb, atol=2)


def test_light_json_says_where_the_light_stands(folder: Path) -> None:
    light = json.loads((folder / "light.json").read_text())
    brightness = pixels(folder / "reconstruction.png").mean(axis=-1)
    albedo = pixels(folder / "albedo.png").mean(axis=-1)
    lit = np.where(pixels(folder / "mask.png") > 127, brightness / albedo.clip(1), np.nan)
    half = lit.shape[1] // 2
    assert (light["x"] > 0) == (np.nanmean(lit[:, half:]) > np.nanmean(lit[:, :half]))
    assert (light["y"] > 0) == (np.nanmean(lit[:half]) > np.nanmean(lit[half:]))


def test_an_existing_folder_is_replaced_only_on_request(result: Result, tmp_path: Path) -> None:
    target = tmp_path / "out"
    write_result(result, target)
    for old in ("notes.txt", "mesh.stl", "view.html", "rotate/000.png", "rotate/mine.png"):
        (target / old).parent.mkdir(exist_ok=True)
        (target / old).touch()
    with pytest.raises(UsageError, match="--overwrite"):
        write_result(result, target)
    assert (target / "mesh.stl").exists()
    write_result(result, target, overwrite=True)
    found = {path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file()}
    assert found == {*FILES, "notes.txt", "rotate/mine.png"}  # what g2s did not make stays
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_empty_folder_and_missing_parents_are_fine(result: Result, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for target in (tmp_path / "empty", tmp_path / "a" / "b" / "out"):
        write_result(result, target)
        assert (target / "mesh.glb").is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "empty"]


def test_a_link_to_a_folder_stays_a_link(result: Result, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    write_result(result, tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real" / "mesh.glb").is_file()


def resave(folder: Path, **changes: object) -> None:
    """Write the state again with tensors replaced (None: left out) or metadata changed."""
    path = folder / "state.safetensors"
    with safe_open(path, framework="pt") as file:
        facts, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    for name, value in changes.items():
        if isinstance(value, str):
            facts[name] = value
        elif value is None:
            del tensors[name]
        else:
            tensors[name] = value
    save_file(tensors, path, facts)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


DAMAGE = {
    "another version": (lambda folder: resave(folder, schema="99"), "another version of g2s .schema 99, not 2"),
    "no state": (lambda folder: (folder / "state.safetensors").unlink(), "is not a g2s result folder"),
    "truncated": (lambda folder: truncate(folder / "state.safetensors"), "is damaged"),
    "garbage": (lambda folder: (folder / "state.safetensors").write_bytes(b"\xff" * 500), "is damaged"),
    "missing tensor": (lambda folder: resave(folder, albedo=None), "is damaged"),
    "wrong shape": (lambda folder: resave(folder, depth=torch.ones(8, 8)), "is damaged"),
    "not a number": (lambda folder: resave(folder, light=torch.full((4,), torch.nan)), "is damaged"),
    "strange camera": (lambda folder: resave(folder, camera='{"lens": 50}'), "is damaged"),
    "no report": (lambda folder: (folder / "report.json").unlink(), r"is incomplete: report\.json is missing"),
    "no photo": (lambda folder: next(folder.glob("original*")).unlink(), r"is incomplete: original\S* is missing"),
    "broken photo": (
        lambda folder: truncate(folder / "aligned.png"),
        r"is damaged: its aligned\.png cannot be read",
    ),
    "a dot": (lambda folder: Image.new("RGB", (1, 1)).save(folder / "aligned.png"), "is damaged: its aligned"),
    "no square": (lambda folder: Image.new("RGB", (80, 64)).save(folder / "aligned.png"), "is damaged"),
    "huge photo": (lambda folder: Image.new("L", (9000, 9000)).save(folder / "aligned.png"), "is damaged"),
    "no share": (lambda folder: resave(folder, frame_share="most"), "is damaged"),
    "impossible share": (lambda folder: resave(folder, frame_share="nan"), "is damaged"),
    "report of another kind": (lambda folder: (folder / "report.json").write_text("[]"), "is damaged"),
    "broken report": (
        lambda folder: truncate(folder / "report.json"),
        r"its report\.json cannot be read",
    ),
    "no folder": (shutil.rmtree, "is not a g2s result folder"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_folders_are_refused_in_one_sentence(folder: Path, tmp_path: Path, damage: str) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(folder, broken)
    harm, message = DAMAGE[damage]
    harm(broken)
    with pytest.raises(G2SError, match=message) as refusal:
        read_result(broken)
    assert refusal.value.remedy


def test_tensors_that_share_memory_are_written(result: Result, tmp_path: Path) -> None:
    weight = torch.randn(4, 4)
    write_result(replace(result, offset_net={"a": weight, "b": weight.T}), tmp_path / "out")
    assert torch.equal(read_result(tmp_path / "out").offset_net["b"], weight.T)
