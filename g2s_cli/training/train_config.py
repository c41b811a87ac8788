"""train.toml: how `g2s train` makes a category, in numbers."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from g2s_cli.errors import UsageError, shorten
from g2s_cli.training.feedforward import PHASES
from g2s_cli.training.gan import GanConfig
from g2s_cli.training.morphable_from_photos import ROUNDS

T = TypeVar("T")

# The presets of a category with all networks (docs/ablations.md).
PRESETS: dict[str, Any] = {
    "instant": {
        "estimators": [{"name": "feedforward"}, {"name": "depth_net", "weight": 1.0}],
        "masked": True,
        "candidates": 128,
        "invert": 100,
    },
    "fast": {
        "estimators": [
            {"name": "feedforward"},
            {"name": "morphable", "weight": 0.5, "iterations": 240},
            {"name": "depth_net", "weight": 0.5},
        ],
        "masked": True,
        "candidates": 32,
        "invert": 150,
    },
}


@dataclass(frozen=True)
class GanStage(GanConfig):
    """The training of the GAN on photos, and its size. The reconstruction loss and the augmentation are on."""

    size: int = 64
    updates: int = 20_000
    rec_weight: float = 5.0
    ada_target: float = 0.6


@dataclass(frozen=True)
class NetworksStage:
    """D, A, V, L and the template. updates: of the last phase; references: images for latent directions."""

    updates: int = PHASES[-1].updates
    references: int = 3000


@dataclass(frozen=True)
class MorphableStage:
    """The morphable model of the GAN's random objects: how many, and rounds of EM."""

    objects: int = 800
    rounds: int = 12


@dataclass(frozen=True)
class PhotosStage:
    """The morphable model learnt on from photos: how many, and rounds of EM."""

    count: int = 672
    rounds: int = len(ROUNDS)


@dataclass(frozen=True)
class DepthStage:
    """The depth network: photos that synthetic pairs are recombined from, and updates."""

    count: int = 672
    updates: int = 6000


@dataclass(frozen=True)
class TrainConfig:
    """How a category is made.

    Attributes:
        title, licence: of the category.
        like: the category whose camera, priors and other presets the new one has.
        category: tables of model.toml that differ from those of `like`.
        presets: that the new category has beside those of `like`.
    """

    title: str = "A category of your own"
    licence: str = "yours"
    like: str = "own"
    gan: GanStage = field(default_factory=GanStage)
    networks: NetworksStage = field(default_factory=NetworksStage)
    morphable: MorphableStage = field(default_factory=MorphableStage)
    photos: PhotosStage = field(default_factory=PhotosStage)
    depth: DepthStage = field(default_factory=DepthStage)
    category: Mapping[str, Any] = field(default_factory=dict)
    presets: Mapping[str, Any] = field(default_factory=lambda: PRESETS)

    @classmethod
    def read(cls, path: Path | None) -> TrainConfig:
        """The config of a file; None: the defaults. Raises UsageError for a file or a value that cannot be used."""
        if path is None:
            return cls()
        try:
            return _parse(cls, tomllib.loads(path.read_text(encoding="utf-8")), "")
        except (OSError, UnicodeError, RecursionError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise UsageError(
                f"{path} cannot be used: {shorten(reason)}.", "Mend it; docs/training.md has its keys."
            ) from error

    def tiny(self) -> TrainConfig:
        """The same stages in two minutes on two cores: to see that all of them run, not for a useful category."""
        return replace(
            self,
            gan=replace(self.gan, updates=8, encoder_updates=2, batch=8),
            networks=NetworksStage(updates=12, references=96),
            morphable=MorphableStage(objects=24, rounds=2),
            photos=PhotosStage(count=8, rounds=2),
            depth=DepthStage(count=8, updates=8),
        )


def _parse(kind: type[T], table: Mapping[str, Any], where: str) -> T:
    """A config of a table. Raises ValueError for unknown keys and values of another type."""
    known = {one.name: one for one in fields(kind)}  # type: ignore[arg-type]
    if unknown := sorted(table.keys() - known.keys()):
        raise ValueError(f"it has the unknown key {where}{unknown[0]}; known are {', '.join(known)}")
    defaults = kind()
    values: dict[str, Any] = {}
    for name, value in table.items():
        default = getattr(defaults, name)
        if is_dataclass(default) and isinstance(value, dict):
            values[name] = _parse(type(default), value, f"{where}{name}.")
        elif isinstance(value, int) and not isinstance(value, bool) and isinstance(default, float):
            values[name] = float(value)
        elif isinstance(value, type(default)):
            values[name] = value
        else:
            raise ValueError(f"{where}{name} is {value!r}, not of type {type(default).__name__}")
        if isinstance(value, int | float) and value < 0:
            raise ValueError(f"{where}{name} is negative")
    return kind(**values)
