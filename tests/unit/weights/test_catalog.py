"""Categories: the ones we ship, and what is said of those we do not."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import pytest
import torch

from g2s_cli.config import MaskRule
from g2s_cli.errors import UsageError, WeightsError
from g2s_cli.geometry.rasterizer import VIEW_FAR, VIEW_NEAR
from g2s_cli.weights import catalog
from g2s_cli.weights.cache import models_root
from g2s_cli.weights.categories import category_names, load_category
from g2s_cli.weights.registry import local_file

SHIPPED = pytest.mark.parametrize("name", category_names())


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of synface's model.toml in a models folder of its own."""
    shutil.copytree(
        models_root() / "synface", tmp_path / "synface", ignore=shutil.ignore_patterns("*.safetensors", "*.md")
    )
    monkeypatch.setattr(catalog, "models_root", lambda: tmp_path)
    monkeypatch.setenv("G2S_CACHE", str(tmp_path / "cache"))
    return tmp_path / "synface" / "model.toml"


def test_the_embedded_category_is_there() -> None:
    assert "synface" in category_names()


@SHIPPED
def test_a_category_makes_sense(name: str) -> None:
    category = load_category(name)
    assert category.name == name
    assert math.log2(category.working_size).is_integer()
    assert category.near < category.ellipsoid.near < category.ellipsoid.far < category.far
    assert 0 < category.frame_share <= 1
    if category.view_mean is None:
        assert {"views", "lights"} <= category.weights.keys()
    else:
        covariance = torch.tensor(category.view_covariance, dtype=torch.float64)
        assert covariance.shape == (6, 6)
        assert len(category.view_mean) == 6
        torch.testing.assert_close(covariance, covariance.T)
        assert torch.linalg.eigvalsh(covariance).min() > -1e-4  # rounded to four digits
    for low, high in (category.lights.x, category.lights.y, category.lights.diffuse):
        assert low < high
    assert "fast" in category.presets
    assert "networks" in category.weights or not any(preset.trained for preset in category.presets.values())


@SHIPPED
def test_what_comes_with_a_category_is_what_it_states(name: str) -> None:
    category = load_category(name)
    for part, entry in category.weights.items():
        assert bool(entry.sha256) != bool(entry.member)  # embedded, or in the release
        if entry.sha256:
            assert local_file(category, part) == models_root() / name / entry.file


FIRST, LATER = (600, 600, 400), (200, 500, 300)  # table 11
SCENES = [(700, 700, 600), *3 * [(200, 500, 400)]]  # table 10
FACE_LIGHTS = ((-0.9, 0.9), (-0.3, 0.8), (-0.1, 0.7), -0.4)  # A.2.3
OTHER_LIGHTS = ((-1.0, 1.0), (-0.2, 0.8), (-0.1, 0.6), -0.6)


@pytest.mark.parametrize(
    ("name", "stages", "depth", "batch", "samples", "symmetry", "relative", "lights"),
    [
        ("celeba", [FIRST, *3 * [LATER]], 2, 16, 1600, "first-stage", True, FACE_LIGHTS),
        ("cat", [FIRST, *3 * [LATER]], 2, 16, 1600, "first-stage", True, OTHER_LIGHTS),
        ("bfm", [(500, 500, 200)], 8, 16, 1600, "first-stage", True, FACE_LIGHTS),  # table 12
        ("synface", [(500, 500, 200)], 8, 16, 1600, "first-stage", True, FACE_LIGHTS),
        ("car", SCENES, 2, 32, 3200, "off", False, OTHER_LIGHTS),
        ("church", SCENES, 2, 32, 3200, "off", False, OTHER_LIGHTS),
    ],
)
def test_the_paper_preset_is_the_papers(
    name: str,
    stages: list,
    depth: int,
    batch: int,
    samples: int,
    symmetry: str,
    relative: bool,
    lights: tuple,
) -> None:
    category = load_category(name)
    paper = category.preset("paper")
    assert [(stage.albedo, stage.project, stage.shape) for stage in paper.stages] == stages
    assert (category.offset_depth, category.offset_relative) == (depth, relative)
    assert (paper.batch, paper.samples, paper.symmetry) == (batch, samples, symmetry)
    assert (paper.rate, category.near, category.far) == (1e-4, 0.9, 1.1)  # table 9
    assert (category.ellipsoid.near, category.ellipsoid.far) == (0.91, 1.0 if name == "church" else 1.02)
    ranges = category.lights
    assert (ranges.x, ranges.y, ranges.diffuse, ranges.alpha) == lights
    assert paper.trained == (name not in {"car", "church"})
    assert category.schedule_known


