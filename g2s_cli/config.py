"""What a category is: its model.toml as plain data. A new category is a new folder, never an `if`."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from g2s_cli.errors import UsageError
from g2s_cli.geometry.placement import FaceTemplate
from g2s_cli.geometry.rasterizer import VIEW_FAR, VIEW_NEAR

Symmetry = Literal["on", "off", "first-stage"]
Start = Literal["networks", "ellipsoid"]
EstimatorName = Literal["feedforward", "depth_net", "morphable", "gan2shape"]

# A category's files: the GAN; netD, netA, netV, netL (and netEnc); statistics of views and of lights; the parsing
# network that finds the object in a photo.
Part = Literal["gan", "networks", "views", "lights", "parsing"]
PARTS: tuple[Part, ...] = get_args(Part)

# The authors' parsing networks and their numbers of classes: CelebAMask-HQ, VOC and ADE20K.
ParserName = Literal["bisenet", "pspnet-voc", "pspnet-ade20k"]
PARSER_CLASSES: dict[ParserName, int] = {"bisenet": 19, "pspnet-voc": 21, "pspnet-ade20k": 150}

QUICK_BATCH = 8  # of `at_most`
OFFSET_WEIGHT = 0.01  # the paper's λ₁
SUFFIX = ".safetensors"


@dataclass(frozen=True)
class WeightsFile:
    """One of a category's files.

    Attributes:
        file: name in the category's folder.
        sha256: of the file, "" if unknown.
        member: path in the authors' release, "" if it is not there.
        gan_sha256: of networks, the GAN file they were trained with; "" if unknown or stated in the file.
    """

    file: str
    sha256: str = ""
    member: str = ""
    gan_sha256: str = ""


@dataclass(frozen=True)
class Release:
    """The authors' archive: one gzipped tar in parts, fetched one after the other."""

    url: str
    parts: tuple[str, ...]


@dataclass(frozen=True)
class Ellipsoid:
    """The weak shape prior (paper 3.1): half an ellipsoid on the box of the object's mask.

    Attributes:
        near, far: depth of its nearest point and of its surroundings, scene units.
        radius: in image widths, without a mask.
        raise_top, extend_bottom: shares of the box's height added above and below.
        shrink_sides: share of the box's width taken off on each side.
        to_lower_edge: whether it goes down to the image's edge.
        shift, bulge, round_right: the variations of the paper's table 2: shift to the right in image widths, share of
            the relief (0 is flat), and whether the right half is as high as it is wide.
    """

    near: float
    far: float
    radius: float
    raise_top: float = 0.0
    extend_bottom: float = 0.0
    shrink_sides: float = 0.0
    to_lower_edge: bool = False
    shift: float = 0.0
    bulge: float = 1.0
    round_right: bool = False


@dataclass(frozen=True)
class MaskRule:
    """How a parsing network's classes make the object's mask.

    Attributes:
        segmenter: the network.
        classes: sets of its classes; the mask is their union, the inner mask their mean.
        normalise: whether images are normalised as ImageNet's, or stay in [-1, 1].
    """

    segmenter: ParserName
    classes: tuple[tuple[int, ...], ...]
    normalise: bool


@dataclass(frozen=True)
class LightRanges:
    """Uniform ranges of the lights that step 2 draws (paper A.2.3)."""

    x: tuple[float, float]
    y: tuple[float, float]
    diffuse: tuple[float, float]
    alpha: float


@dataclass(frozen=True)
class Stage:
    """Iterations of the three steps of one cycle."""

    albedo: int
    project: int
    shape: int


@dataclass(frozen=True)
class Schedule:
    """The paper's iterative refinement of one photo, or of many in joint training (tables 9 to 12).

    Attributes:
        start: "networks" are the category's jointly trained ones, "ellipsoid" fresh ones and the weak prior.
        stages: iterations of steps 1 to 3, one entry a cycle.
        batch: pseudo samples an iteration.
        samples: projected samples a cycle collects.
        rate, decay: Adam's learning rate and weight decay.
        prior: iterations that fit D to the ellipsoid.
        symmetry: in which cycles the losses are repeated with depth and albedo mirrored.
        offset_weight: weight of the latent offsets' squares in step 2 (λ₁ of Eq. 2).
    """

    start: Start
    stages: tuple[Stage, ...]
    batch: int
    samples: int
    rate: float
    decay: float
    prior: int
    symmetry: Symmetry
    offset_weight: float = OFFSET_WEIGHT

    def at_most(self, iterations: int) -> Schedule:
        """The same with at most so many iterations a step, small batches and few samples."""
        return replace(
            self,
            stages=tuple(Stage(*(min(count, iterations) for count in asdict(stage).values())) for stage in self.stages),
            batch=min(self.batch, QUICK_BATCH),
            samples=min(self.samples, iterations * QUICK_BATCH),
            prior=min(self.prior, iterations),
        )

    def symmetric(self, cycle: int) -> bool:
        """Whether a cycle, counted from 0, repeats its losses with depth and albedo mirrored."""
        return self.symmetry == "on" or (self.symmetry == "first-stage" and cycle == 0)


