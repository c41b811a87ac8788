"""What a category is: everything in its model.toml, as values. A new category is a new folder, never an `if`."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, get_args

from g2s_cli.errors import UsageError, WeightsError
from g2s_cli.geometry.placement import Template
from g2s_cli.geometry.rasterizer import VIEW_FAR, VIEW_NEAR
from g2s_cli.weights.cache import cache_root, find_cached, models_root

Symmetry = Literal["on", "off", "first-stage"]
Start = Literal["networks", "ellipsoid"]
Follow = Literal["encoder", "linear"]

# What a category's files can be: the GAN; netD, netA, netV, netL (and netEnc); statistics of views and of lights;
# the network that finds the object in a photo.
Part = Literal["gan", "networks", "views", "lights", "parsing"]
PARTS: tuple[Part, ...] = get_args(Part)

# The authors' parsing networks, and how many classes each tells apart: those of CelebAMask-HQ, VOC and ADE20K.
ParserName = Literal["bisenet", "pspnet-voc", "pspnet-ade20k"]
PARSER_CLASSES: dict[ParserName, int] = {"bisenet": 19, "pspnet-voc": 21, "pspnet-ade20k": 150}

QUICK_BATCH = 8
OFFSET_WEIGHT = 0.01  # the paper's λ₁
SUFFIX = ".safetensors"


def halves_alike(symmetry: Symmetry, cycle: int) -> bool:
    """Whether a cycle, counted from 0, takes the object's halves to be alike."""
    return symmetry == "on" or (symmetry == "first-stage" and cycle == 0)


@dataclass(frozen=True)
class WeightsFile:
    """One of a category's files.

    sha256: of the safetensors file, "" where nobody has been able to compute it. member: its place in the
    authors' release, "" if it is not there. gan_sha256: of networks alone, the GAN file that they were trained with; ""
    where they say it themselves or nobody does (`g2s_cli.weights.compatibility`).
    """

    file: str
    sha256: str = ""
    member: str = ""
    gan_sha256: str = ""


@dataclass(frozen=True)
class Release:
    """The authors' own archive: one gzipped tar, cut into parts that are fetched one after the other."""

    url: str
    parts: tuple[str, ...]


@dataclass(frozen=True)
class Ellipsoid:
    """The weak shape prior (paper 3.1): half an ellipsoid from `near` to `far`, scene units.

    It stands on the object's mask box, stretched up and down by shares of the box's height (or down to the
    picture's edge) and shrunk from both sides by a share of its width; `radius`, in image widths, is used
    where there is no mask. The last three are the variations of table 2: `shift`, to the right, in image widths;
    `bulge`, a share of the depth from far to near, 0 for a flat shape; `round_right`, whether the right half is as
    high as it is wide.
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

    parser: which network. classes: sets of its classes; what is in any is object, what is in all of them is its core.
    normalise: whether pictures are brought to the mean and spread of ImageNet first, or shown in [-1, 1] as they are.
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
class Preset:
    """How much work a reconstruction is.

    start: "networks" begins from the category's jointly trained networks, "ellipsoid" from fresh ones and
    the weak prior. follow: whether step 2 learns an "encoder" for the photo, as the paper does, or takes the
    category's "linear" directions. stages: one entry a cycle. samples: projected samples a cycle collects.
    prior: Adam steps that fit D to the ellipsoid. masked: whether losses see the object alone. candidates,
    invert: random latents that the inversion looks at first, and its steps. register, place: updates before the first
    cycle, of D alone towards the mean object's depth as the photo has it, of V and L alone. keep: the share of its way
    that D goes back after every step 3. agree, sight: how far, after the first cycle's step 3, the photo's depth goes
    to that of a model of how objects differ from the mean one, and to what S says of it. steps: ramps of the mean
    object below this share of its height are read as steps by that model; 1 is none. The paper has none of the six.
    offset_weight: what the encoder's latent offsets cost while it learns (λ₁ of Eq. 2).
    """

    start: Start
    follow: Follow
    stages: tuple[Stage, ...]
    batch: int
    samples: int
    rate: float
    decay: float
    prior: int
    masked: bool
    symmetry: Symmetry
    candidates: int
    invert: int
    register: int = 0
    place: int = 0
    keep: float = 0.0
    agree: float = 0.0
    sight: float = 0.0
    steps: float = 1.0
    offset_weight: float = OFFSET_WEIGHT

    def at_most(self, iterations: int) -> Preset:
        """The same steps with no more than so many iterations, batches of QUICK_BATCH and few samples: a quick try."""
        counts = [(stage.albedo, stage.project, stage.shape) for stage in self.stages]
        return replace(
            self,
            stages=tuple(Stage(*(min(count, iterations) for count in step)) for step in counts),
            batch=min(self.batch, QUICK_BATCH),
            samples=min(self.samples, iterations * QUICK_BATCH),
            prior=min(self.prior, iterations),
            register=min(self.register, iterations),
            place=min(self.place, iterations),
            candidates=min(self.candidates, max(1, iterations) * 16),
            invert=min(self.invert, iterations),
        )

    @property
    def refines(self) -> bool:
        """Whether the shape is fitted to projected samples (step 3), which takes far longer than all before."""
        return self.samples > 0 and any(stage.shape for stage in self.stages)

    @property
    def trained(self) -> bool:
        """Whether it begins from the category's jointly trained networks."""
        return self.start == "networks"


