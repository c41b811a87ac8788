"""Categories and presets: the shipped ones against the paper, conversions, and tables that are refused."""

from __future__ import annotations

import math
import tomllib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import pytest
import torch

from g2s_cli.config import Category, EstimatorConfig, MaskRule, Preset, Schedule
from g2s_cli.errors import UsageError, WeightsError
from g2s_cli.geometry.rasterizer import VIEW_FAR, VIEW_NEAR
from g2s_cli.training.train_config import TrainConfig
from g2s_cli.value_types import check_type
from g2s_cli.weights.cache import models_root
from g2s_cli.weights.categories import category_names, load_category, read_category
from g2s_cli.weights.category_toml import parse_category

SHIPPED = pytest.mark.parametrize("name", category_names())
PUBLISHED = Path(__file__).parents[1] / "data" / "category-0.1.0" / "published" / "model.toml"


def parse(text: str) -> Category:
    return parse_category(Path("zebra"), tomllib.loads(text))


def synface_toml() -> str:
    return (models_root() / "synface" / "model.toml").read_text(encoding="utf-8")


def counts(schedule: Schedule) -> list[tuple[int, int, int]]:
    return [(stage.albedo, stage.project, stage.shape) for stage in schedule.stages]


@SHIPPED
def test_a_shipped_category_is_consistent(name: str) -> None:
    category = load_category(name)
    assert category.name == name
    assert math.log2(category.working_size).is_integer()
    assert VIEW_NEAR < category.near < category.ellipsoid.near < category.ellipsoid.far < category.far < VIEW_FAR
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
    assert "networks" in category.weights or not any(preset.needs_networks for preset in category.presets.values())


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
    assert [estimator.name for estimator in paper.estimators] == ["gan2shape"]
    schedule = paper.schedule
    assert counts(schedule) == stages
    assert (category.offset_depth, category.offset_relative) == (depth, relative)
    assert (schedule.batch, schedule.samples, schedule.symmetry) == (batch, samples, symmetry)
    assert (schedule.rate, schedule.offset_weight, category.near, category.far) == (1e-4, 0.01, 0.9, 1.1)  # table 9
    assert (category.ellipsoid.near, category.ellipsoid.far) == (0.91, 1.0 if name == "church" else 1.02)
    ranges = category.lights
    assert (ranges.x, ranges.y, ranges.diffuse, ranges.alpha) == lights
    assert paper.needs_networks == (name not in {"car", "church"})
    assert category.schedule_known


@pytest.mark.parametrize(
    ("name", "cycles", "samples_a_photo", "batch"),
    [("celeba", 4, 256, 64), ("cat", 4, 256, 64), ("bfm", 8, 480, 96), ("synface", 8, 480, 96)],  # tables 11, 12
)
def test_the_joint_schedule_is_the_papers(name: str, cycles: int, samples_a_photo: int, batch: int) -> None:
    """The tables count what 8 processes, a photo each, do together."""
    schedule = load_category(name).pretraining.preset.schedule
    assert counts(schedule) == [(1500, 1500, 1500), *(cycles - 1) * [(700, 1000, 1000)]]
    assert (8 * schedule.samples / 200, 8 * schedule.batch) == (samples_a_photo, batch)
    assert (schedule.rate, schedule.symmetry, schedule.prior, schedule.start) == (1e-4, "on", 1000, "ellipsoid")


def test_categories_without_a_published_joint_schedule_have_none() -> None:
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
def test_sizes_and_crops_are_the_authors(name: str, image: int, working: int, cropped: float, stretch: float) -> None:
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
def test_mask_rules_are_the_authors(name: str, segmenter: str, classes: tuple, normalise: bool) -> None:
    category = load_category(name)
    assert category.mask_rule == MaskRule(segmenter, classes, normalise)
    assert category.weights["parsing"].member == f"checkpoints/parsing/{segmenter.replace('-', '_')}.pth"


@pytest.mark.parametrize("name", ["synface", "own"])
def test_categories_without_a_parsing_network_have_no_mask_rule(name: str) -> None:
    assert load_category(name).mask_rule is None


def test_photos_are_aligned_in_categories_with_a_face_template() -> None:
    assert {name for name in category_names() if load_category(name).face_template} == {"portrait", "synface", "celeba"}


def test_the_schedule_of_horses_is_cars_and_marked_as_unknown() -> None:
    horse, car = load_category("horse"), load_category("car")
    assert not horse.schedule_known
    assert "gan" not in horse.weights
    stages = [[preset.schedule.stages for preset in category.presets.values()] for category in (horse, car)]
    assert stages[0] == stages[1]


MORPHABLE, DEPTH_NET = EstimatorConfig("morphable", 0.4, 240), EstimatorConfig("depth_net", 0.6)
FEEDFORWARD = EstimatorConfig("feedforward")


