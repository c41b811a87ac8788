"""g2s view: a result as a page."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from caches import COARSE
from chromium import BROWSER, OPTIONS, Page
from installed import Command
from PIL import Image
from torch.nn.functional import interpolate, max_pool2d

from g2s_cli.geometry.image import to_uint8
from g2s_cli.geometry.render import render
from g2s_cli.result.schema import Result
from g2s_cli.result.write import write_result

needs_browser = pytest.mark.skipif(BROWSER is None, reason="there is no Chromium here")
SIZE = 512
PICTURE = [*OPTIONS, f"--window-size={SIZE},{SIZE}", "--virtual-time-budget=4000"]


def test_view_adds_the_page_to_the_folder_and_changes_nothing_else(g2s: Command, out: Path) -> None:
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    assert g2s.ok("view", out).stdout.splitlines() == [str(out / "view.html")]
    after = {path.name: path.read_bytes() for path in out.iterdir()}
    assert after.pop("view.html").startswith(b"<!doctype html>")
    assert after == before
    assert g2s.json("view", out) == {"folder": str(out), "file": str(out / "view.html")}  # the same page again


def test_a_window_is_no_page(g2s: Command, out: Path) -> None:
    assert "--window makes no page" in g2s.fails(2, "view", out, "--window", "--open")
    if find_spec("open3d") is None:
        assert "pip install 'g2s-cli[open3d]'" in g2s.fails(1, "view", out, "--window")


def test_a_coarser_mesh_makes_a_smaller_page(g2s: Command, out: Path) -> None:
    g2s("view", out)
    whole = (out / "view.html").stat().st_size
    coarser = ("view", out, "--mesh-size", "40", "--texture-size", "64")
    assert "view.html exists and would change. Add --overwrite" in g2s.fails(2, *coarser)
    assert (out / "view.html").stat().st_size == whole
    g2s.ok(*coarser, "--overwrite")
    assert (out / "view.html").stat().st_size < 0.8 * whole


@pytest.mark.parametrize(("target", "page"), [("new", "new/view.html"), ("Faces.html", "Faces.html")])
def test_the_page_goes_elsewhere(g2s: Command, out: Path, tmp_path: Path, target: str, page: str) -> None:
    before = sorted(out.iterdir())
    assert g2s.ok("view", out, "-o", target, "--mesh-size", "16").stdout == f"{page}\n"
    assert (tmp_path / page).read_bytes().startswith(b"<!doctype html>")
    assert sorted(out.iterdir()) == before


def test_open_starts_the_browser(g2s: Command, out: Path, tmp_path: Path) -> None:
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {tmp_path}/opened\n')
    browser.chmod(0o755)
    answer = g2s.using(BROWSER=f"{browser} %s")("view", out, *COARSE, "--open", "--quiet")
    assert (answer.returncode, answer.stdout, answer.stderr) == (0, f"{out}/view.html\n", "")
    assert (tmp_path / "opened").read_text().strip() == (out / "view.html").as_uri()


def test_a_missing_browser_is_a_note(g2s: Command, out: Path) -> None:
    answer = g2s.using(BROWSER="false", PATH="").ok("view", out, *COARSE, "--open")
    assert answer.stdout == f"{out}/view.html\n"
    assert "no browser could be started" in answer.stderr.lower()


@pytest.mark.parametrize("encoding", ["utf-8:strict", "ascii", "latin-1"])
@pytest.mark.skipif(sys.platform != "linux", reason="names of files are text there")
def test_a_path_is_printed_in_the_file_systems_encoding(g2s: Command, out: Path, encoding: str) -> None:
    folder = os.fsencode(out.parent) + b"/\xfc and " + "ü€".encode()
    os.rename(out, folder)  # noqa: PTH104  bytes
    answer = g2s.using(PYTHONIOENCODING=encoding).ok("view", os.fsdecode(folder), *COARSE)
    if encoding != "latin-1":  # which has some of the name, and writes that its own way
        assert os.fsencode(answer.stdout) == folder + b"/view.html\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["nowhere"], "is not a g2s result folder"), (["out", "--mesh-size", "4"], "--mesh-size")],
)
def test_wrong_arguments_are_refused(g2s: Command, out: Path, arguments: list[str], message: str) -> None:
    assert message in g2s.fails(2, "view", *arguments)


def test_an_unwritable_page_is_named(g2s: Command, out: Path) -> None:
    (out / "view.html").mkdir()
    assert "view.html cannot be written" in g2s.fails(1, "view", out)
    assert [path.name for path in out.iterdir() if path.name.startswith(".")] == []


def in_browser(page: Path, state: str, picture: Path) -> np.ndarray:
    """A screenshot of the page by a headless browser."""
    address, frame = f"{page.as_uri()}#{state}&zoom=1&bare=1", "await new Promise(requestAnimationFrame);"
    with Page(address, picture.parent / "profile", SIZE, SIZE) as browser:
        browser.wait_for("document.querySelector('code')?.textContent", 100)
        browser.evaluate(f"(async () => {{ {2 * frame} gl.finish(); {2 * frame} }})()")
        browser.screenshot(picture)
        assert browser.messages == []
    with Image.open(picture) as shown:
        return np.asarray(shown.convert("RGB"), dtype=float)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return 10 * math.log10(255**2 / np.square(a - b).mean())


@pytest.fixture
def finer(sharp: Result, tmp_path: Path) -> Path:
    """A result whose mesh is finer than its depth map, with a highlight, in hard light."""
    albedo, light = sharp.factors.albedo.clone(), torch.tensor([0.15, 0.9, 1.2, -0.6])
    albedo[:, 20:26, 20:26] = 1.6
    factors = replace(sharp.factors, albedo=albedo, light=light)
    photo = render(factors, sharp.camera).image
    fine = interpolate(photo[None], size=(320, 320), mode="bicubic", align_corners=False)[0]
    write_result(replace(sharp, factors=factors, photo=photo, aligned=to_uint8(fine)), tmp_path / "finer")
    return tmp_path / "finer"


@needs_browser
def test_a_long_name_ends_within_the_window(g2s: Command, out: Path, tmp_path: Path) -> None:
    report = json.loads((out / "report.json").read_text())
    (out / "report.json").write_text(json.dumps(report | {"photo": f"{'long ' * 60}.png"}))
    g2s("view", out, "--mesh-size", "16", "--texture-size", "16")
    page = out / "view.html"
    box = 'document.getElementById("title").getBoundingClientRect()'
    told = f"<script>document.title = `${{innerWidth - {box}.right}} ${{{box}.height}}`</script></html>"
    page.write_text(page.read_text().replace("</html>", told))
    command = [str(BROWSER), *PICTURE, f"--user-data-dir={tmp_path}/profile", "--dump-dom", page.as_uri()]
    answer = subprocess.run(command, check=True, timeout=100, capture_output=True, text=True)
    beside, high = map(float, answer.stdout.partition("<title>")[2].partition("</title>")[0].split())
    assert beside >= 16
    assert high < 40  # one line


@needs_browser
@pytest.mark.parametrize(
    ("verb", "options", "state"),
    [
        ("relight", ["--light=3,-1"], "light=3,-1"),
        pytest.param("rotate", ["--yaw", "20", "--pitch", "-8"], "yaw=20&pitch=-8", marks=pytest.mark.slow),
    ],
)
def test_a_browser_shows_what_rotate_and_relight_show(
    g2s: Command, finer: Path, tmp_path: Path, verb: str, options: list[str], state: str
) -> None:
    g2s.ok("view", finer)
    g2s.ok(verb, finer, *options, "--size", SIZE)
    with Image.open(finer / verb / "000.png") as result:
        right = np.asarray(result.convert("RGB"), dtype=float)
    shown = in_browser(finer / "view.html", state, tmp_path / "shown.png")
    assert shown.shape == right.shape
    # Outlines are softened by each in its own way.
    white = torch.from_numpy((right >= 254).all(axis=2))[None].float()
    inside = (max_pool2d(white, 9, 1, 4)[0] == 0).numpy()
    assert inside.mean() > 0.2
    assert psnr(shown[inside], right[inside]) > 46.8
    assert psnr(shown, right) > 34


@needs_browser
@pytest.mark.slow
def test_meaningless_parts_of_an_address_are_ignored(g2s: Command, out: Path, tmp_path: Path) -> None:
    g2s("view", out)
    plain = in_browser(out / "view.html", "yaw=0", tmp_path / "plain.png")
    odd = in_browser(out / "view.html", "yaw=abc&pitch=&light=0.5&mode=bogus", tmp_path / "odd.png")
    assert np.array_equal(odd, plain)
    assert psnr(in_browser(out / "view.html", "mode=shape", tmp_path / "shape.png"), plain) < 30