@dataclass(frozen=True)
class EstimatorConfig:
    """One depth estimator of a preset.

    Attributes:
        name: which one.
        weight: of its depth in the fusion; the first estimator's canonical depth has what is left of 1.
        iterations: of its fit, where it has one.
        schedule: of "gan2shape".
    """

    name: EstimatorName
    weight: float = 0.0
    iterations: int = 0
    schedule: Schedule | None = None

    def at_most(self, iterations: int) -> EstimatorConfig:
        """The same with at most so many iterations."""
        schedule = self.schedule.at_most(iterations) if self.schedule else None
        return replace(self, iterations=min(self.iterations, iterations), schedule=schedule)


@dataclass(frozen=True)
class Preset:
    """How a photo is reconstructed: a list of depth estimators, and what comes before and after them.

    Attributes:
        estimators: the first gives canonical depth, albedo, view and light ("feedforward" or "gan2shape"); the depths
            of the others are fused into its canonical depth.
        masked: whether losses see the object alone.
        candidates: random latents whose images the initial latent is regressed on.
        inversion_iterations: Adam steps on the latent.
        albedo_iterations: of step 1 after the fusion.
        symmetric: whether feed-forward depth and albedo are averaged with their mirror images.
    """

    estimators: tuple[EstimatorConfig, ...]
    masked: bool
    candidates: int
    inversion_iterations: int
    albedo_iterations: int = 0
    symmetric: bool = True

    def at_most(self, iterations: int) -> Preset:
        """The same with at most so many iterations a step: a quick try."""
        return replace(
            self,
            estimators=tuple(one.at_most(iterations) for one in self.estimators),
            candidates=min(self.candidates, max(1, iterations) * 16),
            inversion_iterations=min(self.inversion_iterations, iterations),
            albedo_iterations=min(self.albedo_iterations, iterations),
        )

    @property
    def schedule(self) -> Schedule | None:
        """The paper's schedule, if the preset has the estimator "gan2shape"."""
        return self.estimators[0].schedule

    @property
    def needs_networks(self) -> bool:
        """Whether it begins from the category's jointly trained networks."""
        return self.schedule is None or self.schedule.start == "networks"

    def with_cycles(self, count: int | None) -> Preset:
        """The same with at most so many cycles of its schedule; None changes nothing."""
        first, *others = self.estimators
        if first.schedule is None:
            return self
        schedule = replace(first.schedule, stages=first.schedule.stages[:count])
        return replace(self, estimators=(replace(first, schedule=schedule), *others))

    def with_symmetry(self, symmetry: Symmetry | None) -> Preset:
        """The same with another assumption on the object's two halves; None changes nothing."""
        if symmetry is None:
            return self
        first, *others = self.estimators
        schedule = replace(first.schedule, symmetry=symmetry) if first.schedule else None
        estimators = (replace(first, schedule=schedule), *others)
        return replace(self, estimators=estimators, symmetric=symmetry != "off")


@dataclass(frozen=True)
class Pretraining:
    """Joint training of a category's networks on many photos (paper A.2, "Joint pre-training").

    Attributes:
        preset: with a schedule as for one photo, but `batch` is of each photo of a step, and a cycle collects `samples`
            for each photo that a step has.
        width: of the first layers of D, A, V and L.
        encoder_width: of E's.
    """

    preset: Preset
    width: int
    encoder_width: int


