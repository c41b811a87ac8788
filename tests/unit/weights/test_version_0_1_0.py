"""Categories that g2s 0.1.0 wrote: one of its `pretrain`, and one that its `weights publish` put on a Hub."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from servers import HubServer, Repo

from g2s_cli.weights.categories import load_category
from g2s_cli.weights.importers import read_checkpoint
from g2s_cli.weights.new_category import add_category
from g2s_cli.weights.registry import Sources, check_local_networks, fetch_weights, find_category, local_file

DATA = Path(__file__).parents[2] / "data" / "category-0.1.0"
FILES = {part: DATA / "pretrained" / f"{part}.safetensors" for part in ("gan", "networks")}
REPO = "somebody/shapes"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("G2S_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    return tmp_path / "cache"


def test_a_pretrained_category_loads(cache: Path) -> None:
    shutil.copytree(DATA / "pretrained", cache / "pretrained")
    category = load_category("pretrained")
    parts = ["gan", "networks", "views", "lights"]
    files = fetch_weights(category, parts, Sources())
    assert files == {part: cache / "pretrained" / f"{part}.safetensors" for part in parts}
    assert [read_checkpoint(path)[0] for path in files.values()] == parts
    check_local_networks(category)
    assert category.title == "tiny; joint networks of your own"
    assert category.most_latent_distance == 2.0  # `most_strangeness` in its file
    assert all(preset.needs_networks for preset in category.presets.values())
    assert category.pretraining.width == 4


def test_a_published_category_is_pulled(cache: Path, hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache.parent / "hub"))
    contents = [*(DATA / "published").iterdir(), *FILES.values()]
    hub.repos[REPO] = Repo.of({f"owls/{path.name}": path.read_bytes() for path in contents})
    category = find_category("owls", Sources(REPO))
    assert (cache / "owls" / "README.md").read_bytes() == (DATA / "published" / "README.md").read_bytes()
    files = fetch_weights(category, list(category.weights), Sources())
    assert {part: path.read_bytes() for part, path in files.items()} == {
        part: path.read_bytes() for part, path in FILES.items()
    }
    assert hub.repos[REPO].revisions["main"] in str(files["gan"])
    assert local_file(category, "gan") == files["gan"]
    assert category.weights["networks"].gan_sha256 == category.weights["gan"].sha256
    assert category.most_latent_distance == 2.0
    assert list(category.presets) == ["instant", "fast", "paper", "ellipsoid"]
    assert category.preset("fast").needs_networks
    assert not category.preset("ellipsoid").needs_networks


def test_a_category_is_derived_from_a_published_one(cache: Path) -> None:
    shutil.copytree(DATA / "published", cache / "owls")
    add_category(load_category("owls"), "derived", FILES, "pretrain, /some/where", "")
    derived = load_category("derived")
    assert derived.weights.keys() == FILES.keys()
    assert all(len(preset.estimators) == 1 for preset in derived.presets.values())
