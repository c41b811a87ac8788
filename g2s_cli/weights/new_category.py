"""A category made from another one: its description with new networks, and all its files, in the cache."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from shutil import copyfile

from g2s_cli.errors import UsageError
from g2s_cli.files import replacing
from g2s_cli.weights.cache import cache_errors, cache_root, find_cached, store_file
from g2s_cli.weights.catalog import SUFFIX, Category, Part, category_folders, check_name
from g2s_cli.weights.hub import CARD, README, with_hash


def check_name_is_free(name: str, words: str) -> None:
    """Raise UsageError if a category of another origin has the name. words: where the new one's networks come from."""
    check_name(name)
    stored = find_cached(name, "networks")
    if name in category_folders() and (stored is None or stored.source != words):
        raise UsageError(f"There is a category {name} already.", "Choose another name: --as NAME.")


def add_category(category: Category, name: str, files: Mapping[Part, Path], words: str, readme: str) -> Path:
    """Describe a category as `kind` is, but with these files alone, which are copied; its folder in the cache.

    words: where they come from. readme: the model card. Its presets follow views and lights with the encoder and
    register no photo and ask no S, for nobody has found directions in W for new networks, nor taught them an S; where
    none began from networks, now all do. The description comes last. Raises WeightsError.
    """
    folder = cache_root() / name
    card = without_tables((category.folder / CARD).read_text(encoding="utf-8"), ("release", "hub", "weights"))
    title = json.dumps(f"{category.title}; joint networks of your own", ensure_ascii=False)  # TOML quotes as JSON does
    card = re.sub(r"(?m)^title = .*$", lambda _: f"title = {title}", card, count=1)
    card = re.sub(r'(?m)^follow = "linear"$', 'follow = "encoder"', card)
    card = re.sub(r"(?m)^(register|agree|sight|steps) = .*\n", "", card)
    if not any(preset.trained for preset in category.presets.values()):
        card = from_networks(card)
    with cache_errors():
        for part, source in files.items():
            stored = store_file(name, part, folder / f"{part}{SUFFIX}", words, partial(copyfile, source))
            card = with_hash(card, part, stored.path.name, stored.sha256)
        for file, text in ((README, readme), (CARD, card)):
            with replacing(folder / file) as temporary:
                temporary.write_text(text, encoding="utf-8")
    return folder


def without_tables(card: str, names: Iterable[str]) -> str:
    """A model.toml without some tables, those inside them, and the comments that stand above them."""
    unwanted, kept, comments, inside = set(names), [], [], False
    for line in card.splitlines():
        if line.startswith("#"):
            comments.append(line)
            continue
        if line.startswith("["):
            inside = line.strip("[] ").split(".")[0] in unwanted
        if not inside or (comments and not line):  # what stands alone speaks of all that follows
            kept += [*comments, line]
        comments = []
    return "\n".join([*kept, *comments]) + "\n"


def from_networks(card: str) -> str:
    """A model.toml whose presets begin from trained networks, not from the ellipsoid."""
    kept, inside = [], False
    for line in card.splitlines():
        if line.startswith("["):
            inside = line.startswith("[presets.")
        began = {"start": 'start = "networks"', "prior": "prior = 0"} if inside else {}
        kept.append(began.get(line.partition("=")[0].strip(), line))
    return "\n".join(kept) + "\n"
