"""Categories at hand by name, damaged ones, and the files that a run reads."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from g2s_cli.errors import UsageError, WeightsError
from g2s_cli.weights import categories
from g2s_cli.weights.cache import models_root
from g2s_cli.weights.categories import category_names, load_category, optional_parts, required_parts
from g2s_cli.weights.registry import local_file


@pytest.fixture
def model_toml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of synface's model.toml in another models folder."""
    ignore = shutil.ignore_patterns("*.safetensors", "*.md")
    shutil.copytree(models_root() / "synface", tmp_path / "synface", ignore=ignore)
    monkeypatch.setattr(categories, "models_root", lambda: tmp_path)
    monkeypatch.setenv("G2S_CACHE", str(tmp_path / "cache"))
    return tmp_path / "synface" / "model.toml"


def test_a_folder_is_a_category(model_toml: Path) -> None:
    shutil.copytree(model_toml.parent, model_toml.parents[1] / "zebra")
    assert category_names() == ["synface", "zebra"]
    assert load_category("zebra").title == load_category("synface").title


def test_the_embedded_category_is_at_hand() -> None:
    assert "synface" in category_names()


def test_a_cache_that_may_not_be_read_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Containers run as another user than the one whose home HOME names."""
    (tmp_path / "cache" / "owls").mkdir(parents=True)
    monkeypatch.setenv("G2S_CACHE", str(tmp_path / "cache"))
    stat = os.stat

    def refuse(path: object, **options: object) -> os.stat_result:
        if str(path).startswith(str(tmp_path)):
            raise PermissionError(13, "Permission denied", str(path))
        return stat(path, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "stat", refuse)
    assert category_names()
    assert load_category("synface").image_size == 128


def test_an_unknown_category_is_refused_with_the_known_and_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"no category 'sinface'\. Did you mean synface\? Known: .*synface"):
        load_category("sinface")
    with pytest.raises(UsageError, match=r"no category 'zebra'\. Known: ") as error:
        load_category("zebra")
    assert "Did you mean" not in str(error.value)


@pytest.mark.parametrize("name", ["", "..", "synface/", "../models/synface"])
def test_a_path_is_no_category(name: str) -> None:
    with pytest.raises(UsageError):
        load_category(name)


@pytest.mark.parametrize(("inside", "remedy"), [(True, "Install g2s again."), (False, "and pull or import it again.")])
def test_a_damaged_model_toml_is_named_with_its_remedy(model_toml: Path, inside: bool, remedy: str) -> None:
    if not inside:
        folder = model_toml.parents[1] / "cache" / "owls"
        shutil.copytree(model_toml.parent, folder)
        model_toml = folder / "model.toml"
    model_toml.write_text(model_toml.read_text().replace("[image]", "[image", 1))
    with pytest.raises(WeightsError, match=r"model\.toml is damaged") as error:
        load_category(model_toml.parent.name)
    assert str(model_toml) in str(error.value)
    assert error.value.remedy.endswith(remedy)


@pytest.mark.parametrize("name", category_names())
def test_the_files_of_a_category_are_embedded_or_in_the_release(name: str) -> None:
    category = load_category(name)
    for part, entry in category.weights.items():
        assert bool(entry.sha256) != bool(entry.member)
        if entry.sha256:
            assert local_file(category, part) == models_root() / (entry.category or name) / entry.file


@pytest.mark.parametrize(
    ("name", "networks", "own_gan", "parts"),
    [
        ("synface", True, False, ["gan", "networks", "person"]),
        ("synface", False, False, ["gan", "person"]),
        ("synface", True, True, ["person"]),
        ("portrait", True, False, ["gan", "networks", "depth", "person"]),
        ("portrait", True, True, ["person"]),
        ("celeba", True, False, ["gan", "networks", "views", "lights"]),
        ("celeba", False, True, ["views", "lights"]),
    ],
)
def test_a_run_requires_the_gan_the_statistics_and_networks_where_it_begins_from_them(
    name: str, networks: bool, own_gan: bool, parts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("G2S_CACHE", str(tmp_path))
    assert required_parts(load_category(name), networks=networks, own_gan=own_gan) == parts


@pytest.mark.parametrize("name", category_names())
def test_a_parsing_network_is_optional(name: str) -> None:
    category = load_category(name)
    assert optional_parts(category) == (["parsing"] if category.mask_rule else [])