@dataclass(frozen=True)
class Category:
    """A kind of object with its GAN, priors and presets.

    Attributes:
        image_size: of the GAN's images, pixels.
        working_size: of depth and albedo, pixels.
        frame_share: share of each side of the GAN's image that depth and albedo cover.
        mask: how a parsing network finds the object; None: the generator's features do.
        view_mean, view_covariance: of views in network units; None: a file has them.
        schedule_known: whether the paper states the hyper-parameters.
        align: where images have the five points of a face; None: photos are not aligned.
        pretraining: None where no joint schedule is known.
    """

    name: str
    title: str
    licence: str
    folder: Path
    schedule_known: bool
    image_size: int
    working_size: int
    frame_share: float
    fov_deg: float
    near: float
    far: float
    ellipsoid: Ellipsoid
    view_mean: tuple[float, ...] | None
    view_covariance: tuple[tuple[float, ...], ...] | None
    yaw_stretch: float
    lights: LightRanges
    offset_depth: int
    offset_relative: bool
    least_psnr_db: float
    most_latent_distance: float
    weights: dict[Part, WeightsFile]
    release: Release | None
    hub_repo: str
    mask: MaskRule | None
    presets: dict[str, Preset]
    align: FaceTemplate | None
    pretraining: Pretraining | None

    def preset(self, name: str) -> Preset:
        """A preset by name. Raises UsageError that lists the known ones."""
        if name not in self.presets:
            raise UsageError(f"{self.name} has no preset {name!r}.", f"Choose one of: {', '.join(self.presets)}.")
        return self.presets[name]


def parse_category(folder: Path, data: dict[str, Any]) -> Category:
    """The category that the tables of a model.toml describe.

    Raises:
        ArithmeticError, AttributeError, LookupError, TypeError, ValueError: for tables that are damaged.
    """
    image, views, lights, warn = data["image"], data["views"], data["lights"], data["warn"]
    if not VIEW_NEAR < image["near"] < image["far"] < VIEW_FAR:
        raise ValueError(f"near and far do not lie between {VIEW_NEAR} and {VIEW_FAR}, the first before the second")
    if not isinstance(data["title"], str) or not isinstance(data["licence"], str):
        raise TypeError("title and licence are not both text")
    weights = _weights(data.get("weights", {}))
    if "views" not in weights and "mean" not in views:
        raise ValueError("neither views.mean nor weights.views")
    release = data.get("release")
    return Category(
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
        mask=_mask_rule(data["mask"]) if "mask" in data else None,
        presets={key: _preset(entry) for key, entry in data["presets"].items()},
        align=_template(data["align"]) if "align" in data else None,
        pretraining=_pretraining(data["pretrain"]) if "pretrain" in data else None,
    )


def _weights(tables: dict[str, Any]) -> dict[Part, WeightsFile]:
    weights: dict[Part, WeightsFile] = {}
    for part, entry in tables.items():
        if part not in PARTS:
            raise ValueError(f"weights.{part} is none of {', '.join(PARTS)}")
        file = WeightsFile(**entry)
        if Path(file.file).name != file.file or not file.file.endswith(SUFFIX):
            raise ValueError(f"a weights file is no *{SUFFIX} in the category's folder")
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
    names = ("start", "batch", "samples", "rate", "decay", "prior", "symmetry")
    weight = entry.get("offset_weight", OFFSET_WEIGHT)
    stages = tuple(Stage(*counts) for counts in entry["stages"])
    return Schedule(stages=stages, offset_weight=weight, **{name: entry[name] for name in names})


def _pretraining(entry: dict[str, Any]) -> Pretraining:
    return Pretraining(_preset({"start": "ellipsoid"} | entry), entry["width"], entry["encoder_width"])


def _preset(entry: dict[str, Any]) -> Preset:
    """A preset; one with `stages` has the paper's schedule alone."""
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
        albedo_iterations=entry.get("albedo_iterations", 0),
    )


def _converted(entry: dict[str, Any]) -> dict[str, Any]:
    """A preset of version 0.1.0 that fused depths, as one of today's."""
    if not (entry.get("agree") or entry.get("sight")):
        return entry
    morphable = {"name": "morphable", "weight": entry.get("agree", 0.0), "iterations": 240}
    depth_net = {"name": "depth_net", "weight": entry.get("sight", 0.0)}
    fused = [table for table in (morphable, depth_net) if table["weight"]]
    albedo = [stage[0] for stage in entry["stages"][1:]]
    return entry | {"estimators": [{"name": "feedforward"}, *fused], "albedo_iterations": sum(albedo)}


def _estimator(table: dict[str, Any], preset: dict[str, Any]) -> EstimatorConfig:
    if table["name"] not in get_args(EstimatorName):
        raise ValueError(f"estimator {table['name']!r} is none of {', '.join(get_args(EstimatorName))}")
    schedule = _schedule(preset) if table["name"] == "gan2shape" else None
    return EstimatorConfig(table["name"], table.get("weight", 0.0), table.get("iterations", 0), schedule)
