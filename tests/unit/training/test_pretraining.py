"""What g2s pretrain is given: photos with or without depth, and a config that can be carried out."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from g2s_cli.config import Stage
from g2s_cli.errors import UsageError
from g2s_cli.machine import Machine
from g2s_cli.progress import SilentProgress
from g2s_cli.run_folder import open_run_folder
from g2s_cli.training.distributed import Group
from g2s_cli.training.pretrain_config import PhotoCollection, PretrainConfig, PretrainOptions
from g2s_cli.training.pretraining import VERB, run

FACE = Path(__file__).parents[2] / "data" / "face.png"


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("G2S_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("img10.png", "img2.png", "img1.png"):
        shutil.copy(FACE, folder / name)
    return folder


def test_a_folder_of_photos(photos: Path) -> None:
    (photos / "notes.txt").touch()
    collection = PhotoCollection.of(photos, 2)
    assert [path.name for path in collection.photos] == ["img1.png", "img2.png"]
    assert collection.pairs == []
    assert "notes.txt" in collection.notes[0]


def test_photos_with_depth_beside_them(photos: Path, tmp_path: Path) -> None:
    for folder in ("image", "depth"):
        (tmp_path / "data" / folder).mkdir(parents=True)
    for name in ("a", "b"):
        shutil.copy(FACE, tmp_path / "data" / "image" / f"{name}_image.png")
        Image.new("I;16", (64, 64), 30000).save(tmp_path / "data" / "depth" / f"{name}_depth.png")
    (tmp_path / "data" / "image" / ".DS_Store").touch()
    collection = PhotoCollection.of(tmp_path / "data", None)
    assert [path.name for path in collection.photos] == ["a_image.png", "b_image.png"]
    assert [pair.depth.name for pair in collection.pairs] == ["a_depth.png", "b_depth.png"]


def test_options_change_the_schedule_and_with_it_the_settings(photos: Path, tmp_path: Path) -> None:
    collection = PhotoCollection.of(photos, None)
    config = PretrainConfig.of(collection, tmp_path / "run", PretrainOptions("faces"))
    quick = PretrainConfig.of(
        collection, tmp_path / "run", PretrainOptions("faces", iterations=5, cycles=2, symmetry="off")
    )
    assert len(config.plan.effort.stages) == 8
    assert config.plan.effort.symmetry == "on"
    assert quick.plan.effort.stages == (Stage(5, 5, 5),) * 2
    assert quick.plan.effort.symmetry == "off"
    differing = {name for name, value in config.settings().items() if quick.settings()[name] != value}
    assert differing == {"schedule"}
    before = config.settings()["photos"]
    Image.new("RGB", (64, 64)).save(collection.photos[0])
    assert config.settings()["photos"] != before


def test_options_that_do_not_fit_are_refused(photos: Path, tmp_path: Path) -> None:
    collection = PhotoCollection.of(photos, None)
    with pytest.raises(UsageError, match="There are 3 photos, fewer than the 4 of a step"):
        PretrainConfig.of(collection, tmp_path / "run", PretrainOptions("faces", photos_per_step=4))
    with pytest.raises(UsageError, match=r"church states no schedule of joint training\. Copy the \[pretrain\] table"):
        PretrainConfig.of(collection, tmp_path / "run", PretrainOptions("faces", category="church"))
    with pytest.raises(UsageError, match="There is a category synface already"):
        PretrainConfig.of(collection, tmp_path / "run", PretrainOptions("synface"))


@pytest.fixture
def config(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PretrainConfig:
    """A config whose photos must not be opened."""
    config = PretrainConfig.of(PhotoCollection.of(photos, None), tmp_path / "run", PretrainOptions("faces"))
    perceptual = SimpleNamespace(name="features")
    loaded = SimpleNamespace(guides=SimpleNamespace(perceptual=perceptual), category=config.plan.category)
    monkeypatch.setattr("g2s_cli.training.pretraining.load", lambda *_: loaded)
    monkeypatch.setattr("g2s_cli.training.pretraining.open_photo", lambda *_: pytest.fail("a photo was opened"))
    return config


def test_a_folder_in_use_is_refused_before_photos_are_opened(config: PretrainConfig) -> None:
    settings = config.settings() | {"perceptual": "features"}
    with (
        open_run_folder(config.folder, settings, VERB),
        pytest.raises(UsageError, match=r"Another g2s pretrain is at work in .*run"),
    ):
        run(config, Machine.named("cpu"), Group(), SilentProgress())


def test_processes_with_different_distances_are_refused(
    config: PretrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Group, "all_gather", lambda *_: ["LPIPS", "features", "features"])
    with pytest.raises(UsageError, match="different perceptual distances: LPIPS, features"):
        run(config, Machine.named("cpu"), Group(0, 3), SilentProgress())
    assert not config.folder.exists()
