"""The page of g2s view in Chromium: what it shows, by its pixels, and how it is used."""

from __future__ import annotations

import base64
import io
import math
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from chromium import BROWSER, Page
from PIL import Image
from torch.nn.functional import max_pool2d

from g2s_cli import read_result
from g2s_cli.mesh.options import MeshOptions
from g2s_cli.result.page import write_page
from g2s_cli.result.schema import Result
from g2s_cli.result.write import write_result

pytestmark = pytest.mark.skipif(BROWSER is None, reason="there is no Chromium here")
WIDE, NARROW = (1200, 900), (390, 844)
READY = "document.querySelector('code')?.textContent"
KEYS = {"Tab": 9, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40, "+": 187, "-": 189, " ": 32}
SHIFT = 8  # of the protocol's modifiers


@pytest.fixture(scope="module")
def folder(sharp: Result, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A result, whose folder's name needs quotes, and its page."""
    folder = tmp_path_factory.mktemp("results") / "Ann's face"
    write_result(sharp, folder)
    write_page(sharp, folder / "view.html", MeshOptions(120, 240), folder=folder)
    return folder


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with Page("about:blank", tmp_path_factory.mktemp("profile"), *WIDE) as browser:
        yield browser


@pytest.fixture
def page(browser: Page, folder: Path) -> Iterator[Page]:
    browser("Emulation.setTouchEmulationEnabled", enabled=False)
    browser.resize(*WIDE)
    browser("Page.navigate", url="about:blank")
    browser("Page.navigate", url=(folder / "view.html").as_uri())
    browser.wait_for(READY)
    yield browser
    assert browser.messages == []
    assert [url for url in browser.requests if not url.startswith(("file:", "data:", "blob:"))] == []


def shown(page: Page, changes: str = "{}") -> np.ndarray:
    """The window's pixels after a change of the state."""
    # WebGL on the CPU is behind the page: the picture is finished, then presented.
    frame = "await new Promise(requestAnimationFrame);"
    page.evaluate(f"(async () => {{ change({changes}); {2 * frame} gl.finish(); {2 * frame} }})()")
    data = page("Page.captureScreenshot", format="png")["data"]
    with Image.open(io.BytesIO(base64.b64decode(data))) as picture:
        return np.asarray(picture.convert("RGB"), dtype=float)


def box(page: Page, selector: str) -> list[int]:
    """Left, top, right, bottom of an element."""
    sides = "(({ left, top, right, bottom }) => [left, top, right, bottom])"
    return [
        round(side) for side in page.evaluate(f"{sides}(document.querySelector({selector!r}).getBoundingClientRect())")
    ]


def stage(page: Page, changes: str = "{}") -> np.ndarray:
    """The pixels of the canvas alone."""
    left, top, right, bottom = box(page, "#stage")
    return shown(page, changes)[top:bottom, left:right]


def press(page: Page, key: str, modifiers: int = 0) -> None:
    text = {"text": key} if len(key) == 1 else {}
    for kind in ("keyDown", "keyUp"):
        page(
            "Input.dispatchKeyEvent",
            type=kind,
            key=key,
            code=key,
            windowsVirtualKeyCode=KEYS[key],
            modifiers=modifiers,
            **text,
        )


def inside(pixels: np.ndarray) -> np.ndarray:
    """Where the object is, without its outline."""
    ground = torch.from_numpy((pixels >= 250).all(axis=2))[None].float()
    return (max_pool2d(ground, 5, 1, 2)[0] == 0).numpy()


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return 10 * math.log10(255**2 / max(1e-3, np.square(a - b).mean()))


@pytest.mark.parametrize("size", [WIDE, NARROW])
def test_the_whole_object_is_beside_the_panel(page: Page, size: tuple[int, int]) -> None:
    page.resize(*size)
    pixels = stage(page)
    left, top, right, bottom = box(page, "#stage")
    beside = box(page, "#panel")
    assert (right <= beside[0]) if size == WIDE else (bottom <= beside[1])
    assert page.evaluate("document.elementsFromPoint(innerWidth / 4, innerHeight / 4)[0].id") == "stage"
    rows, columns = np.nonzero((pixels < 250).any(axis=2))
    margins = rows.min(), columns.min(), bottom - top - 1 - rows.max(), right - left - 1 - columns.max()
    assert min(margins) > 0.01 * (bottom - top)
    assert max(np.ptp(rows) / (bottom - top), np.ptp(columns) / (right - left)) > 0.75
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0]


