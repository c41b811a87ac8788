"""The categories at hand, and which files of theirs a run reads."""

from __future__ import annotations

import os
import re
import tomllib
from contextlib import suppress
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path

from g2s_cli.config import Category, Part
from g2s_cli.errors import UsageError, WeightsError, shorten
from g2s_cli.weights.cache import cache_root, find_cached, models_root
from g2s_cli.weights.model_toml import MODEL_TOML


def category_folders() -> dict[str, Path]:
    """Folders of the categories that came with g2s and of those in the cache, by name; the former go first."""
    paths: list[Path] = []
    with suppress(WeightsError, PermissionError):  # no home folder, or that of another user
        paths += cache_root().glob(f"*/{MODEL_TOML}")
    paths += models_root().glob(f"*/{MODEL_TOML}")
    return {path.parent.name: path.parent for path in paths}


def category_names() -> list[str]:
    """All categories at hand, sorted."""
    return sorted(category_folders())


def check_name(name: str) -> None:
    """Raise UsageError for a name that a new category cannot have."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,39}", name):
        raise UsageError(f"{name!r} is no name for a category.", "Use small letters, digits, - and _.")


def load_category(name: str) -> Category:
    """A category by name, or by the path of its folder, which is then its name.

    Raises:
        UsageError: there is none; the message names the known ones.
        WeightsError: its model.toml is damaged.
    """
    folders = category_folders()
    if os.sep in name and (Path(name) / MODEL_TOML).is_file():
        return replace(read_category(Path(name).resolve()), name=str(Path(name).resolve()))
    if name not in folders:
        near = get_close_matches(name, folders, n=1)
        hint = f"Did you mean {near[0]}? " if near else ""
        raise UsageError(f"There is no category {shorten(name, 80)!r}.", f"{hint}Known: {', '.join(sorted(folders))}.")
    return read_category(folders[name])


def read_category(folder: Path) -> Category:
    """The category of a folder. Raises WeightsError for a damaged model.toml."""
    from g2s_cli.weights.category_toml import parse_category  # noqa: PLC0415  needs torch; completing a name does not

    path = folder / MODEL_TOML
    try:
        return parse_category(folder, tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        inside = folder.parent == models_root()
        remedy = "Install g2s again." if inside else f"Mend it, or delete {folder} and pull or import it again."
        raise WeightsError(f"{path} is damaged: {shorten(error)}.", remedy) from error


def required_parts(category: Category, *, networks: bool, own_gan: bool = False) -> list[Part]:
    """The files that a run cannot do without.

    Args:
        networks: whether it begins from the jointly trained networks.
        own_gan: whether the user's GAN takes the place of the category's, whose networks do not fit it.
    """

    def stated(*parts: Part) -> list[Part]:
        return [part for part in parts if part in category.weights or find_cached(category.name, part)]

    trained: list[Part] = ["networks", *stated("depth")] if networks else []
    return [*([] if own_gan else ["gan", *trained]), *stated("views", "lights", "person")]


def optional_parts(category: Category) -> list[Part]:
    """The files that a run reads where they are at hand."""
    return ["parsing"] if category.mask_rule else []