@dataclass(frozen=True)
class Pretraining:
    """How a category's networks are trained jointly on many photos (paper A.2, "Joint pre-training").

    effort: as for one photo, but `batch` is of each photo of a step, and a cycle collects `samples` for each photo
    that a step has. width: of the first layers of D, A, V and L; encoder_width: of E's.
    """

    effort: Preset
    width: int
    encoder_width: int


@dataclass(frozen=True)
class Category:
    """A kind of object with its GAN, its priors and its presets.

    image_size: of the GAN's pictures; working_size: of the relief, both in pixels. frame_share: how much of
    each side of the GAN's picture the relief covers. mask: how a parsing network finds the object; None where the
    generator's own features do. view_mean, view_covariance: None where a file says them. schedule_known: whether the
    paper states the hyper-parameters. align: where its pictures have the points of a face; None if photos are not
    aligned. pretraining: None where nobody has published a joint schedule.
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
    align: Template | None
    pretraining: Pretraining | None

    def needs(self, preset: Preset, *, own_gan: bool = False) -> list[Part]:
        """The files that a reconstruction with a preset reads. A user's own GAN goes without trained networks."""
        trained: list[Part] = ["networks"] if preset.trained or preset.follow == "linear" else []
        statistics: tuple[Part, ...] = ("views", "lights")
        stated = [part for part in statistics if part in self.weights or find_cached(self.name, part)]
        return stated if own_gan else ["gan", *trained, *stated]

    @property
    def welcomes(self) -> list[Part]:
        """The files that a reconstruction reads where they are here, and does without where they are not."""
        return ["parsing"] if self.mask else []

    def preset(self, name: str) -> Preset:
        """A preset by name. Raises UsageError that lists the known ones."""
        if name not in self.presets:
            raise UsageError(f"{self.name} has no preset {name!r}.", f"Choose one of: {', '.join(self.presets)}.")
        return self.presets[name]


def category_folders() -> dict[str, Path]:
    """Where each category's model.toml lies: those that came with g2s, and those that were added to the cache."""
    roots = (cache_root(), models_root())  # what came with g2s wins
    return {path.parent.name: path.parent for root in roots for path in root.glob("*/model.toml")}


def category_names() -> list[str]:
    """All categories at hand, sorted."""
    return sorted(category_folders())


