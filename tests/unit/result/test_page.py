"""The page: what it holds is the mesh, and what its shader computes of that is what `relight` computes."""

from __future__ import annotations

import base64
import io
import json
import re
import zlib
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from g2s_cli.geometry.shading import position_from_light
from g2s_cli.mesh.extract import Mesh
from g2s_cli.mesh.options import MeshOptions
from g2s_cli.mesh.texture import Texture, relight_texture
from g2s_cli.result.page import MAX_TEXTURE_CHARACTERS, render_page, texture_url
from g2s_cli.result.schema import Result
from g2s_cli.result.surface import textured_mesh

FINE = MeshOptions(mesh_size=120, texture_size=240)


class Scripts(HTMLParser):
    """The text of every script element, and every address that anything names."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.addresses: list[str] = []
        self.inside = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.inside = tag == "script"
        if self.inside:
            self.texts.append("")
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        self.inside = self.inside and tag != "script"

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.texts[-1] += data


def scene_in(page: str) -> dict[str, Any]:
    return json.loads(Scripts(page).texts[0])


def array(coded: str, kind: str) -> np.ndarray:
    """The numbers of which the page has the deflated differences."""
    deltas = np.frombuffer(zlib.decompress(base64.b64decode(coded)), kind)
    return np.cumsum(deltas, dtype=kind)


def columns(coded: str, kind: str) -> np.ndarray:
    return array(coded, kind).reshape(3, -1).T.astype(float)


def positions(scene: dict[str, Any]) -> np.ndarray:
    least, most = map(np.array, scene["box"])
    return least + columns(scene["positions"], "<u2") / 65535 * (most - least)


def picture(url: str) -> np.ndarray:
    with Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))) as image:
        return np.asarray(image, dtype=float)


def sampled(image: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Bilinear samples at places from 0 to 1, right and down from the upper left corner, as WebGL takes them."""
    grid = torch.from_numpy(place * 2 - 1).float()[None, None]
    maps = torch.from_numpy(image).float().permute(2, 0, 1)[None]
    return torch.nn.functional.grid_sample(maps, grid, padding_mode="border", align_corners=False)[0, :, 0].T.numpy()


@pytest.fixture(scope="module")
def textured(sharp: Result) -> tuple[Mesh, Texture]:
    return textured_mesh(sharp, FINE, extend=True)


@pytest.fixture(scope="module")
def scene(sharp: Result, textured: tuple[Mesh, Texture]) -> dict[str, Any]:
    return scene_in(render_page(sharp, *textured))


def test_the_page_holds_the_mesh(scene: dict[str, Any], textured: tuple[Mesh, Texture]) -> None:
    mesh, _ = textured
    np.testing.assert_allclose(positions(scene), mesh.vertices, atol=1e-5)
    np.testing.assert_array_equal(array(scene["faces"], "<u4").reshape(-1, 3), mesh.faces)
    np.testing.assert_allclose(columns(scene["mesh_normals"], "i1") / 127, mesh.normals, atol=0.005)


def test_the_page_holds_the_photo_and_its_object(sharp: Result, scene: dict[str, Any]) -> None:
    photo, matte = picture(scene["photo"]), picture(scene["matte"])
    assert np.abs(photo - sharp.center_crop).mean() < 4
    assert np.abs(matte[150:170, 150:170] - photo[150:170, 150:170]).mean() < 4
    assert matte[:20, :20] == pytest.approx(128, abs=4)


def test_a_texture_is_compressed_until_it_fits() -> None:
    noise = np.random.default_rng(0).random((2048, 2048, 1)).repeat(3, axis=2)
    smooth = np.full((64, 64, 3), 0.5)
    assert len(texture_url(0.5 + 0.06 * (noise - 0.5))) <= MAX_TEXTURE_CHARACTERS
    assert picture(texture_url(smooth)) == pytest.approx(127, abs=1)


@pytest.mark.parametrize("light", [None, (0.8, 0.1), (-0.5, 0.9), (3.0, -2.0)])
def test_what_the_shader_computes_is_what_relight_computes(
    sharp: Result, scene: dict[str, Any], textured: tuple[Mesh, Texture], light: tuple[float, float] | None
) -> None:
    _, texture = textured
    x, y = light or (scene["light"]["x"], scene["light"]["y"])
    # The shader's lines, a vertex each.
    pose = np.array(scene["pose"])[:, :3]
    towards = pose.T @ (x, y, 1.0)
    towards = np.array([*(towards[:2] / max(towards[2], 0.01)), 1.0])
    towards /= np.linalg.norm(towards)
    normal = columns(scene["smooth_normals"], "i1")
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    shading = scene["light"]["ambient"] + scene["light"]["diffuse"] * (normal @ towards).clip(min=0)
    focal, centre, size, pivot = scene["texture_camera"]
    position = positions(scene)
    place = (focal * position[:, :2] * (1, -1) / (pivot - position[:, 2:]) + centre + 0.5) / size
    reflectance = sampled(picture(scene["reflectance"]) / 255.0, place) ** 2 * scene["max_reflectance"]
    colours = (reflectance * shading[:, None]).clip(0, 1)

    ambient, strength = sharp.factors.light[:2].tolist()
    factors = sharp.factors
    if light is not None:
        factors = factors.relight(*light, strength=strength, ambient=ambient)
    right = sampled((relight_texture(texture, factors, sharp.camera) / 2 + 0.5).permute(1, 2, 0).numpy(), place)
    apart = np.abs(colours - right)
    assert apart.mean() < 1.5 / 255
    assert np.quantile(apart, 0.99) < 10 / 255
    assert np.std(right) > 20 / 255  # there is something to get wrong


def test_the_light_it_begins_with_is_the_photos(sharp: Result, scene: dict[str, Any]) -> None:
    light = sharp.factors.light
    assert (scene["light"]["x"], scene["light"]["y"]) == pytest.approx(position_from_light(light, sharp.factors.view))
    assert [scene["light"]["ambient"], scene["light"]["diffuse"]] == pytest.approx(light[:2].tolist())


def test_it_needs_no_network_and_a_photos_name_is_only_a_name(sharp: Result, textured: tuple[Mesh, Texture]) -> None:
    name = '</script><script src="http://evil.example/x.js">&<!--.png'
    page = render_page(replace(sharp, report=sharp.report | {"photo": name}), *textured)
    found = Scripts(page)
    assert len(found.texts) == 2
    assert json.loads(found.texts[0])["title"] == name
    assert found.addresses == []
    assert re.findall(r"(?:fetch|import|XMLHttpRequest|@import|url)\s*\(", found.texts[1]) == []


def test_the_folder_of_the_commands_is_its_name(
    sharp: Result, textured: tuple[Mesh, Texture], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "faces").mkdir()
    monkeypatch.chdir(tmp_path / "faces")
    for folder in (Path(), tmp_path / "faces", Path("../faces")):
        assert scene_in(render_page(sharp, *textured, folder))["folder"] == "faces"
    assert scene_in(render_page(sharp, *textured))["folder"] is None
