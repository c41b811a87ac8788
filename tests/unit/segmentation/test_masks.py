"""Which pixels of a photo are the object, and who says so."""

from __future__ import annotations

from dataclasses import replace

import fake_checkpoints
import pytest
import torch
from torch import Tensor

from g2s_cli.gan.stylegan2 import Generator
from g2s_cli.geometry.center_crop import CenterCrop
from g2s_cli.segmentation.gan_features import Segmenter
from g2s_cli.segmentation.masks import ObjectMask, find_object, mask_by_features, mask_by_network, masks_of_classes
from g2s_cli.segmentation.parsing_net import ParsingNet, parsing_net
from g2s_cli.weights.catalog import Category, load_category

SIZE = 64
TOLERANCE_PX = 3  # the networks see at an eighth of 512 px


@pytest.fixture(scope="module")
def faces() -> Category:
    return load_category("celeba")


def net_for(category: Category, sees: int) -> ParsingNet:
    return parsing_net(fake_checkpoints.parser_state(category.mask.segmenter, sees))


def photo(top: int, bottom: int, left: int, right: int) -> Tensor:
    """Something red on black."""
    picture = torch.full((3, SIZE, SIZE), -1.0)
    picture[0, top:bottom, left:right] = 0.9
    return picture


def box(mask: Tensor) -> list[int]:
    rows, columns = torch.nonzero(mask, as_tuple=True)
    return [int(edge) for edge in (rows.min(), rows.max() + 1, columns.min(), columns.max() + 1)]


def features() -> ObjectMask:
    return ObjectMask(torch.ones(SIZE, SIZE), torch.ones(SIZE, SIZE), by="features")


@pytest.mark.parametrize("name", ["celeba", "bfm", "cat", "car", "horse", "church"])
def test_a_network_finds_its_object_where_it_is(name: str) -> None:
    category = load_category(name)
    found = find_object(photo(16, 48, 24, 40), category, net_for(category, category.mask.classes[0][0]), features)
    assert found.by == category.mask.segmenter
    assert (found.notes, found.segmenter) == ((), None)
    for mask in (found.whole, found.core):
        assert mask.shape == (SIZE, SIZE)
        assert box(mask >= 0.5) == pytest.approx([16, 48, 24, 40], abs=TOLERANCE_PX)


def test_faces_are_half_object_in_hair_and_clothes_not_at_all(faces: Category) -> None:
    label = torch.arange(19).view(1, 1, 19)
    whole, core = masks_of_classes(label, faces.mask)[0, :, 0]
    # The authors' expressions, whose equality of truth values is an "and" only where the first is true.
    everything = (label >= 1) == (label != 16)
    face = (label >= 1) == (label <= 13)
    assert torch.equal(core, ((everything.float() + face.float()) / 2)[0, 0])
    assert torch.equal(whole, everything[0, 0].float())


def test_hair_is_object_but_the_prior_does_not_stand_on_it(faces: Category) -> None:
    hair = mask_by_network(photo(8, 56, 8, 56), net_for(faces, 17), faces.mask)
    assert hair.whole[32, 32] == 1
    assert hair.core[32, 32] == 0.5
    skin = mask_by_network(photo(8, 56, 8, 56), net_for(faces, 1), faces.mask)
    assert skin.core[32, 32] == 1


def test_pictures_are_normalised_where_the_category_says_so() -> None:
    cars = load_category("car")
    dim = torch.full((3, SIZE, SIZE), -0.02)  # 0.49 of 1: above the mean red of ImageNet, below the middle
    net = net_for(cars, 7)
    assert mask_by_network(dim, net, cars.mask).whole.mean() == 1
    assert mask_by_network(dim, net, replace(cars.mask, normalise=False)).whole.mean() == 0


@pytest.mark.parametrize("size", [0, 3])
def test_a_network_that_finds_nothing_is_not_believed(faces: Category, size: int) -> None:
    found = find_object(photo(30, 30 + size, 30, 30 + size), faces, net_for(faces, 1), features)
    assert found.by == "features"
    assert "bisenet finds nothing" in found.notes[0]
    assert "Faces of celebrities" in found.notes[0]


def test_without_the_network_the_features_say_it_and_the_user_is_told(faces: Category) -> None:
    found = find_object(photo(16, 48, 24, 40), faces, None, features)
    assert found.by == "features"
    assert "g2s weights pull celeba" in found.notes[0]
    assert find_object(photo(16, 48, 24, 40), load_category("synface"), None, features).notes == ()


def test_features_are_asked_of_the_inversion(generator: Generator, segmenter: Segmenter, latents: Tensor) -> None:
    found = mask_by_features(latents[0], generator, segmenter, CenterCrop(1.0, 32))
    assert found.whole.shape == (32, 32)
    assert torch.equal(found.whole, found.core)
    assert found.segmenter is segmenter
    assert 0.3 < found.whole.mean() < 0.9
