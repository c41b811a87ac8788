"""Categories: the ones we ship, and what is said of those we do not."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import pytest
import torch

from g2s_cli.errors import UsageError, WeightsError
from g2s_cli.zoo import catalog
from g2s_cli.zoo.catalog import category_names, load_category
from g2s_cli.zoo.store import models_root, weights_path

SHIPPED = pytest.mark.parametrize("name", category_names())


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of synface's model.toml in a models folder of its own."""
    shutil.copytree(
        models_root() / "synface", tmp_path / "synface", ignore=shutil.ignore_patterns("*.safetensors", "*.md")
    )
    monkeypatch.setattr(catalog, "models_root", lambda: tmp_path)
    return tmp_path / "synface" / "model.toml"


def test_the_embedded_category_is_there() -> None:
    assert "synface" in category_names()


@SHIPPED
def test_a_category_makes_sense(name: str) -> None:
    category = load_category(name)
    assert category.name == name
    assert math.log2(category.working_size).is_integer()
    assert category.near < category.ellipsoid.near < category.ellipsoid.far < category.far
    covariance = torch.tensor(category.view_covariance, dtype=torch.float64)
    assert covariance.shape == (6, 6)
    assert len(category.view_mean) == 6
    torch.testing.assert_close(covariance, covariance.T)
    assert torch.linalg.eigvalsh(covariance).min() > -1e-4  # rounded to four digits
    for low, high in (category.lights.x, category.lights.y, category.lights.diffuse):
        assert low < high
    assert category.presets
    assert category.networks is not None or not any(preset.trained for preset in category.presets.values())


@SHIPPED
def test_a_categorys_weights_are_those_it_states(name: str) -> None:
    category = load_category(name)
    for weights in filter(None, (category.gan, category.networks)):
        assert weights_path(name, weights.file, weights.sha256).is_file()


def test_the_ellipsoid_preset_is_the_papers_schedule() -> None:
    stages = load_category("synface").preset("ellipsoid").stages  # table 11
    assert [(stage.albedo, stage.project, stage.shape) for stage in stages] == [(600, 600, 400)] + 3 * [(200, 500, 300)]


def test_an_unknown_category_names_the_known_and_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"no category 'sinface'\. Did you mean synface\? Known: .*synface"):
        load_category("sinface")
    with pytest.raises(UsageError, match=r"no category 'zebra'\. Known: ") as error:
        load_category("zebra")
    assert "Did you mean" not in str(error.value)


@pytest.mark.parametrize("name", ["", "..", "synface/", "../models/synface"])
def test_a_path_is_no_category(name: str) -> None:
    with pytest.raises(UsageError):
        load_category(name)


def test_an_unknown_preset_names_the_known() -> None:
    category = load_category("synface")
    with pytest.raises(UsageError, match="synface has no preset 'slow'") as error:
        category.preset("slow")
    assert error.value.remedy == f"Choose one of: {', '.join(category.presets)}."


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("[image]", "[image"),
        ("fov_deg", "fov_rad"),
        ('symmetry = "on"', 'symmetry = "yes"'),
        ("stages = [[100, 0, 0]]", "stages = [[100, 0]]"),
        ("stages = [[100, 0, 0]]", "stages = 3"),
        ("raise_top", "rise_top"),
        ("[weights.gan]", "[weights.gun]"),
        ("[views]", "views = 3\n[sights]"),
    ],
)
def test_a_damaged_description_is_named(elsewhere: Path, old: str, new: str) -> None:
    text = elsewhere.read_text()
    assert old in text
    elsewhere.write_text(text.replace(old, new, 1))
    with pytest.raises(WeightsError, match=r"model\.toml is damaged"):
        load_category("synface")


def test_a_folder_is_a_category(elsewhere: Path) -> None:
    shutil.copytree(elsewhere.parent, elsewhere.parents[1] / "zebra")
    assert category_names() == ["synface", "zebra"]
    assert load_category("zebra").title == load_category("synface").title
