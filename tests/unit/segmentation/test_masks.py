"""Which pixels of a photo are the object, and which method decides."""

from __future__ import annotations

from dataclasses import replace

import fake_checkpoints
import pytest
import torch
from torch import Tensor

from g2s_cli.config import Category
from g2s_cli.gan.stylegan2 import Generator
from g2s_cli.geometry.center_crop import CenterCrop
from g2s_cli.segmentation.gan_features import Segmenter
from g2s_cli.segmentation.masks import (
    ObjectMask,
    masks_from_labels,
    segment_object,
    segment_with_features,
    segment_with_network,
)
from g2s_cli.segmentation.parsing_net import ParsingNet, parsing_net
from g2s_cli.weights.categories import load_category

SIZE = 64
TOLERANCE_PX = 3  # the networks work at an eighth of 512 px


@pytest.fixture(scope="module")
def faces() -> Category:
    return load_category("celeba")


def net_for(category: Category, label: int) -> ParsingNet:
    """A network that labels red pixels."""
    return parsing_net(fake_checkpoints.parser_state(category.mask_rule.segmenter, label))


def red_box(top: int, bottom: int, left: int, right: int) -> Tensor:
    photo = torch.full((3, SIZE, SIZE), -1.0)
    photo[0, top:bottom, left:right] = 0.9
    return photo


def bounds(mask: Tensor) -> list[int]:
    rows, columns = torch.nonzero(mask, as_tuple=True)
    return [int(edge) for edge in (rows.min(), rows.max() + 1, columns.min(), columns.max() + 1)]


def fallback() -> ObjectMask:
    return ObjectMask(torch.ones(SIZE, SIZE), torch.ones(SIZE, SIZE), method="features")


@pytest.mark.parametrize("name", ["celeba", "bfm", "cat", "car", "horse", "church"])
def test_a_network_segments_the_object(name: str) -> None:
    category = load_category(name)
    net = net_for(category, category.mask_rule.classes[0][0])
    result = segment_object(red_box(16, 48, 24, 40), category, net, fallback)
    assert (result.method, result.notes, result.segmenter) == (category.mask_rule.segmenter, (), None)
    for mask in (result.mask, result.inner_mask):
        assert mask.shape == (SIZE, SIZE)
        assert bounds(mask >= 0.5) == pytest.approx([16, 48, 24, 40], abs=TOLERANCE_PX)


def test_hair_is_half_in_the_inner_mask_and_clothes_in_none(faces: Category) -> None:
    labels = torch.arange(19).view(1, 1, 19)
    mask, inner_mask = masks_from_labels(labels, faces.mask_rule)[0, :, 0]
    # The authors' expressions, whose equality of truth values is an "and" only where the first is true.
    head = (labels >= 1) == (labels != 16)
    face = (labels >= 1) == (labels <= 13)
    assert torch.equal(inner_mask, ((head.float() + face.float()) / 2)[0, 0])
    assert torch.equal(mask, head[0, 0].float())


@pytest.mark.parametrize(("label", "inner"), [(17, 0.5), (1, 1)], ids=["hair", "skin"])
def test_the_inner_mask_of_a_photo(faces: Category, label: int, inner: float) -> None:
    result = segment_with_network(red_box(8, 56, 8, 56), net_for(faces, label), faces.mask_rule)
    assert result.mask[32, 32] == 1
    assert result.inner_mask[32, 32] == inner


def test_photos_are_normalised_if_the_category_says_so() -> None:
    cars = load_category("car")
    dim = torch.full((3, SIZE, SIZE), -0.02)  # 0.49 of 1: above the mean red of ImageNet, below the middle
    net = net_for(cars, 7)
    assert segment_with_network(dim, net, cars.mask_rule).mask.mean() == 1
    assert segment_with_network(dim, net, replace(cars.mask_rule, normalise=False)).mask.mean() == 0


@pytest.mark.parametrize("size", [0, 3])
def test_the_fallback_replaces_an_empty_mask(faces: Category, size: int) -> None:
    result = segment_object(red_box(30, 30 + size, 30, 30 + size), faces, net_for(faces, 1), fallback)
    assert result.method == "features"
    assert "bisenet finds nothing" in result.notes[0]
    assert "Faces of celebrities" in result.notes[0]


def test_the_fallback_replaces_a_missing_network(faces: Category) -> None:
    photo = red_box(16, 48, 24, 40)
    result = segment_object(photo, faces, None, fallback)
    assert result.method == "features"
    assert "g2s weights pull celeba" in result.notes[0]
    assert segment_object(photo, load_category("synface"), None, fallback).notes == ()


def test_features_segment_the_inversion(generator: Generator, segmenter: Segmenter, latents: Tensor) -> None:
    result = segment_with_features(latents[0], generator, segmenter, CenterCrop(1.0, 32))
    assert result.mask.shape == (32, 32)
    assert torch.equal(result.mask, result.inner_mask)
    assert result.segmenter is segmenter
    assert 0.3 < result.mask.mean() < 0.9
