"""A category's files, from the first source that has them: embedded, cache, Hub repository, the authors' release."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from shutil import copyfile

from torch import Tensor

from g2s_cli.config import SUFFIX, Category, Part, Release, WeightsFile
from g2s_cli.errors import WeightsError
from g2s_cli.files import sha256_of
from g2s_cli.options import DEFAULT_CATEGORY
from g2s_cli.weights.cache import (
    CachedFile,
    cache_errors,
    cache_root,
    delete_cached,
    find_cached,
    is_in_cache,
    lock,
    matches_hash,
    models_root,
    remove_stale,
    store_file,
    write_record,
)
from g2s_cli.weights.categories import category_folders, load_category
from g2s_cli.weights.compatibility import check_compatible
from g2s_cli.weights.download_progress import DownloadProgress, SilentDownload
from g2s_cli.weights.hub import (
    OFFLINE_REMEDY,
    HubRepo,
    NotOnHubError,
    fetch_from_hub,
    is_offline,
    pull_category,
    pulled_revision,
)
from g2s_cli.weights.importers import build_parsing_net, read_checkpoint
from g2s_cli.weights.model_toml import read_model_toml, set_file, write_model_toml
from g2s_cli.weights.release import IMPORT, extract_members
from g2s_cli.weights.tensors import converted_sha256, save_weights

REINSTALL = "Install g2s again: pip install --force-reinstall g2s-cli"


@dataclass(frozen=True)
class Sources:
    """Where missing files are fetched from.

    Args:
        hub_repo: "owner/name" or "owner/name@revision"; "" for the category's own, if any.
        hub_only: whether a category that hub_repo lacks is an error; else the release is asked next.
        release_url: a mirror of the authors' release; "" for the URL that the category states.
    """

    hub_repo: str = ""
    hub_only: bool = True
    release_url: str = ""

    def __post_init__(self) -> None:
        """Raise UsageError for a malformed hub_repo, even if nothing is to be fetched."""
        if self.hub_repo:
            HubRepo.parse(self.hub_repo)

    @classmethod
    def from_environment(cls, hub_repo: str = "") -> Sources:
        """From G2S_HUB_REPO and G2S_RELEASE_URL; the argument overrides its variable."""
        named = hub_repo or os.environ.get("G2S_HUB_REPO", "")
        return cls(named, bool(hub_repo), os.environ.get("G2S_RELEASE_URL", ""))


def fetch_weights(
    category: Category,
    parts: Sequence[Part],
    sources: Sources,
    progress: DownloadProgress | None = None,
    optional: Sequence[Part] = (),
) -> dict[Part, Path]:
    """The files of a category's parts, checked by their hashes; missing ones are fetched first.

    Args:
        optional: parts that are returned if they are here, and fetched along with others but never alone.

    Raises:
        WeightsError: a file is damaged (it is deleted, unless embedded) or has no source, or the networks belong to
            another GAN.
    """
    files = _local_files(category, (*parts, *optional))
    if not files.keys() >= set(parts):
        check_sources(category, parts)
        with (
            _category_in_remedies(category.name, faces=category.face_template is not None),
            lock(category.name, "fetch"),
        ):
            remove_stale(category.name)
            missing = [part for part in parts if part not in _local_files(category, parts)]  # another process may fetch
            if missing:
                extra = [part for part in optional if part in category.weights and part not in files]
                _fetch(category, missing, extra, sources, progress or SilentDownload())
        files = _local_files(category, (*parts, *optional))
    if {"gan", "networks"} <= files.keys():
        check_local_networks(category)
    return files


def _local_files(category: Category, parts: Iterable[Part]) -> dict[Part, Path]:
    return {part: path for part in parts if (path := local_file(category, part))}


@contextmanager
def _category_in_remedies(name: str, *, faces: bool = False) -> Iterator[None]:
    """Name the category in the remedies of errors, and report a cache that cannot be written.

    Where the remedy is a file, and the category of faces, the embedded category of people is named, too.
    """
    try:
        with cache_errors():
            yield
    except WeightsError as error:
        embedded = (
            f"; or take what is embedded: --category {DEFAULT_CATEGORY}" if faces and IMPORT in error.remedy else ""
        )
        named = error.with_remedy(error.remedy + embedded)
        raise named.replace_name("--category NAME", f"--category {name}") from error


def check_sources(category: Category, parts: Sequence[Part]) -> None:
    """Raise WeightsError for parts that the category does not state and nobody has imported."""
    unknown = [part for part in parts if part not in category.weights and not find_cached(category.name, part)]
    if unknown:
        raise WeightsError(
            f"{category.name} has no {' and '.join(unknown)} to fetch.",
            f"Bring your own: g2s weights import FILE --category {category.name}",
        )


def local_record(category: Category, part: Part) -> CachedFile | None:
    """A part's embedded or cached file, its hash unchecked. An embedded one has the hash that model.toml states."""
    entry = category.weights.get(part)
    cached = find_cached(category.name, part)
    embedded = not is_in_cache(category.folder)  # in the cache, the record also knows of imports
    if entry and (embedded or cached is None) and (beside := _embedded_path(category, entry)).is_file():
        return CachedFile(beside, entry.sha256, "")
    return cached


def _embedded_path(category: Category, entry: WeightsFile) -> Path:
    return (models_root() / entry.category if entry.category else category.folder) / entry.file