@pytest.mark.parametrize(
    ("name", "cycles", "samples_a_photo", "batch"),
    [("celeba", 4, 256, 64), ("cat", 4, 256, 64), ("bfm", 8, 480, 96), ("synface", 8, 480, 96)],  # tables 11, 12
)
def test_the_joint_schedule_is_the_papers(name: str, cycles: int, samples_a_photo: int, batch: int) -> None:
    """The tables count what 8 processes, a photo each, do together."""
    effort = load_category(name).pretraining.effort
    stages = [(stage.albedo, stage.project, stage.shape) for stage in effort.stages]
    assert stages == [(1500, 1500, 1500), *(cycles - 1) * [(700, 1000, 1000)]]
    assert (8 * effort.samples / 200, 8 * effort.batch) == (samples_a_photo, batch)
    assert (effort.rate, effort.symmetry, effort.prior) == (1e-4, "on", 1000)


def test_where_no_joint_schedule_is_published_there_is_none() -> None:
    assert [load_category(name).pretraining for name in ("car", "church", "horse", "own")] == [None] * 4


@pytest.mark.parametrize(
    ("name", "image", "working", "cropped", "stretch"),
    [
        ("celeba", 128, 128, 1, 1.2),
        ("bfm", 128, 64, 170 / 256, 1.2),
        ("cat", 256, 128, 170 / 256, 1.2),
        ("car", 512, 128, 1, 1.0),
        ("church", 256, 128, 1, 1.0),
    ],
)
def test_pictures_are_framed_as_the_authors_frame_them(
    name: str, image: int, working: int, cropped: float, stretch: float
) -> None:
    category = load_category(name)
    assert (category.image_size, category.working_size, category.frame_share) == (image, working, cropped)
    assert category.yaw_stretch == stretch
    assert category.weights["gan"].member.startswith("checkpoints/stylegan2/stylegan2-")
    assert category.release.parts == ("x00", "x01", "x02", "x03")


ALL_BUT_CLOTH, FACE = (*range(1, 16), 17, 18), tuple(range(1, 14))


@pytest.mark.parametrize(
    ("name", "segmenter", "classes", "normalise"),
    [
        ("celeba", "bisenet", (ALL_BUT_CLOTH, FACE), False),
        ("bfm", "bisenet", (tuple(range(1, 15)),), False),
        ("cat", "pspnet-voc", ((8,),), True),
        ("car", "pspnet-voc", ((7,),), True),
        ("horse", "pspnet-voc", ((13,),), False),
        ("church", "pspnet-ade20k", ((1,),), False),
    ],
)
def test_masks_are_made_as_the_authors_make_them(name: str, segmenter: str, classes: tuple, normalise: bool) -> None:
    category = load_category(name)
    assert category.mask == MaskRule(segmenter, classes, normalise)
    assert category.weights["parsing"].member == f"checkpoints/parsing/{segmenter.replace('-', '_')}.pth"
    assert category.welcomes == ["parsing"]


@pytest.mark.parametrize("name", ["synface", "own"])
def test_others_find_their_objects_without_a_parsing_network(name: str) -> None:
    category = load_category(name)
    assert category.mask is None
    assert category.welcomes == []


def test_only_categories_of_faces_whose_place_is_known_are_aligned() -> None:
    assert {name for name in category_names() if load_category(name).align} == {"synface", "celeba"}


def test_what_is_not_known_of_horses_is_said() -> None:
    horse = load_category("horse")
    assert not horse.schedule_known
    assert "gan" not in horse.weights
    assert [preset.stages for preset in horse.presets.values()] == [
        preset.stages for preset in load_category("car").presets.values()
    ]


