"""Shared fixtures: a small made-up reconstruction."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import replace

import hypothesis
import numpy as np
import pytest
import torch
from jaxtyping import Bool, UInt8
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from g2s_cli.errors import ErrorStyle
from g2s_cli.geometry.camera import Camera
from g2s_cli.geometry.factors import Factors
from g2s_cli.geometry.image import to_uint8
from g2s_cli.geometry.placement import Placement
from g2s_cli.geometry.render import mask_to_view, render
from g2s_cli.result.schema import Result

torch.set_num_threads(1)
# The same examples every time, however slow the machine.
hypothesis.settings.register_profile("g2s", deadline=None, derandomize=True)
hypothesis.settings.load_profile("g2s")


@pytest.fixture(autouse=True)
def _errors_name_flags(monkeypatch: pytest.MonkeyPatch) -> None:
    """Errors name options as on the command line."""
    monkeypatch.setattr(ErrorStyle, "flags", True)


def made_up(size: int = 64, seed: int = 0) -> Result:
    """Half an ellipsoid with a colour ramp and a red nose, turned to the photo's right, lit from its upper left."""
    camera = Camera(size)
    rng = torch.Generator().manual_seed(seed)
    ticks = (torch.arange(size) - camera.centre) / camera.centre
    y, x = torch.meshgrid(ticks, ticks, indexing="ij")
    bulge = (1 - (x / 0.75) ** 2 - (y / 0.85) ** 2).clamp(min=0).sqrt()
    albedo = torch.stack((0.4 * x, 0.4 * y, 0.2 + 0 * x)) + 0.05 * torch.rand(3, size, size, generator=rng)
    nose = (x.abs() < 0.08) & (y.abs() < 0.08)
    albedo[:, nose] = torch.tensor([1.0, -1.0, -1.0])[:, None]
    factors = Factors(
        depth=1.02 - 0.05 * bulge,
        albedo=albedo,
        view=torch.tensor([0.05, -0.25, 0.03, 0.004, -0.003, 0.0]),
        light=torch.tensor([0.45, 0.5, 0.4, 0.3]),
    )
    mask = mask_to_view((bulge > 0.5).float(), factors, camera)
    photo = torch.where(mask > 0, render(factors, camera).image, -1.0)
    return Result(
        category="synface",
        photo=photo,
        aligned=to_uint8(photo),
        placement=Placement.from_box(0, 0, size),
        original=_png(photo),
        inverted=(photo + 0.02 * torch.randn(photo.shape, generator=rng)).clamp(-1, 1),
        mask=mask,
        factors=factors,
        latent=torch.randn(8, generator=rng),
        offset_net={"layers.0.weight": torch.randn(4, 3, 3, 3, generator=rng)},
        camera=camera,
        report={"g2s": "0.1.0", "photo": "made-up.png", "seed": seed, "warnings": []},
    )


def _png(image: torch.Tensor) -> bytes:
    file = io.BytesIO()
    Image.fromarray(to_uint8(image)).save(file, format="PNG")
    return file.getvalue()


@pytest.fixture(scope="session")
def make() -> Callable[..., Result]:
    return made_up


def sharp_photo(result: Result, size: int) -> UInt8[np.ndarray, "n n 3"]:
    """A made-up photo at a higher resolution, with a weave that its own pixels cannot resolve."""
    coarse = interpolate(result.photo[None], size=(size, size), mode="bicubic", align_corners=False)[0]
    turns = torch.arange(size) * (2 * math.pi * 40 / size)
    weave = 0.15 * (turns.sin()[:, None] + turns.sin())
    return to_uint8(torch.where(sharp_mask_of(result, size), coarse + weave, -1.0))


def sharp_mask_of(result: Result, size: int) -> Bool[Tensor, "n n"]:
    """The object mask at a higher resolution."""
    return interpolate(result.mask[None, None], size=(size, size), mode="bilinear", align_corners=False)[0, 0] >= 0.5


@pytest.fixture(scope="session")
def sharp() -> Result:
    """The made-up reconstruction of a photo of 320 pixels."""
    result = made_up()
    return replace(result, aligned=sharp_photo(result, 320))


@pytest.fixture(scope="session")
def sharp_mask(sharp: Result) -> Bool[Tensor, "n n"]:
    """The object mask of the photo of 320 pixels."""
    return sharp_mask_of(sharp, 320)


@pytest.fixture(scope="session")
def result() -> Result:
    return made_up()