def test_the_presets_of_synface_are_lists_of_estimators() -> None:
    presets = load_category("synface").presets
    assert list(presets) == ["instant", "fast", "paper", "ellipsoid"]
    assert presets["instant"] == Preset((FEEDFORWARD, EstimatorConfig("depth_net", 1.0)), True, 16, 0)
    assert presets["fast"] == Preset((FEEDFORWARD, MORPHABLE, DEPTH_NET), True, 16, 50)
    assert [preset.needs_networks for preset in presets.values()] == [True, True, True, False]
    assert counts(presets["ellipsoid"].schedule) == [FIRST, *3 * [LATER]]
    assert presets["instant"].schedule is None


def test_presets_of_version_0_1_0_that_fused_depths_are_converted() -> None:
    category = parse(PUBLISHED.read_text(encoding="utf-8"))
    instant, fast = category.preset("instant"), category.preset("fast")
    assert instant == Preset((FEEDFORWARD, EstimatorConfig("depth_net", 1.0)), True, 128, 100)
    halves = replace(MORPHABLE, weight=0.5), replace(DEPTH_NET, weight=0.5)
    assert fast == Preset((FEEDFORWARD, *halves), True, 128, 200)
    for name in ("paper", "ellipsoid"):
        assert category.preset(name) == load_category("synface").preset(name)


def test_an_unknown_preset_is_refused_with_the_known() -> None:
    category = load_category("synface")
    with pytest.raises(UsageError, match="synface has no preset 'slow'") as error:
        category.preset("slow")
    assert error.value.remedy == f"Choose one of: {', '.join(category.presets)}."


@pytest.mark.parametrize("name", ["fast", "ellipsoid"])
@pytest.mark.parametrize("most", [0, 3])
def test_at_most_limits_every_count(name: str, most: int) -> None:
    preset = load_category("synface").preset(name)
    quick = preset.at_most(most)
    iterations = [quick.inversion_iterations, *(one.iterations for one in quick.estimators)]
    assert quick.candidates == min(preset.candidates, max(1, most) * 16)
    if quick.schedule:
        assert counts(quick.schedule) == 4 * [3 * (most,)]
        assert (quick.schedule.prior, quick.schedule.batch, quick.schedule.samples) == (most, 8, 8 * most)
    assert max(iterations) == most
    assert [(one.name, one.weight) for one in quick.estimators] == [(one.name, one.weight) for one in preset.estimators]
    assert preset.at_most(100_000) == preset.at_most(200_000)


def test_with_cycles_limits_the_schedule_alone() -> None:
    fast, ellipsoid = (load_category("synface").preset(name) for name in ("fast", "ellipsoid"))
    assert counts(ellipsoid.with_cycles(2).schedule) == [FIRST, LATER]
    assert ellipsoid.with_cycles(None) == ellipsoid
    assert ellipsoid.with_cycles(9) == ellipsoid
    assert fast.with_cycles(2) == fast


@pytest.mark.parametrize(("symmetry", "symmetric"), [("on", True), ("off", False), ("first-stage", True)])
def test_with_symmetry_changes_schedule_and_feed_forward_factors(symmetry: str, symmetric: bool) -> None:
    fast, paper = (load_category("synface").preset(name) for name in ("fast", "paper"))
    assert fast.with_symmetry(symmetry).symmetric == paper.with_symmetry(symmetry).symmetric == symmetric
    assert fast.with_symmetry(symmetry).estimators == fast.estimators
    assert paper.with_symmetry(symmetry).schedule.symmetry == symmetry
    assert paper.with_symmetry(None) == paper


@pytest.mark.parametrize(
    ("symmetry", "cycles"), [("on", [True, True]), ("off", [False, False]), ("first-stage", [True, False])]
)
def test_the_first_stage_is_the_first_cycle(symmetry: str, cycles: list[bool]) -> None:
    schedule = load_category("synface").preset("ellipsoid").with_symmetry(symmetry).schedule
    assert [schedule.symmetric(cycle) for cycle in (0, 1)] == cycles


DAMAGE = [
    ("fov_deg", "fov_rad"),
    ('symmetry = "first-stage"', 'symmetry = "yes"'),
    ("stages = [[500, 500, 200]]", "stages = [[100, 0]]"),
    ("stages = [[500, 500, 200]]", "stages = 3"),
    ("stages = [[500, 500, 200]]\n", ""),
    ('"feedforward"', '"feed-forward"'),
    ('estimators = [{ name = "feedforward" }, ', "estimators = ["),  # depth_net alone
    ('estimators = [{ name = "feedforward" }, ', 'estimators = [{ name = "feedforward" }, { name = "feedforward" }, '),
    ('estimators = [{ name = "feedforward" }, { name = "depth_net", weight = 1.0 }]', "estimators = []"),
    ("weight = 1.0", "weight = 1.5"),
    ("weight = 1.0", "weight = -1.0"),
    ('"morphable", weight = 0.4', '"morphable", weight = 0.7'),  # with 0.6 of depth_net: more than 1
    ("masked = true", "masked = false"),  # of instant, which has depth_net
    ("invert = 50", "inversions = 50"),
    ("weight = 1.0", "wieght = 1.0"),
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
    ("near = 0.9", "near = 0.7"),
    ("far = 1.1", "far = 1.3"),
    ("near = 0.9", "near = 1.15"),
    ("[weights.gan]\n", '[weights.views]\nfile = "v.safetensors"\ngan_sha256 = "0"\n\n[weights.gan]\n'),
]


