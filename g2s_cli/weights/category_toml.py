"""model.toml → Category: the tables of a category's description, checked."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

from g2s_cli.config import (
    OFFSET_WEIGHT,
    PARSER_CLASSES,
    PARTS,
    SUFFIX,
    Category,
    Ellipsoid,
    EstimatorConfig,
    EstimatorName,
    LightRanges,
    MaskRule,
    Part,
    Preset,
    Pretraining,
    Release,
    Schedule,
    Stage,
    Start,
    WeightsFile,
)
from g2s_cli.geometry.placement import FaceTemplate
from g2s_cli.options import Symmetry
from g2s_cli.weights.category_checks import check_category

SCHEDULE_KEYS = ("start", "batch", "samples", "rate", "decay", "prior", "symmetry")
# Of version 0.1.0.
LEGACY_KEYS = {"follow", "register", "place", "keep", "agree", "sight", "steps", "albedo_iterations"}
PRESET_KEYS = {*SCHEDULE_KEYS, *LEGACY_KEYS, "stages", "offset_weight"}
PRESET_KEYS |= {"estimators", "masked", "candidates", "invert"}
TRAINING_KEYS = {"width", "encoder_width"}  # that the table of the joint training has besides


def parse_category(folder: Path, data: dict[str, Any]) -> Category:
    """The category that the tables of a model.toml describe.

    Raises:
        ArithmeticError, AttributeError, LookupError, TypeError, ValueError: for tables that are damaged.
    """
    image, views, lights, warn = data["image"], data["views"], data["lights"], data["warn"]
    weights = _weights(data.get("weights", {}))
    if "views" not in weights and "mean" not in views:
        raise ValueError("neither views.mean nor weights.views")
    release = data.get("release")
    category = Category(
        name=folder.name,
        title=data["title"],
        licence=data["licence"],
        folder=folder,
        schedule_known=data.get("schedule_known", True),
        image_size=image["image_size"],
        working_size=image["working_size"],
        frame_share=image.get("crop", 1) / image.get("crop_of", 1),
        fov_deg=image["fov_deg"],
        near=image["near"],
        far=image["far"],
        ellipsoid=Ellipsoid(**data["ellipsoid"]),
        view_mean=tuple(views["mean"]) if "mean" in views else None,
        view_covariance=tuple(tuple(row) for row in views["covariance"]) if "mean" in views else None,
        yaw_stretch=views["yaw_stretch"],
        lights=LightRanges(tuple(lights["x"]), tuple(lights["y"]), tuple(lights["diffuse"]), lights["alpha"]),
        offset_depth=data["offset"]["depth"],
        offset_relative=data["offset"]["relative"],
        least_psnr_db=warn["least_psnr_db"],
        # version 0.1.0 called it otherwise
        most_latent_distance=warn["most_latent_distance" if "most_latent_distance" in warn else "most_strangeness"],
        weights=weights,
        release=Release(release["url"], tuple(release["parts"])) if release else None,
        hub_repo=data.get("hub", {}).get("repo", ""),
        mask_rule=_mask_rule(data["mask"]) if "mask" in data else None,
        presets={key: _preset(entry) for key, entry in data["presets"].items()},
        face_template=_template(data["align"]) if "align" in data else None,
        pretraining=_pretraining(data["pretrain"]) if "pretrain" in data else None,
    )
    check_category(category)
    return category


def _weights(tables: dict[str, Any]) -> dict[Part, WeightsFile]:
    weights: dict[Part, WeightsFile] = {}
    for part, entry in tables.items():
        if part not in PARTS:
            raise ValueError(f"weights.{part} is none of {', '.join(PARTS)}")
        file = WeightsFile(**entry)
        if Path(file.file).name != file.file or not file.file.endswith(SUFFIX):
            raise ValueError(f"a weights file is no *{SUFFIX} in the category's folder")
        if file.category != Path(file.category).name:
            raise ValueError("weights of another category are named by more than its name")
        if file.gan_sha256 and not file.sha256:
            raise ValueError("gan_sha256 is stated of a file without a sha256 of its own")
        weights[part] = file
    return weights


def _mask_rule(entry: dict[str, Any]) -> MaskRule:
    rule = MaskRule(entry["parser"], tuple(tuple(classes) for classes in entry["classes"]), entry["normalise"])
    known = range(PARSER_CLASSES[rule.segmenter])
    if not rule.classes or any(number not in known for classes in rule.classes for number in classes):
        raise ValueError(f"mask.classes are not all of the {len(known)} of {rule.segmenter}")
    return rule


def _template(entry: dict[str, Any]) -> FaceTemplate:
    """Five points, all of two numbers or all of three."""
    points = tuple(tuple(float(number) for number in point) for point in entry["points"])
    if entry["detector"] != "mtcnn":
        raise ValueError(f"align.detector {entry['detector']!r}")
    if len(points) != 5 or {len(point) for point in points} not in ({2}, {3}):
        raise ValueError("align.points are not five points of two or of three numbers")
    return FaceTemplate(points)


def _schedule(entry: dict[str, Any]) -> Schedule:
    """A schedule from a table that may have other keys as well."""
    for name, known in (("start", Start), ("symmetry", Symmetry)):
        if entry[name] not in get_args(known):
            raise ValueError(f"{name} {entry[name]!r} is none of {', '.join(get_args(known))}")
    weight = entry.get("offset_weight", OFFSET_WEIGHT)
    stages = tuple(Stage(*counts) for counts in entry["stages"])
    return Schedule(stages=stages, offset_weight=weight, **{name: entry[name] for name in SCHEDULE_KEYS})


def _pretraining(entry: dict[str, Any]) -> Pretraining:
    table = {key: value for key, value in entry.items() if key not in TRAINING_KEYS}
    return Pretraining(_preset({"start": "ellipsoid"} | table), entry["width"], entry["encoder_width"])


def _preset(entry: dict[str, Any]) -> Preset:
    """A preset; one without `estimators` has the paper's schedule alone."""
    if unknown := entry.keys() - PRESET_KEYS:
        raise ValueError(f"a preset has no {', '.join(sorted(unknown))}")
    entry = _converted(entry)
    tables = entry.get("estimators", [{"name": "gan2shape"}])
    estimators = tuple(_estimator(table, entry) for table in tables)
    others = [one.name for one in estimators[1:]]
    if estimators[0].name not in ("feedforward", "gan2shape") or {"feedforward", "gan2shape"} & set(others):
        raise ValueError("a preset's first estimator, and no other one, is feedforward or gan2shape")
    if sum(one.weight for one in estimators) > 1 + 1e-6 or any(one.weight < 0 for one in estimators):
        raise ValueError("the weights of a preset's estimators are negative or more than 1 together")
    if "depth_net" in others and not entry["masked"]:
        raise ValueError("depth_net needs masked = true: it was trained on objects without background")
    return Preset(
        estimators=estimators,
        masked=entry["masked"],
        candidates=entry["candidates"],
        inversion_iterations=entry["invert"],
    )


def _converted(entry: dict[str, Any]) -> dict[str, Any]:
    """A preset of version 0.1.0 that fused depths, as one of today's."""
    if not (entry.get("agree") or entry.get("sight")):
        return entry
    morphable = {"name": "morphable", "weight": entry.get("agree", 0.0), "iterations": 240}
    depth_net = {"name": "depth_net", "weight": entry.get("sight", 0.0)}
    fused = [table for table in (morphable, depth_net) if table["weight"]]
    return entry | {"estimators": [{"name": "feedforward"}, *fused]}


def _estimator(table: dict[str, Any], preset: dict[str, Any]) -> EstimatorConfig:
    if table["name"] not in get_args(EstimatorName):
        raise ValueError(f"estimator {table['name']!r} is none of {', '.join(get_args(EstimatorName))}")
    schedule = _schedule(preset) if table["name"] == "gan2shape" else None
    return EstimatorConfig(**table, schedule=schedule)
