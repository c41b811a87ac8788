"""What a category is: its model.toml as plain data. A new category is a new folder, never an `if`."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal, get_args

from g2s_cli.errors import UsageError
from g2s_cli.geometry.placement import FaceTemplate
from g2s_cli.options import Symmetry

Start = Literal["networks", "ellipsoid"]
EstimatorName = Literal["feedforward", "depth_net", "morphable", "gan2shape"]

# A category's files: the GAN; netD, netA, netV, netL (and netEnc); statistics of views and of lights; the parsing
# network that finds the object in a photo, or the person network that finds the person; a depth network in the place of
# that among the networks.
Part = Literal["gan", "networks", "views", "lights", "parsing", "person", "depth"]
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
        category: the embedded category whose file it is; "": its own.
    """

    file: str
    sha256: str = ""
    member: str = ""
    gan_sha256: str = ""
    category: str = ""


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
    """Uniform ranges of l_x, l_y and the extra k_d that step 2 draws (paper A.2.3); the extra k_a is `alpha` k_d."""

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
        symmetric: whether feed-forward depth and albedo are averaged with their mirror images.
    """

    estimators: tuple[EstimatorConfig, ...]
    masked: bool
    candidates: int
    inversion_iterations: int
    symmetric: bool = True

    def at_most(self, iterations: int) -> Preset:
        """The same with at most so many iterations a step: a quick try."""
        return replace(
            self,
            estimators=tuple(one.at_most(iterations) for one in self.estimators),
            candidates=min(self.candidates, max(1, iterations) * 16),
            inversion_iterations=min(self.inversion_iterations, iterations),
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
        mask_rule: how a parsing network finds the object; None: the generator's features do.
        view_mean, view_covariance: of views in network units; None: a file has them.
        schedule_known: whether the paper states the hyper-parameters.
        face_template: where images have the five points of a face; None: photos are not aligned.
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
    mask_rule: MaskRule | None
    presets: dict[str, Preset]
    face_template: FaceTemplate | None
    pretraining: Pretraining | None

    def preset(self, name: str) -> Preset:
        """A preset by name. Raises UsageError that lists the known ones."""
        if name not in self.presets:
            raise UsageError(
                f"The category {self.name} has no preset {name!r}.", f"Choose one of: {', '.join(self.presets)}."
            )
        return self.presets[name]
