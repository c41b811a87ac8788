"""What `g2s pretrain` is asked for: photos, options, and the schedule after all overrides."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from g2s_cli.batch import find_photos
from g2s_cli.config import Category, Pretraining
from g2s_cli.errors import UsageError
from g2s_cli.evaluation.ground_truth import DepthPair, find_pairs
from g2s_cli.files import sha256_of_input
from g2s_cli.loading import Plan, Weights
from g2s_cli.options import ReconstructOptions, Symmetry
from g2s_cli.photo.align import CropOptions
from g2s_cli.weights.categories import load_category
from g2s_cli.weights.new_category import check_name_is_free
from g2s_cli.weights.registry import Sources


@dataclass(frozen=True)
class PhotoCollection:
    """Photos to train on.

    Attributes:
        pairs: each photo with its true depth, or none; the report alone uses it.
        notes: what the user should know of the folder.
    """

    photos: list[Path]
    pairs: list[DepthPair]
    notes: list[str]

    @classmethod
    def of(cls, folder: Path, limit: int | None) -> PhotoCollection:
        """The photos of a folder, or of its image/ if it has a depth/ beside that. Raises UsageError."""
        if (folder / "depth").is_dir():
            pairs = find_pairs(folder)[:limit]
            return cls([pair.photo for pair in pairs], pairs, [])
        photos, notes = find_photos([folder])
        return cls(photos[:limit], [], notes)


@dataclass(frozen=True)
class PretrainOptions:
    """The options of the command. name: of the new category; None: what the category's schedule states."""

    name: str
    category: str = "synface"
    iterations: int | None = None
    cycles: int | None = None
    symmetry: Symmetry | None = None
    photos_per_step: int = 1
    seed: int = 0


@dataclass(frozen=True)
class PretrainConfig:
    """A run: photos, schedule, and where it goes.

    Attributes:
        widths: of the networks D, A, V, L, and of the offset encoder.
        name: of the new category.
        folder: for the run's files.
    """

    collection: PhotoCollection
    plan: Plan
    widths: tuple[int, int]
    photos_per_step: int
    name: str
    folder: Path

    @classmethod
    def of(
        cls, collection: PhotoCollection, folder: Path, options: PretrainOptions, sources: Sources | None = None
    ) -> PretrainConfig:
        """Apply the options to the category's schedule, and fetch the weights that are not here. Raises G2SError."""
        category = load_category(options.category)
        joint = schedule_of(category)
        preset = joint.preset if options.iterations is None else joint.preset.at_most(options.iterations)
        preset = preset.with_symmetry(options.symmetry).with_cycles(options.cycles)
        if options.photos_per_step > len(collection.photos):
            what = f"There are {len(collection.photos)} photos, fewer than the {options.photos_per_step} of a step."
            raise UsageError(what, "Name a folder with more, or take fewer: --photos-a-step.")
        plan = Plan(
            ReconstructOptions(
                category.name,
                iterations=options.iterations,
                seed=options.seed,
                crop=CropOptions(align=not collection.pairs),  # true depth belongs to the photo as it is
            ),
            category,
            preset,
            None,
            Weights.of(category, sources or Sources.from_environment(), networks=False),
        )
        widths = joint.width, joint.encoder_width
        config = cls(collection, plan, widths, options.photos_per_step, options.name, folder)
        check_name_is_free(config.name, config.source)
        return config

    @property
    def source(self) -> str:
        """Where the new category's files come from."""
        return f"pretrain, {self.folder.resolve()}"

    def settings(self) -> dict[str, Any]:
        """What the networks depend on beside the machine."""
        digest = hashlib.sha256()
        for photo in self.collection.photos:
            digest.update(photo.name.encode())
            digest.update(bytes.fromhex(sha256_of_input(photo)))
        return {
            "category": self.plan.category.name,
            "weights": self.plan.weights.hashes(),
            "photos": digest.hexdigest(),
            "photos_a_step": self.photos_per_step,
            "seed": self.plan.options.seed,
            "align": not self.collection.pairs,
            "schedule": asdict(self.plan.preset),
            "widths": list(self.widths),
        }


def schedule_of(category: Category) -> Pretraining:
    """A category's joint schedule. Raises UsageError if it states none."""
    if category.pretraining is None:
        raise UsageError(
            f"{category.name} states no schedule of joint training.",
            f"Copy the [pretrain] table of another category into {category.folder / 'model.toml'}.",
        )
    return category.pretraining
