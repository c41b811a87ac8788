"""Networks and the GAN that they were trained with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from g2s_cli.config import Category, WeightsFile
from g2s_cli.errors import WeightsError
from g2s_cli.files import sha256_of
from g2s_cli.weights.cache import CachedFile
from g2s_cli.weights.categories import category_names, load_category, read_category
from g2s_cli.weights.compatibility import check_compatible, trained_with_hash
from g2s_cli.weights.hub import staged
from g2s_cli.weights.registry import check_local_networks, local_record
from g2s_cli.weights.tensors import write_weights

OURS, OTHER = 64 * "a", 64 * "b"


@pytest.fixture
def category() -> Category:
    return load_category("celeba")


def networks(path: Path, trained_with: str = "") -> CachedFile:
    """A file of networks; trained_with: the GAN in its metadata."""
    write_weights({"netD.x": torch.zeros(1)}, path, trained_with)
    return CachedFile(path, sha256_of(path), "a test")


def gan(sha256: str) -> CachedFile:
    return CachedFile(Path("gan.safetensors"), sha256, "a test")


def test_networks_are_accepted_beside_their_gan_alone(category: Category, tmp_path: Path) -> None:
    check_compatible(category, gan(OURS), networks(tmp_path / "ours.safetensors", OURS))
    other = networks(tmp_path / "n.safetensors", OTHER)
    with pytest.raises(WeightsError) as refused:
        check_compatible(category, gan(OURS), other)
    for text in (str(other.path), "gan.safetensors", OTHER[:12], "g2s weights import GAN NETWORKS --category celeba"):
        assert text in str(refused.value)


def test_unknown_hashes_and_missing_files_are_accepted(category: Category, tmp_path: Path) -> None:
    silent, stating = networks(tmp_path / "a.safetensors"), networks(tmp_path / "b.safetensors", OTHER)
    check_compatible(category, gan(OURS), silent)
    check_compatible(category, None, stating)
    check_compatible(category, gan(OURS), None)
    check_compatible(category, gan(""), stating)
    check_compatible(category, gan(OURS), CachedFile(tmp_path / "authors.pth", OTHER, ""))


def test_a_model_toml_states_the_gan_of_its_own_file_alone(category: Category, tmp_path: Path) -> None:
    silent, other = networks(tmp_path / "a.safetensors"), networks(tmp_path / "b.safetensors", OTHER)
    entry = WeightsFile("networks.safetensors", silent.sha256, gan_sha256=OURS)
    stating = replace(category, weights={"networks": entry})
    assert trained_with_hash(stating, silent) == OURS
    assert trained_with_hash(stating, other) == OTHER
    assert trained_with_hash(stating, networks(tmp_path / "c.safetensors", "")) == OURS  # the same bytes
    with pytest.raises(WeightsError):
        check_compatible(stating, gan(OTHER), silent)


@pytest.mark.parametrize("name", category_names())
def test_embedded_networks_are_compatible(name: str) -> None:
    check_local_networks(load_category(name))


def test_embedded_networks_beside_another_gan_are_refused() -> None:
    category = load_category("synface")
    entries = category.weights
    assert entries["networks"].gan_sha256 == entries["gan"].sha256
    newer = replace(category, weights=entries | {"gan": replace(entries["gan"], sha256=OTHER)})
    with pytest.raises(WeightsError, match="Install g2s again") as refused:
        check_local_networks(newer)
    for part in ("gan", "networks"):
        assert str(local_record(category, part).path) in str(refused.value)


def test_a_published_model_toml_states_the_gan_of_its_networks(tmp_path: Path) -> None:
    category = load_category("synface")
    files = {part: category.folder / entry.file for part, entry in category.weights.items()}
    with staged(category, files) as folder:
        assert read_category(folder).weights == category.weights
        assert (folder / "model.toml").read_text() == (category.folder / "model.toml").read_text()  # with comments
    # Other networks than those that model.toml states.
    for trained_with in ("", OURS):
        other = networks(tmp_path / "n.safetensors", trained_with)
        with staged(category, files | {"networks": other.path}) as folder:
            entry = read_category(folder).weights["networks"]
        assert (entry.sha256, entry.gan_sha256) == (other.sha256, trained_with)
