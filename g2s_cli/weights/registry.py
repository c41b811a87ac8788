"""Where a category's files come from: with g2s, from the cache, from a Hub repository, from the authors' release."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from shutil import copyfile

from torch import Tensor

from g2s_cli.errors import WeightsError
from g2s_cli.files import replacing, sha256_of
from g2s_cli.weights.cache import (
    CachedFile,
    cache_errors,
    cache_root,
    delete_cached,
    find_cached,
    lock,
    matches_hash,
    models_root,
    remove_stale,
    store_file,
    write_record,
)
from g2s_cli.weights.catalog import SUFFIX, Category, Part, Release, category_folders, load_category
from g2s_cli.weights.compatibility import check_compatible
from g2s_cli.weights.download_progress import DownloadProgress, SilentDownload
from g2s_cli.weights.hub import HubRepo, NotOnHubError, fetch_from_hub, pull_category, pulled_revision, with_hash
from g2s_cli.weights.importers import build_parsing_net, read_checkpoint
from g2s_cli.weights.release import WAYS_OUT, extract_members
from g2s_cli.weights.tensors import converted_sha256, save_weights

YES = {"1", "true", "yes", "on"}


@dataclass(frozen=True)
class Sources:
    """What is asked beyond this machine, and whether anything is.

    hub_repo: "owner/name" or "owner/name@revision", "" for the category's own (most state none). release_url:
    a mirror of the authors' release, "" for the address that the category states. hub_only: whether nothing but
    hub_repo will do; else a category that it lacks is looked for elsewhere.
    """

    hub_repo: str = ""
    hub_only: bool = True
    release_url: str = ""
    offline: bool = False

    def __post_init__(self) -> None:
        """Raise UsageError for a Hub repository that is none, also where nothing is to be fetched."""
        if self.hub_repo:
            HubRepo.parse(self.hub_repo)

    @classmethod
    def from_environment(cls, hub_repo: str = "") -> Sources:
        """G2S_HUB_REPO, G2S_RELEASE_URL and HF_HUB_OFFLINE; an option goes before its variable."""
        return cls(
            hub_repo=hub_repo or os.environ.get("G2S_HUB_REPO", ""),
            hub_only=bool(hub_repo),
            release_url=os.environ.get("G2S_RELEASE_URL", ""),
            offline=os.environ.get("HF_HUB_OFFLINE", "").lower() in YES,
        )


def fetch_weights(
    category: Category,
    parts: Sequence[Part],
    sources: Sources,
    fetching: DownloadProgress | None = None,
    optional: Sequence[Part] = (),
) -> dict[Part, Path]:
    """The files of a category's parts, each checked by its hash; fetched first where they are not here.

    welcome: parts that are taken if they are here and come along when others are fetched, but are not fetched alone.
    Raises WeightsError if a file is damaged (it is deleted and named, unless it came with g2s) or cannot be had, and
    for networks that were trained with another GAN.
    """
    asked = (*parts, *optional)
    found = {part: path for part in asked if (path := local_file(category, part))}
    if not found.keys() >= set(parts):
        check_sources(category, parts)
        # While one process fetches, another waits here and then finds the files.
        with _speaking_of(category.name), lock(category.name, "fetch"):
            remove_stale(category.name)
            missing = [part for part in parts if part not in found and not local_file(category, part)]
            if missing:
                along = [part for part in optional if part in category.weights and part not in found]
                fetch(category, missing, sources, fetching or SilentDownload(), along)
        found |= {part: path for part in asked if (path := local_file(category, part))}
    if {"gan", "networks"} <= found.keys():
        check_local_networks(category)
    return {part: found[part] for part in asked if part in parts or part in found}


@contextmanager
def _speaking_of(name: str) -> Iterator[None]:
    """Put a category's name into remedies, and what a cache that cannot be written says into a sentence."""
    try:
        with cache_errors():
            yield
    except WeightsError as error:
        raise WeightsError(error.what, error.remedy.replace("--category NAME", f"--category {name}")) from error


def check_sources(category: Category, parts: Sequence[Part]) -> None:
    """Raise WeightsError for parts that a category has no source of, and that nobody has imported."""
    unknown = [part for part in parts if part not in category.weights and not find_cached(category.name, part)]
    if unknown:
        raise WeightsError(
            f"{category.name} has no {' and '.join(unknown)} to fetch.",
            f"Bring your own: g2s weights import FILE --category {category.name}",
        )


def local_record(category: Category, part: Part) -> CachedFile | None:
    """A part's file that came with g2s or is cached, unchecked; None if there is none.

    One that lies beside its model.toml has the hash that this states, "" if none, and no words on its source.
    """
    entry = category.weights.get(part)
    stored = find_cached(category.name, part)
    ours = category.folder.parent != cache_root()  # in the cache, the sidecar knows what was imported
    if entry and (ours or stored is None) and (beside := category.folder / entry.file).is_file():
        return CachedFile(beside, entry.sha256, "")
    return stored


def check_local_networks(category: Category) -> None:
    """Raise WeightsError if the networks that are here were trained with another GAN than the one that is."""
    check_compatible(category, local_record(category, "gan"), local_record(category, "networks"))


def check_import(category: Category, files: Sequence[tuple[Path, Part, Mapping[str, Tensor]]]) -> None:
    """Raise WeightsError if, with these files, networks would stand beside another GAN than they were trained with."""
    given = {part: (path, tensors) for path, part, tensors in files}
    halves: dict[Part, CachedFile | None] = {part: local_record(category, part) for part in ("gan", "networks")}
    if not all(halves[part] or part in given for part in halves):
        return
    for part in halves.keys() & given.keys():
        path, tensors = given[part]
        halves[part] = CachedFile(path, converted_sha256(path, tensors), "")
    check_compatible(category, halves["gan"], halves["networks"])


