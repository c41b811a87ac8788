"""What a category is: everything in its model.toml, as values. A new category is a new folder, never an `if`."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Literal, get_args

from g2s_cli.errors import UsageError, WeightsError
from g2s_cli.zoo.store import models_root

Symmetry = Literal["on", "off", "first-stage"]


@dataclass(frozen=True)
class WeightsFile:
    """An embedded file and its SHA-256."""

    file: str
    sha256: str


@dataclass(frozen=True)
class Ellipsoid:
    """The weak shape prior (paper 3.1): half an ellipsoid from `near` to `far`, scene units.

    It stands on the object's mask box, stretched up and down by shares of the box's height; `radius`, in
    image widths, is used where there is no mask.
    """

    near: float
    far: float
    radius: float
    raise_top: float = 0.0
    extend_bottom: float = 0.0


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
    prior: Adam steps that fit D to the ellipsoid. masked: whether losses see the object alone. invert: steps
    of the inversion.
    """

    start: Literal["networks", "ellipsoid"]
    follow: Literal["encoder", "linear"]
    stages: tuple[Stage, ...]
    batch: int
    samples: int
    rate: float
    decay: float
    prior: int
    masked: bool
    symmetry: Symmetry
    invert: int

    @property
    def trained(self) -> bool:
        """Whether it begins from the category's jointly trained networks."""
        return self.start == "networks"


@dataclass(frozen=True)
class Category:
    """A kind of object with its GAN, its priors and its presets.

    image_size: of the GAN's pictures; working_size: of the relief, both in pixels.
    """

    name: str
    title: str
    image_size: int
    working_size: int
    fov_deg: float
    near: float
    far: float
    ellipsoid: Ellipsoid
    view_mean: tuple[float, ...]
    view_covariance: tuple[tuple[float, ...], ...]
    yaw_stretch: float
    lights: LightRanges
    offset_depth: int
    offset_relative: bool
    least_psnr_db: float
    most_strangeness: float
    gan: WeightsFile
    networks: WeightsFile | None
    presets: dict[str, Preset]

    def preset(self, name: str) -> Preset:
        """A preset by name. Raises UsageError that lists the known ones."""
        if name not in self.presets:
            raise UsageError(f"{self.name} has no preset {name!r}.", f"Choose one of: {', '.join(self.presets)}.")
        return self.presets[name]


def category_names() -> list[str]:
    """All categories at hand, sorted."""
    return sorted(path.parent.name for path in models_root().glob("*/model.toml"))


def load_category(name: str) -> Category:
    """A category by name. Raises UsageError that names the known ones."""
    known = category_names()
    if name not in known:
        near = get_close_matches(name, known, n=1)
        hint = f"Did you mean {near[0]}? " if near else ""
        raise UsageError(f"There is no category {name!r}.", f"{hint}Known: {', '.join(known)}.")
    path = models_root() / name / "model.toml"
    try:
        return _parse(name, tomllib.loads(path.read_text()))
    except (tomllib.TOMLDecodeError, KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"{path} is damaged: {error}.", "Install g2s again.") from error


def _parse(name: str, data: dict[str, Any]) -> Category:
    image, views, lights = data["image"], data["views"], data["lights"]
    files = {key: WeightsFile(**entry) for key, entry in data["weights"].items()}
    return Category(
        name=name,
        title=data["title"],
        image_size=image["image_size"],
        working_size=image["working_size"],
        fov_deg=image["fov_deg"],
        near=image["near"],
        far=image["far"],
        ellipsoid=Ellipsoid(**data["ellipsoid"]),
        view_mean=tuple(views["mean"]),
        view_covariance=tuple(tuple(row) for row in views["covariance"]),
        yaw_stretch=views["yaw_stretch"],
        lights=LightRanges(tuple(lights["x"]), tuple(lights["y"]), tuple(lights["diffuse"]), lights["alpha"]),
        offset_depth=data["offset"]["depth"],
        offset_relative=data["offset"]["relative"],
        least_psnr_db=data["warn"]["least_psnr_db"],
        most_strangeness=data["warn"]["most_strangeness"],
        gan=files["gan"],
        networks=files.get("networks"),
        presets={key: _preset(entry) for key, entry in data["presets"].items()},
    )


def _preset(entry: dict[str, Any]) -> Preset:
    if entry["symmetry"] not in get_args(Symmetry):
        raise ValueError(f"symmetry {entry['symmetry']!r}")
    stages = tuple(Stage(*counts) for counts in entry["stages"])
    return Preset(**(entry | {"stages": stages}))
