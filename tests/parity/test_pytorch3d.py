"""The rasterizer of PyTorch3D against ours."""

from __future__ import annotations

import math
import os
import sys
from importlib.util import find_spec

import pytest
import torch

from g2s_cli.commands import options
from g2s_cli.errors import UsageError
from g2s_cli.geometry import RASTERIZER_VARIABLE
from g2s_cli.geometry.camera import Camera, canonical_to_view, unproject_points
from g2s_cli.geometry.rasterizer import grid_faces, rasterize, render_depth
from g2s_cli.geometry.resample import resize_bspline

SIZE, COUNT = 48, 20
CAMERA = Camera(SIZE)
needs_pytorch3d = pytest.mark.skipif(find_spec("pytorch3d") is None, reason="PyTorch3D is not installed")


def random_reliefs() -> tuple[torch.Tensor, torch.Tensor]:
    """Smooth depth maps, and views to ±35°, from a seed."""
    rng = torch.Generator().manual_seed(0)
    depth = 1 + 0.03 * torch.stack([resize_bspline(torch.randn(6, 6, generator=rng), SIZE) for _ in range(COUNT)])
    views = torch.zeros(COUNT, 6)
    views[:, :3] = (torch.rand(COUNT, 3, generator=rng) * 2 - 1) * math.radians(35)
    views[:, 3:5] = (torch.rand(COUNT, 2, generator=rng) * 2 - 1) * 0.01
    return depth, views


@needs_pytorch3d
def test_it_renders_the_same_depth(monkeypatch: pytest.MonkeyPatch) -> None:
    depth, views = random_reliefs()
    vertices = canonical_to_view(unproject_points(depth, CAMERA), views, CAMERA).flatten(1, 2)
    faces = grid_faces(SIZE, SIZE, depth.device)
    face, z_buffer = rasterize(vertices, faces, CAMERA)
    monkeypatch.setenv(RASTERIZER_VARIABLE, "pytorch3d")
    other_face, other = rasterize(vertices, faces, CAMERA)
    assert other_face.max() < len(faces)
    both = (face >= 0) & (other_face >= 0)
    assert both.float().mean() > 0.5
    for covered, theirs in zip((face >= 0).float(), (other_face >= 0).float(), strict=True):
        assert (covered - theirs).abs().mean() <= 1e-3
    difference = (z_buffer - other).abs()[both]
    assert difference.max() < 1e-4
    assert (face == other_face)[both].float().mean() > 0.99


@needs_pytorch3d
def test_gradients_are_those_of_our_own(monkeypatch: pytest.MonkeyPatch) -> None:
    depth, views = (values[:2] for values in random_reliefs())
    gradients = []
    for name in ("torch", "pytorch3d"):
        monkeypatch.setenv(RASTERIZER_VARIABLE, name)
        own = depth.clone().requires_grad_()
        render_depth(own, views, CAMERA).square().sum().backward()
        gradients.append(own.grad)
    assert (gradients[0] - gradients[1]).norm() < 0.05 * gradients[0].norm()


def test_the_option_is_refused_without_pytorch3d(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(RASTERIZER_VARIABLE, "torch")  # which is taken back afterwards
    monkeypatch.setattr(options, "find_spec", lambda _: None)
    with pytest.raises(UsageError, match="PyTorch3D is not installed"):
        options.choose_rasterizer("pytorch3d")
    monkeypatch.setattr(options, "find_spec", lambda name: name)
    for name in (None, "torch", "pytorch3d"):
        assert options.choose_rasterizer(name) == name
    assert os.environ[RASTERIZER_VARIABLE] == "pytorch3d"


def test_without_pytorch3d_the_sentence_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pytorch3d.renderer", None)
    monkeypatch.setenv(RASTERIZER_VARIABLE, "pytorch3d")
    with pytest.raises(UsageError, match="rasterizer pytorch3d cannot be used"):
        render_depth(torch.ones(1, 8, 8), torch.zeros(1, 6), Camera(8))
    monkeypatch.setenv(RASTERIZER_VARIABLE, "embree")
    with pytest.raises(UsageError, match=r"no rasterizer 'embree' \(G2S_RASTERIZER\)"):
        render_depth(torch.ones(1, 8, 8), torch.zeros(1, 6), Camera(8))
