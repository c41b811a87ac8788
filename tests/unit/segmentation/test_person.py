"""The matte of a person: on a portrait, on a bare crop, among other people, and along the photo's edges."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from g2s_cli.errors import WeightsError
from g2s_cli.geometry.center_crop import CenterCrop
from g2s_cli.photo.load import open_photo
from g2s_cli.segmentation.masks import ObjectMask, segment_person
from g2s_cli.segmentation.person import person_matte
from g2s_cli.segmentation.person_net import PersonNet
from g2s_cli.weights.cache import models_root
from g2s_cli.weights.categories import load_category
from g2s_cli.weights.tensors import load_tensors

DATA = Path(__file__).parents[2] / "data"


@pytest.fixture(scope="module")
def net() -> PersonNet:
    return PersonNet.from_state(load_tensors(models_root() / "synface" / "person.safetensors"))


class Disks(PersonNet):
    """A network that finds people in disks (row, column, radius), of 256 px."""

    def __init__(self, *disks: tuple[int, int, int]) -> None:
        super().__init__()
        self.disks = disks

    def forward(self, image: Tensor) -> Tensor:  # noqa: ARG002
        row, column = torch.meshgrid(torch.arange(256), torch.arange(256), indexing="ij")
        inside = torch.stack([(row - y) ** 2 + (column - x) ** 2 < radius**2 for y, x, radius in self.disks]).any(dim=0)
        return (inside.float() * 40 - 20)[None]


@pytest.mark.parametrize("name", ["portrait.jpg", "face.png"])
def test_the_person_is_told_from_the_background(net: PersonNet, name: str) -> None:
    photo = open_photo(DATA / name, 128, load_category("synface").face_template)
    matte = person_matte(photo.surroundings, net)
    n = len(photo.surroundings)
    assert matte.shape == (n, n)
    assert 0 <= matte.min() <= matte.max() <= 1
    quarter = n // 4
    crop = matte[quarter : n - quarter, quarter : n - quarter]
    middle = slice(len(crop) // 4, -len(crop) // 4)
    assert crop[middle, middle].min() > 0.9  # the face
    if name == "face.png":
        assert crop[: len(crop) // 10, [0, -1]].max() < 0.1  # the crop's upper corners
    else:
        assert matte[: n // 10, : n // 10].max() < 0.1


def test_other_people_do_not_count() -> None:
    grey = np.random.default_rng(0).integers(0, 255, (256, 256, 3), dtype=np.uint8)
    matte = person_matte(grey, Disks((128, 128, 50), (40, 220, 25)))
    assert matte[128, 128] > 0.9
    assert matte[20:60, 200:240].max() < 0.1
    assert person_matte(grey, Disks((40, 220, 25))).max() == 0


def test_the_matte_ends_at_the_edges_of_the_photo() -> None:
    row, column = np.mgrid[:512, :512]
    disk = (row - 256) ** 2 + (column - 256) ** 2 < 103**2  # a little larger than the network's
    photo = np.where(disk[..., None], (200, 120, 90), (30, 60, 120)).astype(np.uint8)
    matte = person_matte(photo, Disks((128, 128, 50))).numpy()
    assert ((matte > 0.5) != disk).mean() < 0.003
    coarse = (row - 256) ** 2 + (column - 256) ** 2 < 100**2
    assert (coarse != disk).mean() > 0.007


def test_a_photo_without_a_person_falls_back() -> None:
    def fallback() -> ObjectMask:
        return ObjectMask(torch.ones(64, 64), torch.ones(64, 64), method="features of the GAN")

    blank = np.full((256, 256, 3), 128, dtype=np.uint8)
    result = segment_person(blank, Disks((0, 0, 10)), CenterCrop(1.0, 64), fallback)
    assert result.matte is None
    assert "finds nobody" in result.notes[0] and "features of the GAN" in result.notes[0]
    assert "name another --category" in result.notes[0]
    found = segment_person(blank, Disks((128, 128, 60)), CenterCrop(1.0, 64), fallback)
    assert (found.method, found.notes, found.matte.shape) == ("person network", (), (256, 256))
    assert found.mask.shape == (64, 64)
    assert found.mask.mean().item() == pytest.approx(np.pi * 60**2 / 128**2, abs=0.02)


def test_other_weights_are_refused() -> None:
    with pytest.raises(WeightsError, match="PersonNet"):
        PersonNet.from_state({"stem.weight": torch.zeros(1)})