def test_the_instant_preset_fits_nothing_but_the_latent() -> None:
    instant = load_category("synface").preset("instant")
    assert [(stage.albedo, stage.project, stage.shape) for stage in instant.stages] == [(0, 0, 0)]
    assert (instant.prior, instant.refines, instant.trained) == (0, False, True)


def test_the_ellipsoid_preset_is_the_papers_schedule() -> None:
    stages = load_category("synface").preset("ellipsoid").stages
    assert [(stage.albedo, stage.project, stage.shape) for stage in stages] == [FIRST, *3 * [LATER]]


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
        ("stages = [[0, 0, 60], [150, 0, 0]]", "stages = [[100, 0]]"),
        ("stages = [[0, 0, 60], [150, 0, 0]]", "stages = 3"),
        ("keep = 0.4", "keep = 1.5"),
        ("keep = 0.4", "keep = -0.1"),
        ("agree = 0.5", "agree = 1.5"),
        ("agree = 0.5", "agree = 0.7"),  # and sight 0.5: more than one
        ("sight = 1.0", "sight = -1.0"),
        ("steps = 0.5", "steps = 2.0"),
        ("sight = 1.0", "sight = 1.0\nsteps = 0.5"),  # and no model that would read them
        ("masked = true", "masked = false"),  # of instant, which asks S
        ("register = 20\n", ""),
        ("raise_top", "rise_top"),
        ("[weights.gan]", "[weights.gun]"),
        ("[views]", "views = 3\n[sights]"),
        ("near = 0.9\n", "near = 0.9\ncrop_of = 0\n"),
        ("encoder_width = 16", ""),
        ("[pretrain]", "pretrain = 3\n[pretrained]"),
        ('licence = "MIT"', 'licence = "MIT"\nhub = 5'),
        ('licence = "MIT"', "licence = 5"),
        ("[views]", '[mask]\nparser = "eye"\nclasses = [[1]]\nnormalise = true\n[views]'),
        ("[views]", '[mask]\nparser = "bisenet"\nclasses = [[19]]\nnormalise = true\n[views]'),
        ("[views]", '[mask]\nparser = "bisenet"\nclasses = []\nnormalise = true\n[views]'),
        ("[views]", '[mask]\nparser = "bisenet"\nclasses = [[1]]\n[views]'),
        ('detector = "mtcnn"', 'detector = "magic"'),
        ("  [0.3335, 0.3207, -0.3407],\n", ""),
        ("  [0.3335, 0.3207, -0.3407],", "  [0.3335, 0.3207],"),
        ('file = "gan.safetensors"', 'file = ".."'),
        ('file = "gan.safetensors"', 'file = "model.toml"'),
        ('file = "gan.safetensors"', 'file = "../gan.safetensors"'),
        ('start = "networks"', 'start = "elipsoid"'),
        ('follow = "linear"', 'follow = "Linear"'),
        ("near = 0.9", "near = 0.7"),
        ("far = 1.1", "far = 1.3"),
        ("near = 0.9", "near = 1.15"),
        ("[weights.gan]\n", '[weights.views]\nfile = "v.safetensors"\ngan_sha256 = "0"\n\n[weights.gan]\n'),
    ],
)
def test_a_damaged_description_is_named(elsewhere: Path, old: str, new: str) -> None:
    text = elsewhere.read_text()
    assert old in text
    elsewhere.write_text(text.replace(old, new, 1))
    with pytest.raises(WeightsError, match=r"model\.toml is damaged"):
        load_category("synface")


@SHIPPED
def test_depths_are_those_that_views_show(name: str) -> None:
    config = load_category(name)
    assert VIEW_NEAR < config.near < config.far < VIEW_FAR


def test_a_folder_is_a_category(elsewhere: Path) -> None:
    shutil.copytree(elsewhere.parent, elsewhere.parents[1] / "zebra")
    assert category_names() == ["synface", "zebra"]
    assert load_category("zebra").title == load_category("synface").title


def test_a_quick_try_cuts_every_count() -> None:
    quick = load_category("synface").preset("fast").at_most(3)
    counts = [quick.register, quick.place, quick.invert, quick.prior]
    counts += [count for stage in quick.stages for count in (stage.albedo, stage.project, stage.shape)]
    assert max(counts) == 3
    assert quick.register == quick.place == 3
