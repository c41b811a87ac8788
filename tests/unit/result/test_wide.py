"""Results in a wide frame: the whole object under its matte, and nothing else of the photo."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image, ImageDraw
from torch.nn.functional import grid_sample, max_pool2d

from g2s_cli import read_result
from g2s_cli.geometry.camera import canonical_to_view, project_points
from g2s_cli.geometry.image import from_uint8, to_uint8
from g2s_cli.geometry.metrics import psnr
from g2s_cli.geometry.placement import Placement
from g2s_cli.geometry.shading import position_from_light
from g2s_cli.mesh.export import write_meshes
from g2s_cli.mesh.extract import transform_mesh
from g2s_cli.mesh.options import Body, Extent, MeshOptions
from g2s_cli.mesh.solid import is_stable
from g2s_cli.photo.crop import crop_matte, crop_photo
from g2s_cli.result import paste_back, pictures
from g2s_cli.result.contact_sheet import result_tiles
from g2s_cli.result.page import write_page
from g2s_cli.result.schema import Result
from g2s_cli.result.surface import textured_mesh
from g2s_cli.result.wide import photo_on_white, widen
from g2s_cli.result.write import rewrite_meshes, write_result

SMALL = MeshOptions(mesh_size=96, texture_size=128)
SIZE, CROP = (240, 200), Placement.from_box(80, 60, 80)
HEAD, BODY = (70, 30, 170, 150), (40, 140, 200, 260)  # boxes of ellipses in the photo


@pytest.fixture(scope="module")
def bust(result: Result) -> Result:
    """A brown head and body before a pure green wall; the tight crop lies inside the head."""
    photo, mask = Image.new("RGB", SIZE, (0, 255, 0)), Image.new("L", SIZE)
    for box in (HEAD, BODY):
        ImageDraw.Draw(photo).ellipse(box, (150, 100, 80))
        ImageDraw.Draw(mask).ellipse(box, 255)
    file = io.BytesIO()
    photo.save(file, "PNG")
    aligned = np.array(crop_photo(photo, CROP, 80))
    factors = replace(result.factors, view=torch.tensor([0.0, -0.2, 0.0, 0.0, 0.0, 0.0]))
    return replace(
        result,
        aligned=aligned,
        photo=from_uint8(aligned[8:72, 8:72]),
        placement=CROP,
        original=file.getvalue(),
        mask=torch.ones(64, 64),
        factors=factors,
        report={"photo": "bust.png", "symmetry": "on"},
        matte=crop_matte(mask, CROP, 3.0),
    )


@pytest.fixture(scope="module")
def wide(bust: Result) -> Result:
    return widen(bust)


def test_the_photo_is_white_beyond_its_edges(bust: Result) -> None:
    wide = widen(bust, "person")
    photo = photo_on_white(wide)
    outside = np.array(crop_photo(Image.new("L", SIZE, 255), wide.placement, len(photo), padding="black")) == 0
    assert 0.01 < outside.mean() < 0.5
    assert (photo[outside] == 255).all()
    inside = ~max_pool2d(torch.from_numpy(outside)[None].float(), 3, 1, 1)[0].bool().numpy()
    np.testing.assert_array_equal(photo[inside], wide.aligned[inside])
    assert photo_on_white(bust).shape == bust.center_crop.shape


def greenness(image: torch.Tensor) -> torch.Tensor:
    return image[1] - torch.maximum(image[0], image[2])


def test_the_frame_holds_the_object_and_its_crop_is_the_methods(bust: Result, wide: Result) -> None:
    assert bust.camera.size < wide.camera.size <= 2 * bust.camera.size
    margin = (wide.camera.size - bust.camera.size) // 2
    inner = slice(margin + 20, margin + 44)
    torch.testing.assert_close(wide.factors.depth[inner, inner], bust.factors.depth[20:44, 20:44], atol=0, rtol=0)
    assert widen(wide) is wide


def test_the_outline_of_the_mesh_is_the_mattes(wide: Result) -> None:
    mesh, _ = textured_mesh(wide, SMALL)
    points = canonical_to_view(
        transform_mesh(mesh, torch.zeros(6))[0][None].float(), wide.factors.view[None], wide.camera
    )
    pixels = project_points(points[0, 0], wide.camera)
    grid = (pixels / wide.camera.centre - 1)[None, None]
    assert grid.abs().max() < 1 + 6 / wide.camera.size  # three pixels beyond the frame
    around = max_pool2d(wide.mask[None, None], 3, 1, 1)  # up to a cell of the grid outside
    assert grid_sample(around, grid, align_corners=True, padding_mode="border").min() > 0.01
    [shown] = pictures.rotate(wide, [(0.0, 0.0)], size=wide.camera.size)
    covered = (shown < 0.99).any(dim=0)
    assert covered[wide.mask > 0.9].float().mean() > 0.99
    around = max_pool2d(wide.mask[None], 5, 1, 2)[0]  # a cell, and the rendering's own smooth edge
    assert covered[around < 0.01].float().mean() < 0.002


def test_no_background_is_in_the_texture_or_the_pictures(wide: Result) -> None:
    _, texture = textured_mesh(wide, SMALL)
    assert greenness(texture.lit).max() < 0.02
    for image in (
        *pictures.rotate(wide, [(0.3, 0.0), (-0.6, 0.1)], size=96),
        *pictures.relight(wide, [(1.0, 0.2)], size=96),
    ):
        assert greenness(image).max() < 0.02


def test_light_in_the_photo_leaves_the_background_alone(bust: Result) -> None:
    before = np.array(Image.open(io.BytesIO(bust.original)))
    background = (before == (0, 255, 0)).all(axis=-1)
    [after] = paste_back.relight(bust, [(-1.0, 0.2)])
    assert (after[background] == before[background]).mean() > 0.995
    change = np.abs(after.astype(int) - before)[..., 0]
    forehead, crop_top = change[45:58, 100:140], change[62:75, 100:140]  # above the crop, and in it
    assert forehead.mean() > 2
    assert abs(forehead.mean() - crop_top.mean()) < 0.5 * crop_top.mean() + 2


def test_a_turned_head_leaves_a_filled_background(bust: Result) -> None:
    [after] = paste_back.rotate(bust, [(0.25, 0.0)])
    before = np.array(Image.open(io.BytesIO(bust.original)))
    assert np.abs(after.astype(int) - before).max() > 50
    brown = np.abs(after.astype(int) - (150, 100, 80)).max(axis=-1) < 60
    green = np.abs(after.astype(int) - (0, 255, 0)).max(axis=-1) < 60
    assert (brown | green).mean() > 0.93  # hardly a mixed pixel: no ghost of the head


def test_shoulders_stay_where_the_head_turns(bust: Result) -> None:
    [after] = paste_back.rotate(bust, [(0.25, 0.0)])
    change = np.abs(after.astype(int) - np.array(Image.open(io.BytesIO(bust.original)))).max(axis=-1)
    assert change[:120].max() > 50
    assert change[175:].max() == 0


@pytest.mark.slow
def test_light_at_its_own_position_is_the_photos(bust: Result) -> None:
    own = position_from_light(bust.factors.light, bust.factors.view)
    [same] = paste_back.relight(bust, [bust.placement.direction_to_photo(*own)])
    assert (same == np.array(Image.open(io.BytesIO(bust.original)))).all()
    [lit], [photo] = pictures.relight(bust, [own], size=96), pictures.rotate(bust, [(0.0, 0.0)], size=96)
    assert psnr(lit, photo) > 40


def test_the_whole_head_is_closed_behind_in_its_glb_and_its_body(wide: Result, tmp_path: Path) -> None:
    options = replace(SMALL, body=Body(height_mm=50.0))
    write_meshes(tmp_path, *textured_mesh(wide, options), options)
    scene = trimesh.load(tmp_path / "mesh.glb")
    front, back = scene.geometry["surface"], scene.geometry["back"]
    assert back.vertices[:, 2].min() < front.vertices[:, 2].min()
    header, document = (tmp_path / "mesh.glb").read_bytes()[12:20], (tmp_path / "mesh.glb").read_bytes()[20:]
    tree = json.loads(document[: int.from_bytes(header[:4], "little")])
    assert [sorted(one["extensions"]) for one in tree["materials"]] == [["KHR_materials_unlit"]] * 2
    of_meshes = {one["bufferView"] for one in tree["accessors"]}
    assert {tree["bufferViews"][view]["target"] for view in of_meshes} == {34962, 34963}
    assert all("target" not in view for index, view in enumerate(tree["bufferViews"]) if index not in of_meshes)
    assert {part["material"] for one in tree["meshes"] for part in one["primitives"]} == {0, 1}
    # The right side up: the head is narrower than the body, and above it.
    top, bottom = (front.vertices[mask] for mask in (front.vertices[:, 1] > 0.02, front.vertices[:, 1] < -0.06))
    assert np.ptp(top[:, 0]) < np.ptp(bottom[:, 0])
    body = trimesh.load(tmp_path / "mesh.stl")
    assert body.is_watertight
    assert body.volume > 0
    assert body.extents[1] == pytest.approx(50, rel=1e-3)
    assert is_stable(body.vertices, body.faces)


def test_an_albedo_texture_is_left_to_the_viewers_light(wide: Result, tmp_path: Path) -> None:
    options = replace(SMALL, texture="albedo")
    mesh, texture = textured_mesh(wide, options)
    write_meshes(tmp_path, mesh, texture, options)
    assert b"KHR_materials_unlit" not in (tmp_path / "mesh.glb").read_bytes()
    surface = trimesh.load(tmp_path / "mesh.glb").geometry["surface"]
    shown = np.array(surface.visual.material.baseColorTexture.convert("RGB"))
    assert (shown == to_uint8(texture.albedo)).all()
    assert "map_Kd texture_albedo.png" in (tmp_path / "mesh.mtl").read_text()


def test_a_folder_keeps_the_matte_and_the_extent(bust: Result, tmp_path: Path) -> None:
    out = tmp_path / "out"
    report = bust.report | {"meshes": {"extent": None}}
    write_result(replace(bust, report=report), out, detail=SMALL)
    again = read_result(out)
    assert again.matte is not None
    assert (again.matte.span, again.extent) == (3.0, "head")
    assert (again.matte.alpha == bust.matte.alpha).all()
    camera = json.loads((out / "camera.json").read_text())
    assert camera["size_px"] < camera["large"]["size_px"]
    head = trimesh.load(out / "mesh.glb", force="mesh")
    rewrite_meshes(again, out, replace(SMALL, extent="crop"), overwrite=True)
    crop = trimesh.load(out / "mesh.glb", force="mesh")
    assert head.extents[1] > 1.3 * crop.extents[1]
    assert read_result(out).extent == "crop"
    assert widen(read_result(out)).outline is None


def test_a_result_without_a_matte_stays_as_it_is(result: Result) -> None:
    assert widen(result) is result


@pytest.mark.slow
def test_every_picture_shows_the_whole_object(bust: Result, wide: Result) -> None:
    expected = (pictures.rotate(wide, [(0.0, 0.0)], size=64)[0] < 0.99).any(dim=0).float().mean()
    tiles = [from_uint8(np.array(tile)) for tile in result_tiles(bust, 64)[1:]]
    for image in (*pictures.rotate(bust, [(0.0, 0.0)], size=64), pictures.picture(bust, size=64), tiles[2]):
        assert (image < 0.99).any(dim=0).float().mean() == pytest.approx(expected.item(), abs=0.01)


@pytest.mark.parametrize("extent", ["head", "crop"])
def test_the_page_that_is_written_with_a_result_is_its_page(bust: Result, tmp_path: Path, extent: Extent) -> None:
    detail = replace(SMALL, extent=extent)
    write_result(bust, tmp_path / "out", detail=detail, with_page=True)
    write_page(bust, tmp_path / "view.html", detail)
    assert (tmp_path / "out" / "view.html").read_bytes() == (tmp_path / "view.html").read_bytes()
