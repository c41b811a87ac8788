"""The desktop window of a result."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec

import numpy as np
import pytest

from g2s_cli.errors import G2SError
from g2s_cli.mesh.options import MeshOptions
from g2s_cli.result import window
from g2s_cli.result.schema import Result
from g2s_cli.result.window import Pose, ResultWindow, after_key

needs_a_display = pytest.mark.skipif(
    find_spec("open3d") is None or "DISPLAY" not in os.environ, reason="there is no Open3D here, or no display"
)


def test_keys_turn_light_and_zoom() -> None:
    pose = Pose()
    for key in (window.RIGHT, window.RIGHT, window.UP):
        pose = after_key(pose, key, shift=False)
    assert (pose.yaw_deg, pose.pitch_deg, pose.light) == (6.0, 3.0, (0.0, 0.0))
    pose = after_key(after_key(pose, window.LEFT, shift=True), window.DOWN, shift=True)
    assert (pose.yaw_deg, pose.light) == (6.0, pytest.approx((-0.1, -0.1)))
    pose = after_key(pose, window.PLUS, shift=True)
    assert pose.zoom == pytest.approx(1.1)
    assert after_key(pose, window.MINUS, shift=False).zoom == pytest.approx(1.0)
    for _ in range(40):
        pose = after_key(pose, window.LEFT, shift=False)
    assert pose.yaw_deg == -90
    assert after_key(pose, window.HOME, shift=False) == Pose()


@needs_a_display
def test_the_window_shows_the_picture(sharp: Result) -> None:
    opened = ResultWindow(sharp, MeshOptions(120, 240))
    for pose, options in (
        (Pose(), {}),
        (Pose(yaw_deg=15.0, pitch_deg=-5.0), {"yaw_deg": 15.0, "pitch_deg": -5.0}),
    ):
        opened.show(pose)
        shown = opened.picture()
        expected = np.array(sharp.image(size=window.SIZE_PX, **options))
        assert shown.shape == expected.shape
        assert np.abs(shown.astype(float) - expected).mean() < 6
    before = opened.picture()
    opened.show(Pose(yaw_deg=15.0, pitch_deg=-5.0, light=(-1.5, 0.0)))
    darker = before.mean(axis=(0, 2)) - opened.picture().mean(axis=(0, 2))
    half = window.SIZE_PX // 2
    assert darker[half:].sum() > darker[:half].sum() + 100  # the light stands on the left


def test_without_open3d_the_remedy_installs_it(sharp: Result, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "open3d", None)
    with pytest.raises(G2SError, match=r"needs open3d, which is not installed. pip install 'g2s-cli\[open3d\]'"):
        ResultWindow(sharp)


@pytest.mark.skipif(find_spec("open3d") is None or sys.platform != "linux", reason="Open3D is not installed")
def test_without_a_display_the_sentence_says_so(sharp: Result, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in window.DISPLAYS:
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(G2SError, match="No window can be opened here"):
        ResultWindow(sharp, MeshOptions(16, 16))