@pytest.mark.slow
def test_layers_differ_and_a_lit_shape_does_not_depend_on_the_photos_light(
    page: Page, sharp: Result, tmp_path: Path
) -> None:
    names = page.evaluate("MODES")
    layers = {name: stage(page, f"{{ mode: '{name}' }}") for name in names}
    assert names == ["photo", "albedo", "shape", "wireframe", "normals", "depth", "matte"]
    for index, name in enumerate(names):
        assert [other for other in names[:index] if psnr(layers[other], layers[name]) > 30] == []
    grey = layers["shape"], layers["depth"]
    assert [float(np.ptp(layer, axis=2).max()) for layer in grey] == [0, 0]
    other = replace(sharp, factors=replace(sharp.factors, light=torch.tensor([0.1, 0.9, -0.8, 0.7])))
    write_page(other, tmp_path / "other.html", MeshOptions(120, 240), folder=tmp_path)
    page("Page.navigate", url=(tmp_path / "other.html").as_uri())
    page.wait_for(f"document.title && {READY}.includes('rotate {tmp_path.name}')")
    assert psnr(stage(page, "{ mode: 'shape' }"), layers["shape"]) > 50
    assert psnr(stage(page, "{ mode: 'albedo' }"), layers["albedo"]) < 30


def test_the_slider_uncovers_the_photo_where_the_object_is(page: Page) -> None:
    whole, half, none = (stage(page, f"{{ compare: {share} }}") for share in (100, 50, 0))
    middle = whole.shape[1] // 2
    assert psnr(half[:, : middle - 4], whole[:, : middle - 4]) > 45
    assert psnr(half[:, middle + 4 :], none[:, middle + 4 :]) > 45
    assert psnr(whole, none) < 12  # the photo has a background
    assert psnr(whole[inside(none)], none[inside(none)]) > 20


@pytest.mark.slow
def test_strength_ambient_and_colour_light_the_object(page: Page) -> None:
    plain = stage(page, "{ mode: 'shape', diffuse: 0.5, ambient: 0.3 }")
    where = inside(plain)
    assert stage(page, "{ diffuse: 1 }")[where].mean() > plain[where].mean() + 10
    assert stage(page, "{ diffuse: 0.5, ambient: 0.5 }")[where].mean() == pytest.approx(
        plain[where].mean() + 0.15 * 255, abs=3
    )
    red = stage(page, "{ ambient: 0.3, colour: '#ff0000' }")[where]
    assert red[:, 1:].max() == 0
    assert red[:, 0] == pytest.approx(plain[where][:, 0], abs=1)


def test_keys_reach_every_control_and_move_view_and_light(page: Page) -> None:
    page.evaluate("document.body.focus()")
    reached = []
    for _ in range(40):
        press(page, "Tab")
        reached.append(page.evaluate("document.activeElement.name || document.activeElement.id"))
    controls = page.evaluate("[...document.querySelectorAll('canvas, input, button')].map(one => one.name || one.id)")
    assert sorted(set(reached) - {""}) == sorted(set(controls))
    unnamed = "one => !(one.ariaLabel || one.labels?.length || one.innerText)"
    assert page.evaluate(f"[...document.querySelectorAll('input, button, canvas')].filter({unnamed}).length") == 0
    page.evaluate("stage.focus()")
    before = page.evaluate("[state.yaw, state.pitch, state.zoom, state.x, state.y]")
    for key in ("ArrowRight", "ArrowUp", "+"):
        press(page, key)
    for key in ("ArrowLeft", "ArrowDown"):
        press(page, key, SHIFT)
    after = page.evaluate("[state.yaw, state.pitch, state.zoom, state.x, state.y]")
    assert np.subtract(after, before) == pytest.approx([5, 5, 0.15, -0.1, -0.1])
    page.evaluate("document.querySelector('[value=photo]').focus()")
    press(page, "ArrowDown")  # of a group of radio buttons
    assert page.evaluate("state.mode") == "albedo"


def test_fingers_turn_and_zoom_and_the_disc_moves_the_light(page: Page) -> None:
    def touch(kind: str, *points: tuple[float, float]) -> None:
        page(
            "Input.dispatchTouchEvent",
            type=f"touch{kind}",
            touchPoints=[{"x": x, "y": y, "id": k} for k, (x, y) in enumerate(points)],
        )

    page("Emulation.setTouchEmulationEnabled", enabled=True, maxTouchPoints=2)
    touch("Start", (300, 300))
    touch("Move", (340, 280))
    touch("End")
    assert page.evaluate("[state.yaw, state.pitch]") == [10, 5]
    touch("Start", (300, 300), (400, 300))
    touch("Move", (250, 300), (450, 300))
    touch("End")
    assert page.evaluate("state.zoom") == pytest.approx(2, abs=0.1)
    _, top, right, bottom = box(page, "#pad")
    touch("Start", (right - 1, (top + bottom) / 2))
    touch("End")
    assert page.evaluate("[state.x, state.y]") == pytest.approx([1.5, 0], abs=0.1)