def local_file(category: Category, part: Part) -> Path | None:
    """A part's file that came with g2s or is cached, checked; None if there is none. Raises WeightsError if damaged."""
    stored = local_record(category, part)
    if stored is None:
        return None
    path = stored.path
    if not stored.sha256 or matches_hash(stored):
        return path
    if not stored.source:
        raise WeightsError(
            f"{path} is damaged: its SHA-256 is not the one the category states.",
            "Install g2s again: pip install --force-reinstall g2s-cli",
        )
    try:
        # Another process may be putting a new file in its place; only what is still damaged then is deleted.
        with lock(category.name, part):
            stored = find_cached(category.name, part)
            if stored is None or matches_hash(stored):
                return stored.path if stored else None
            delete_cached(category.name, part, stored)
    except OSError as error:
        raise WeightsError(
            f"{path} is damaged (its SHA-256 has changed) and cannot be deleted: {error.strerror or error}.",
            f"Delete it, then: g2s weights pull {category.name}",
        ) from error
    raise WeightsError(
        f"{stored.path} was damaged (its SHA-256 had changed) and has been deleted.",
        f"Fetch it again: g2s weights pull {category.name}"
        if is_downloadable(category, part)
        else f"Bring it again: g2s weights import FILE --category {category.name}",
    )


def is_downloadable(category: Category, part: Part) -> bool:
    """Whether a part comes with g2s or from a place that its category names; what was imported or trained does not."""
    entry = category.weights.get(part)
    ours = category.folder.parent == models_root()
    return bool(entry) and (ours or bool(category.hub_repo or category.release or pulled_revision(category.folder)))


def fetch(
    category: Category, parts: Sequence[Part], sources: Sources, fetching: DownloadProgress, along: Sequence[Part] = ()
) -> None:
    """Fetch parts into the cache: from a Hub repository where one is named, else from the authors' release.

    along: parts that are fetched with them if the place has them.
    """
    names = " and ".join(parts)
    members = {part: category.weights[part].member for part in parts}
    if repo := _hub_repo_of(category, sources):
        try:
            found = fetch_from_hub(category, parts, HubRepo.parse(repo), along)
        except NotOnHubError:
            if sources.hub_only or category.release is None or not all(members.values()):
                raise
        else:
            for part, stored in found.items():
                write_record(category.name, part, stored)
            return
    if category.release is None or not all(members.values()):
        if category.folder.parent == models_root() and not any(members.values()):
            path = category.folder / category.weights[parts[0]].file
            raise WeightsError(f"{path} is missing.", "Install g2s again: pip install --force-reinstall g2s-cli")
        raise WeightsError(
            f"The {names} of {category.name} is nowhere to be fetched from.",
            f"Import it (g2s weights import FILE --category {category.name}) or name a Hub repository (--hub-repo).",
        )
    if sources.offline:
        raise WeightsError(
            f"The {names} of {category.name} is not on this machine, and HF_HUB_OFFLINE forbids fetching.", WAYS_OUT
        )
    release = Release(sources.release_url or category.release.url, category.release.parts)
    place = cache_root() / category.name
    members |= {part: member for part in along if (member := category.weights[part].member)}
    with extract_members(release, members, place, fetching) as files:
        read = {part: read_checkpoint(path) for part, path in files.items()}
        for part, (kind, _) in read.items():
            if kind != part:
                raise WeightsError(
                    f"The release's {members[part]} is {kind}, not {part}.", "Use another mirror of the release."
                )
        if "parsing" in read:
            build_parsing_net(category, read["parsing"][1], files["parsing"])
        for part, (_, tensors) in read.items():
            store_part(category, part, tensors, files[part], f"release, {release.url}, {members[part]}")


def _hub_repo_of(category: Category, sources: Sources) -> str:
    """The repository to ask: the one that is insisted on, the commit a category was pulled from, whichever else."""
    pulled = pulled_revision(category.folder)
    insisted = sources.hub_repo if sources.hub_only else ""
    if pulled and insisted in {"", pulled.partition("@")[0]}:
        return pulled
    return sources.hub_repo or category.hub_repo


def store_part(category: Category, part: Part, tensors: Mapping[str, Tensor], source: Path, words: str) -> CachedFile:
    """Put a part's file into the cache and remember where it came from: its tensors, or a safetensors file as it is."""
    entry = category.weights.get(part)
    place = cache_root() / category.name / (entry.file if entry else f"{part}{SUFFIX}")
    if source.suffix == SUFFIX:
        return store_file(category.name, part, place, words, partial(copyfile, source))
    words = f"{words}, SHA-256 {sha256_of(source)}"
    return store_file(category.name, part, place, words, partial(save_weights, tensors))


def create_category(name: str) -> Category:
    """A category of the user's own in the cache: a copy of "own" that its GAN is imported into."""
    template, folder = models_root() / "own", cache_root() / name
    folder.mkdir(parents=True, exist_ok=True)
    card = (
        (template / "model.toml")
        .read_text(encoding="utf-8")
        .replace('title = "A GAN of your own"', f'title = "{name}"')
    )
    card = with_hash(card, "gan", "gan.safetensors", "")
    with replacing(folder / "model.toml") as temporary:
        temporary.write_text(card, encoding="utf-8")
    return load_category(name)


def find_category(name: str, sources: Sources) -> Category:
    """A category by name; one that g2s does not know is looked for in the Hub repository, if one is named."""
    if name not in category_folders() and sources.hub_repo and name.replace("-", "").replace("_", "").isalnum():
        with _speaking_of(name):
            pull_category(name, HubRepo.parse(sources.hub_repo))
    return load_category(name)