def local_file(category: Category, part: Part) -> Path | None:
    """A part's embedded or cached file, its hash checked.

    Raises:
        WeightsError: the file is damaged; a cached one is deleted.
    """
    record = local_record(category, part)
    if record is None or not record.sha256 or matches_hash(record):
        return record.path if record else None
    if not record.source:
        raise WeightsError(f"{record.path} is damaged: its SHA-256 is not the one the category states.", REINSTALL)
    with cache_errors(), lock(category.name, part):
        current = find_cached(category.name, part)
        if current is None or matches_hash(current):  # another process has just replaced the file
            return current.path if current else None
        delete_cached(category.name, part, current)
    again = f"Bring it again: g2s weights import FILE --category {category.name}"
    if is_downloadable(category, part):
        again = f"Fetch it again: g2s weights pull {category.name}"
    raise WeightsError(f"{current.path} was damaged (its SHA-256 had changed) and has been deleted.", again)


def is_downloadable(category: Category, part: Part) -> bool:
    """Whether a part is embedded or has a download source; imported and trained ones have none."""
    embedded = category.folder.parent == models_root()
    remote = category.hub_repo or category.release or pulled_revision(category.folder)
    return part in category.weights and bool(embedded or remote)


def check_local_networks(category: Category) -> None:
    """Raise WeightsError if the networks on this machine belong to another GAN than the one on this machine."""
    check_compatible(category, local_record(category, "gan"), local_record(category, "networks"))


def check_import(category: Category, files: Sequence[tuple[Path, Part, Mapping[str, Tensor]]]) -> None:
    """Raise WeightsError if importing these files would put networks beside a GAN that they do not belong to."""
    pair: dict[str, CachedFile | None] = {
        "gan": local_record(category, "gan"),
        "networks": local_record(category, "networks"),
    }
    imported = {part: (path, tensors) for path, part, tensors in files if part in pair}
    if all(pair[part] or part in imported for part in pair):
        new = {part: CachedFile(path, converted_sha256(path, state), "") for part, (path, state) in imported.items()}
        check_compatible(category, **(pair | new))


def _fetch(
    category: Category, parts: Sequence[Part], extra: Sequence[Part], sources: Sources, progress: DownloadProgress
) -> None:
    """Fetch parts, and extra ones where the source has them, into the cache."""
    names = " and ".join(parts)
    members = {part: category.weights[part].member for part in parts}
    released = category.release is not None and all(members.values())
    if repo := _hub_repo(category, sources):
        try:
            found = fetch_from_hub(category, parts, HubRepo.parse(repo), extra)
        except NotOnHubError:
            if sources.hub_only or not released:
                raise
        else:
            for part, cached in found.items():
                write_record(category.name, part, cached)
            return
    if category.release is None or not released:
        if category.folder.parent == models_root() and not any(members.values()):
            raise WeightsError(f"{_embedded_path(category, category.weights[parts[0]])} is missing.", REINSTALL)
        raise WeightsError(
            f"The {names} of {category.name} is nowhere to be fetched from.",
            f"Import it (g2s weights import FILE --category {category.name}) or name a Hub repository (--hub-repo).",
        )
    if is_offline():
        raise WeightsError(
            f"The {names} of {category.name} is not on this machine, and HF_HUB_OFFLINE forbids fetching.",
            OFFLINE_REMEDY,
        )
    members |= {part: member for part in extra if (member := category.weights[part].member)}
    release = Release(sources.release_url or category.release.url, category.release.parts)
    _fetch_from_release(category, members, release, progress)


def _fetch_from_release(
    category: Category, members: Mapping[Part, str], release: Release, progress: DownloadProgress
) -> None:
    with extract_members(release, members, cache_root() / category.name, progress) as files:
        contents = {}
        for part, path in files.items():
            kind, contents[part] = read_checkpoint(path)
            if kind != part:
                what = f"The release's {members[part]} is {kind}, not {part}."
                raise WeightsError(what, "Use another mirror of the release.")
        if "parsing" in contents:
            build_parsing_net(category, contents["parsing"], files["parsing"])
        for part, tensors in contents.items():
            store_part(category, part, tensors, files[part], f"release, {release.url}, {members[part]}")


def _hub_repo(category: Category, sources: Sources) -> str:
    """The repository to ask: the commit that a category was pulled from, unless another repository is insisted on."""
    pulled = pulled_revision(category.folder)
    insisted = sources.hub_repo if sources.hub_only else ""
    if pulled and insisted in {"", pulled.partition("@")[0]}:
        return pulled
    return sources.hub_repo or category.hub_repo


def store_part(category: Category, part: Part, tensors: Mapping[str, Tensor], file: Path, source: str) -> CachedFile:
    """Put a part into the cache: a safetensors file byte for byte, anything else as its tensors.

    Args:
        file: the file that the tensors were read from.
        source: where it comes from, for the record.
    """
    entry = category.weights.get(part)
    place = cache_root() / category.name / (entry.file if entry else f"{part}{SUFFIX}")
    if file.suffix == SUFFIX:
        return store_file(category.name, part, place, source, partial(copyfile, file))
    source = f"{source}, SHA-256 {sha256_of(file)}"
    return store_file(category.name, part, place, source, partial(save_weights, tensors))


def create_category(name: str) -> None:
    """Describe a new category in the cache: a copy of "own", for an imported GAN."""
    data = read_model_toml(models_root() / "own") | {"title": name}
    set_file(data, "gan", "gan.safetensors", "")
    write_model_toml(cache_root() / name, data)


def find_category(name: str, sources: Sources) -> Category:
    """A category by name; an unknown one is pulled from the Hub repository, if one is named. Raises G2SError."""
    if name not in category_folders() and sources.hub_repo and name.replace("-", "").replace("_", "").isalnum():
        with _category_in_remedies(name):
            pull_category(name, HubRepo.parse(sources.hub_repo))
    return load_category(name)