def check_name(name: str) -> None:
    """Raise UsageError if a new category could not be called that."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,39}", name):
        raise UsageError(f"{name!r} is no name for a category.", "Use small letters, digits, - and _.")


def load_category(name: str) -> Category:
    """A category by name. Raises UsageError that names the known ones."""
    folders = category_folders()
    if name not in folders:
        near = get_close_matches(name, folders, n=1)
        hint = f"Did you mean {near[0]}? " if near else ""
        raise UsageError(f"There is no category {name!r}.", f"{hint}Known: {', '.join(sorted(folders))}.")
    return read_category(folders[name])


def read_category(folder: Path) -> Category:
    """The category a folder describes. Raises WeightsError."""
    path = folder / "model.toml"
    try:
        return _parse(folder, tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        inside = folder.parent == models_root()
        remedy = "Install g2s again." if inside else f"Mend it, or delete {folder} and pull or import it again."
        raise WeightsError(f"{path} is damaged: {error}.", remedy) from error


def _parse(folder: Path, data: dict[str, Any]) -> Category:
    image, views, lights = data["image"], data["views"], data["lights"]
    weights = {key: WeightsFile(**entry) for key, entry in data.get("weights", {}).items()}
    if unknown := weights.keys() - set(PARTS):
        raise ValueError(f"weights.{min(unknown)} is none of {', '.join(PARTS)}")
    if any(Path(entry.file).name != entry.file or not entry.file.endswith(SUFFIX) for entry in weights.values()):
        raise ValueError(f"a weights file is no *{SUFFIX} in the category's folder")
    if any(entry.gan_sha256 and not entry.sha256 for entry in weights.values()):
        raise ValueError("gan_sha256 is stated of a file without a sha256 of its own")
    if not VIEW_NEAR < image["near"] < image["far"] < VIEW_FAR:
        raise ValueError(f"near and far do not lie between {VIEW_NEAR} and {VIEW_FAR}, the first before the second")
    if not isinstance(data["title"], str) or not isinstance(data["licence"], str):
        raise TypeError("title and licence are not both text")
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
        least_psnr_db=data["warn"]["least_psnr_db"],
        most_latent_distance=data["warn"].get("most_latent_distance", data["warn"].get("most_strangeness")),
        weights=weights,
        release=Release(release["url"], tuple(release["parts"])) if release else None,
        hub_repo=data.get("hub", {}).get("repo", ""),
        mask=_mask_rule(data["mask"]) if "mask" in data else None,
        presets={key: _preset(entry) for key, entry in data["presets"].items()},
        align=_template(data["align"]) if "align" in data else None,
        pretraining=_pretraining(data["pretrain"]) if "pretrain" in data else None,
    )


def _mask_rule(entry: dict[str, Any]) -> MaskRule:
    rule = MaskRule(entry["parser"], tuple(tuple(classes) for classes in entry["classes"]), entry["normalise"])
    known = range(PARSER_CLASSES[rule.segmenter])
    if not rule.classes or any(number not in known for classes in rule.classes for number in classes):
        raise ValueError(f"mask.classes are not all of the {len(known)} of {rule.segmenter}")
    return rule


def _template(entry: dict[str, Any]) -> Template:
    """Five points, all of two numbers or all of three."""
    points = tuple(tuple(float(number) for number in point) for point in entry["points"])
    if entry["detector"] != "mtcnn":
        raise ValueError(f"align.detector {entry['detector']!r}")
    if len(points) != 5 or {len(point) for point in points} not in ({2}, {3}):
        raise ValueError("align.points are not five points of two or of three numbers")
    return Template(points)


def _pretraining(entry: dict[str, Any]) -> Pretraining:
    widths = {name: entry.pop(name) for name in ("width", "encoder_width")}
    return Pretraining(_preset(entry | {"start": "ellipsoid", "follow": "encoder"}), **widths)


def _preset(entry: dict[str, Any]) -> Preset:
    for name, known in (("start", Start), ("follow", Follow), ("symmetry", Symmetry)):
        if entry[name] not in get_args(known):
            raise ValueError(f"{name} {entry[name]!r} is none of {', '.join(get_args(known))}")
    for name in ("keep", "agree", "sight", "steps"):
        if not 0 <= entry.get(name, 0.0) <= 1:
            raise ValueError(f"{name} {entry[name]!r}")
    if entry.get("agree", 0.0) + entry.get("sight", 0.0) > 1:
        raise ValueError("agree and sight are more than 1 together")
    if entry.get("sight") and not entry["masked"]:
        raise ValueError("sight without masked")  # S has learnt from objects without surroundings
    if entry.get("steps", 1.0) < 1 and not entry.get("agree"):
        raise ValueError("steps without agree")  # which reads them
    if entry.get("agree") and not entry.get("register"):
        raise ValueError("agree without register")  # both lay the mean object beside the photo, first of all
    stages = tuple(Stage(*counts) for counts in entry["stages"])
    return Preset(**(entry | {"stages": stages}))
