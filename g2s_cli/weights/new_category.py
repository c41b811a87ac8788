"""A category derived from another one: its description with new networks, and all its files, in the cache."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from shutil import copyfile

from g2s_cli.config import SUFFIX, Category, Part
from g2s_cli.errors import UsageError
from g2s_cli.files import atomic_write
from g2s_cli.weights.cache import cache_errors, cache_root, find_cached, store_file
from g2s_cli.weights.categories import category_folders, check_name
from g2s_cli.weights.model_toml import README, derived_model_toml, set_file, write_model_toml


def check_name_is_free(name: str, source: str) -> None:
    """Raise UsageError if a category of another source has the name."""
    check_name(name)
    cached = find_cached(name, "networks")
    if name in category_folders() and (cached is None or cached.source != source):
        raise UsageError(f"There is a category {name} already.", "Choose another name: --as NAME.")


def add_category(category: Category, name: str, files: Mapping[Part, Path], source: str, readme: str) -> Path:
    """Write a category like another one, with new files, to the cache.

    Its presets predict latent offsets with the encoder and use neither template, morphable model nor depth network:
    the new networks have none, nor latent directions. If all presets started from the ellipsoid, all now start from the
    networks.

    Args:
        category: the one to derive from.
        files: all files of the new category; they are copied.
        source: where they come from, for the cache's records.
        readme: the model card.

    Returns:
        The category's folder. Its model.toml is written last.
    """
    folder = cache_root() / name
    data = derived_model_toml(category.folder)
    data["title"] = f"{category.title}; joint networks of your own"
    no_networks = not any(preset.needs_networks for preset in category.presets.values())
    for preset in data["presets"].values():
        for key in ("agree", "sight"):  # version 0.1.0's keys of other estimators
            preset.pop(key, None)
        if "estimators" in preset:  # the others need networks that joint training does not make
            preset["estimators"] = preset["estimators"][:1]
        elif no_networks:
            preset |= {"start": "networks", "prior": 0}
    with cache_errors():
        for part, path in files.items():
            cached = store_file(name, part, folder / f"{part}{SUFFIX}", source, partial(copyfile, path))
            set_file(data, part, cached.path.name, cached.sha256)
        with atomic_write(folder / README) as temporary:
            temporary.write_text(readme, encoding="utf-8")
        write_model_toml(folder, data)
    return folder
