"""A category made of another one's description and new files."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path

import fake_checkpoints
import pytest

from g2s_cli.errors import UsageError
from g2s_cli.weights.cache import models_root
from g2s_cli.weights.catalog import load_category
from g2s_cli.weights.new_category import add_category, check_name_is_free, without_tables
from g2s_cli.weights.registry import local_file
from g2s_cli.weights.tensors import write_weights

WORDS = "pretrain, /some/where"


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    monkeypatch.setenv("G2S_CACHE", str(tmp_path / "cache"))
    networks = {
        f"{net}.{key}": value for net, state in fake_checkpoints.networks(16).items() for key, value in state.items()
    }
    contents = {
        "networks": networks,
        "views": fake_checkpoints.statistics(6),
        "gan": {"g_ema.x": networks["netD.network.0.weight"]},
    }
    for part, tensors in contents.items():
        write_weights(tensors, tmp_path / f"{part}.safetensors")
    return {part: tmp_path / f"{part}.safetensors" for part in contents}


@pytest.mark.parametrize("name", ["synface", "celeba", "car", "own"])
def test_it_is_as_the_other_but_for_its_files(name: str, files: dict[str, Path], tmp_path: Path) -> None:
    category = load_category(name)
    folder = add_category(category, "faces", files, WORDS, "# faces\n")
    result = load_category("faces")
    assert folder == tmp_path / "cache" / "faces"
    assert result.release is None
    assert result.weights.keys() == files.keys()
    for part, source in files.items():
        assert local_file(result, part).read_bytes() == source.read_bytes()
    assert (result.lights, result.ellipsoid, result.pretraining) == (
        category.lights,
        category.ellipsoid,
        category.pretraining,
    )
    assert [(one.stages, one.follow) for one in result.presets.values()] == [
        (one.stages, "encoder") for one in category.presets.values()
    ]
    assert not any(one.register or one.agree or one.sight or one.steps < 1 for one in result.presets.values())
    trained = [one for one in result.presets.values() if one.trained]
    assert trained
    assert all(one.prior == 0 for one in trained)
    assert (folder / "README.md").read_text() == "# faces\n"


def test_a_name_is_taken_once(files: dict[str, Path]) -> None:
    check_name_is_free("faces", WORDS)
    add_category(load_category("synface"), "faces", files, WORDS, "")
    check_name_is_free("faces", WORDS)  # the same run again
    for name, words in (("faces", "pretrain, /else/where"), ("synface", WORDS)):
        with pytest.raises(UsageError, match=f"There is a category {name} already"):
            check_name_is_free(name, words)
    with pytest.raises(UsageError, match="is no name for a category"):
        check_name_is_free("My Faces", WORDS)


def test_tables_go_with_their_comments_and_no_others() -> None:
    card = (models_root() / "celeba" / "model.toml").read_text()
    left = without_tables(card, ("release", "weights"))
    before, after = tomllib.loads(card), tomllib.loads(left)
    assert after == {name: table for name, table in before.items() if name not in {"release", "weights"}}
    assert "The authors' own archive" not in left
    assert "# A preset's stages are" in left
    assert "# Ours: one shortened cycle." in left


@pytest.mark.parametrize("title", ['Faces of "Bob"', r"C:\\new\1", "Chats & Gâteaux"])
def test_whatever_a_title_holds_it_is_handed_on(title: str, files: dict[str, Path], tmp_path: Path) -> None:
    category = replace(load_category("own"), title=title)
    add_category(category, "faces", files, WORDS, "")
    assert load_category("faces").title == f"{title}; joint networks of your own"