def test_beyond_the_honest_range_the_object_fades_and_the_page_says_so(page: Page) -> None:
    inside, edge, beyond = (stage(page, f"{{ yaw: {yaw} }}") for yaw in (0, 30, 75))
    assert page.text("#note").startswith("Beyond 30°")
    darkest = [float(np.quantile(pixels.min(axis=2), 0.01)) for pixels in (inside, edge, beyond)]
    assert darkest[1] < darkest[0] + 60
    assert darkest[2] > 200
    stage(page, "{ yaw: -30 }")
    assert page.text("#note") == ""
    page.evaluate("change({ turning: true })")
    yaws = [page.evaluate(f"(draw({ms}), state.yaw)") for ms in range(0, 14000, 500)]
    assert max(map(abs, yaws)) == pytest.approx(15, abs=1)
    assert page.evaluate("state.turning")
    page.evaluate("stage.focus()")
    press(page, "ArrowRight")
    assert not page.evaluate("state.turning")


@pytest.mark.slow
def test_commands_name_the_folder_and_make_the_picture(page: Page, folder: Path) -> None:
    def command(changes: str) -> str:
        shown(page, changes)
        return page.text("code")

    quoted = "'./Ann'\\''s face'"
    assert command("{ yaw: 20.2 }") == f"g2s rotate {quoted} --yaw 20"
    assert command("{ pitch: -5 }") == f"g2s rotate {quoted} --yaw 20 --pitch -5"
    assert command("{ yaw: 0, pitch: 0, x: -0.5, y: 0.25 }") == f"g2s relight {quoted} --light=-0.5,0.25"
    assert command("{ mode: 'normals' }") == "Ann's face/normal_large.png"
    python = command("{ mode: 'photo', yaw: 15, pitch: -5 }")
    subprocess.run([sys.executable, "-c", python], check=True, cwd=folder.parent)
    with Image.open(folder.parent / "picture.png") as picture:
        right = np.asarray(picture.convert("RGB"), dtype=float)
    page.resize(*right.shape[1::-1])
    page("Page.navigate", url="about:blank")
    page("Page.navigate", url=f"{(folder / 'view.html').as_uri()}#bare=1")
    page.wait_for(READY)
    pixels = shown(page, "{ x: -0.5, y: 0.25, yaw: 15, pitch: -5 }")
    assert pixels.shape == right.shape
    likeness = psnr(pixels, right)  # the page's mesh and texture are coarser
    assert likeness > 28
    assert psnr(shown(page, "{ x: 0.5 }"), right) < likeness - 3
    assert psnr(shown(page, "{ x: -0.5, yaw: -15 }"), right) < likeness - 3


def test_the_mesh_and_the_picture_are_downloads(page: Page, sharp: Result, folder: Path, tmp_path: Path) -> None:
    page("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    page.click("#mesh")
    page.click("#picture")
    names = ("made-up.glb", "made-up.png")
    end = time.monotonic() + 30
    while not all((tmp_path / name).is_file() for name in names):
        assert time.monotonic() < end
        time.sleep(0.1)
    mesh, right = trimesh.load_mesh(tmp_path / names[0]), read_result(folder).mesh(MeshOptions(120, 240))
    assert mesh.bounds == pytest.approx(right.bounds, abs=2e-3)
    assert len(mesh.vertices) == page.evaluate("mesh.position.length / 3")
    texture = np.asarray(mesh.visual.material.baseColorTexture.convert("RGB"), dtype=float)
    front = (
        texture[100:140, 100:140] - np.asarray(right.visual.material.baseColorTexture.convert("RGB"))[100:140, 100:140]
    )
    assert np.abs(front).mean() < 4
    pixels = stage(page)
    with Image.open(tmp_path / names[1]) as image:
        assert image.mode == "RGBA"
        assert (
            psnr(
                np.asarray(Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")), pixels
            )
            > 40
        )


def test_without_webgl_2_a_film_turns(folder: Path, tmp_path: Path) -> None:
    with Page("about:blank", tmp_path / "profile", *NARROW) as page:
        page("Page.addScriptToEvaluateOnNewDocument", source="HTMLCanvasElement.prototype.getContext = () => null")
        page("Page.navigate", url=(folder / "view.html").as_uri())
        page.wait_for("document.querySelector('#turntable')?.naturalWidth == 256")
        assert "WebGL 2" in page.text("#note")
        assert page.text("#title") == "made-up.png"
        assert page.evaluate("document.querySelector('#reset').checkVisibility()") is False
        assert page.messages == []
        page.screenshot(tmp_path / "film.png")
    with Image.open(tmp_path / "film.png") as picture:
        assert (np.asarray(picture.convert("L"))[:400] < 200).mean() > 0.1
