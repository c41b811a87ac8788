"""A category derived from another one, with new files; and the writer of model.toml."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import fake_checkpoints
import pytest

from g2s_cli.errors import UsageError
from g2s_cli.weights.cache import models_root
from g2s_cli.weights.categories import category_names, load_category
from g2s_cli.weights.model_toml import read_model_toml, write_model_toml
from g2s_cli.weights.new_category import add_category, check_name_is_free
from g2s_cli.weights.registry import local_file
from g2s_cli.weights.tensors import write_weights

SOURCE = "pretrain, /some/where"


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    monkeypatch.setenv("G2S_CACHE", str(tmp_path / "cache"))
    states = fake_checkpoints.networks(16)
    networks = {f"{net}.{key}": value for net, state in states.items() for key, value in state.items()}
    views, gan = fake_checkpoints.statistics(6), {"g_ema.x": networks["netD.network.0.weight"]}
    paths = {part: tmp_path / f"{part}.safetensors" for part in ("networks", "views", "gan")}
    for path, tensors in zip(paths.values(), (networks, views, gan), strict=True):
        write_weights(tensors, path)
    return paths


@pytest.mark.parametrize("name", ["synface", "celeba", "car", "own"])
def test_a_derived_category_has_new_files_and_the_estimators_that_they_serve(
    name: str, files: dict[str, Path], tmp_path: Path
) -> None:
    category = load_category(name)
    folder = add_category(category, "faces", files, SOURCE, "# faces\n")
    derived = load_category("faces")
    assert folder == tmp_path / "cache" / "faces"
    assert derived.release is None
    assert derived.weights.keys() == files.keys()
    for part, path in files.items():
        assert local_file(derived, part).read_bytes() == path.read_bytes()
    for field in ("lights", "ellipsoid", "pretraining", "face_template", "view_mean"):
        assert getattr(derived, field) == getattr(category, field)
    for preset, original in zip(derived.presets.values(), category.presets.values(), strict=True):
        assert preset.estimators[0].name == original.estimators[0].name
        assert len(preset.estimators) == 1  # joint training makes networks for none of the others
        if original.schedule:
            assert preset.schedule.stages == original.schedule.stages
    trained = [preset for preset in derived.presets.values() if preset.needs_networks]
    assert trained
    assert all(preset.schedule.prior == 0 for preset in trained if preset.schedule)
    assert (folder / "README.md").read_text() == "# faces\n"


def test_a_name_is_taken_by_one_source(files: dict[str, Path]) -> None:
    check_name_is_free("faces", SOURCE)
    add_category(load_category("synface"), "faces", files, SOURCE, "")
    check_name_is_free("faces", SOURCE)  # the same run again
    for name, source in (("faces", "pretrain, /else/where"), ("synface", SOURCE)):
        with pytest.raises(UsageError, match=f"There is a category {name} already"):
            check_name_is_free(name, source)
    with pytest.raises(UsageError, match="is no name for a category"):
        check_name_is_free("My Faces", SOURCE)


@pytest.mark.parametrize("title", ['Faces of "Bob"', r"C:\\new\1", "Chats & Gâteaux 😀", "a\nb\x7f\x00"])
def test_a_derived_category_keeps_any_title(title: str, files: dict[str, Path]) -> None:
    add_category(replace(load_category("own"), title=title), "faces", files, SOURCE, "")
    assert load_category("faces").title == f"{title}; joint networks of your own"


@pytest.mark.parametrize("name", category_names())
def test_a_written_model_toml_reads_back_the_same(name: str, tmp_path: Path) -> None:
    data = read_model_toml(models_root() / name)
    write_model_toml(tmp_path, data)
    assert read_model_toml(tmp_path) == data


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"a": {}},
        {"a b": {"c.d": {"e": 1}}, "f": True},
        {"rate": 1e-05, "far": 1e20, "least": float("-inf"), "list": [[1, 2.5], [], ["x"]], "tables": [{"a b": [1]}]},
        tomllib.loads("when = 1979-05-27T07:32:00Z\nday = 1979-05-27\nhour = 07:32:00"),
    ],
)
def test_any_toml_reads_back_the_same(data: dict[str, Any], tmp_path: Path) -> None:
    write_model_toml(tmp_path, data)
    assert read_model_toml(tmp_path) == data