@pytest.mark.parametrize(("old", "new"), DAMAGE)
def test_a_damaged_table_is_refused(old: str, new: str) -> None:
    text = synface_toml()
    assert old in text
    with pytest.raises((ArithmeticError, AttributeError, LookupError, TypeError, ValueError)):
        parse(text.replace(old, new, 1))


@pytest.mark.parametrize(("old", "new"), [("agree = 0.5", "agree = 1.5"), ("sight = 1.0", "sight = -1.0")])
def test_fusion_weights_of_version_0_1_0_are_checked(old: str, new: str) -> None:
    text = PUBLISHED.read_text(encoding="utf-8")
    assert old in text
    with pytest.raises(ValueError, match="negative or more than 1 together"):
        parse(text.replace(old, new, 1))


@dataclass(frozen=True)
class Sample:
    """A value of every type that categories have. Types in the package are checked by the tests' own checker."""

    count: int = 1
    share: float = 1
    flag: bool = True
    pair: tuple[float, float] = (0.0, 1.0)
    many: tuple[tuple[int, ...], ...] = ((1, 2), ())
    choice: Literal["a", "b"] = "a"
    table: dict[str, float] = field(default_factory=dict)
    inner: Sample | None = None


@pytest.mark.parametrize(
    "change",
    [
        {"count": -1},
        {"count": 2**40},
        {"count": 1.0},
        {"count": True},
        {"share": "1"},
        {"share": math.inf},
        {"share": False},
        {"flag": 1},
        {"pair": (0.0,)},
        {"pair": [0.0, 1.0]},
        {"many": ((1, "2"),)},
        {"choice": "c"},
        {"choice": []},
        {"table": {"x": None}},
        {"table": []},
        {"inner": 3},
    ],
)
def test_a_value_of_another_type_is_refused(change: dict[str, Any]) -> None:
    check_type(Sample(inner=Sample()), Sample, "")
    with pytest.raises(TypeError, match=rf"^{next(iter(change))}.* is .*, no "):
        check_type(Sample(**change), Sample, "")
    with pytest.raises(TypeError, match=rf"^inner\.{next(iter(change))}"):
        check_type(Sample(inner=Sample(**change)), Sample, "")


# Each has the right syntax and the right keys, but a value that no run can use.
IMPOSSIBLE = [
    ("image.image_size", 100, "image_size is no power of two"),
    ("image.working_size", -64, "working_size is -64, no count"),
    ("image.working_size", 2**63, "no count"),
    ("image.fov_deg", 0.0, "fov_deg is not between"),
    ("image.fov_deg", math.nan, "fov_deg is nan, no number"),
    ("image.crop", 3, "crop is not between 0 and crop_of"),
    ("ellipsoid.radius", 0.0, "radius is not between 0 and 1"),
    ("ellipsoid.far", 1.2, "those of the ellipsoid between them"),
    ("views.mean", [0.0], "not of 6 numbers"),
    ("views.covariance", 6 * [[1.0, -1.0, 1.0, -1.0, 1.0, 1.0]], "no covariance"),
    ("views.yaw_stretch", -1.0, "yaw_stretch is out of range"),
    ("lights.x", [1.0, -1.0], "lower end first"),
    ("align.points", 5 * [[0.5, 0.5]], "no points of a face"),
    ("align.points", 5 * [["0.5", "nan"]], "face_template.points.*no number"),
    ("presets", {}, "no presets"),
    ("presets.paper.batch", 0, "empty batch"),
    ("presets.paper.candidates", 0, "paper has no candidates"),
]


@pytest.mark.parametrize(("path", "value", "message"), IMPOSSIBLE)
def test_an_impossible_value_is_refused(path: str, value: Any, message: str) -> None:
    data: dict[str, Any] = tomllib.loads(synface_toml())
    *tables, key = path.split(".")
    table = data
    for name in tables:
        table = table.setdefault(name, {})
    table[key] = value
    with pytest.raises((TypeError, ValueError), match=message):
        parse_category(Path("zebra"), data)


def test_tables_that_are_nested_too_deeply_are_refused(tmp_path: Path) -> None:
    (tmp_path / "model.toml").write_text(f"title = {'[' * 100_000}")
    with pytest.raises(WeightsError, match=r"model\.toml is damaged"):
        read_category(tmp_path)


def test_a_message_quotes_little_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "model.toml").write_text(
        synface_toml().replace('licence = "MIT"', f'licence = "MIT"\nhub.repo = ["{"a" * 9999}"]')
    )
    with pytest.raises(WeightsError, match=r"model\.toml is damaged") as error:
        read_category(tmp_path)
    assert len(str(error.value)) < 1000
    (tmp_path / "train.toml").write_text(f'title = "x"\n{"k" * 9999} = 1\n')
    with pytest.raises(UsageError, match="unknown key") as usage:
        TrainConfig.read(tmp_path / "train.toml")
    assert len(str(usage.value)) < 1000
