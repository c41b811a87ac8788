"""A category on the Hugging Face Hub: `<category>/model.toml` and its files in a model repository.

huggingface_hub downloads, with its own cache, locks, resumption and conventions (HF_HOME, HF_ENDPOINT, HF_TOKEN,
HF_HUB_OFFLINE). Added here: all files of a category from one commit, hashes, and errors of one sentence.
"""

from __future__ import annotations

import errno
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from g2s_cli.config import SUFFIX, Category, Part
from g2s_cli.errors import G2SError, UsageError, WeightsError, shorten
from g2s_cli.files import atomic_write, read_json, sha256_of
from g2s_cli.weights.cache import CachedFile, cache_root
from g2s_cli.weights.categories import read_category
from g2s_cli.weights.compatibility import trained_with_hash
from g2s_cli.weights.model_toml import MODEL_TOML, README, read_model_toml, set_file, write_model_toml
from g2s_cli.weights.proxies import MEND_PROXY, Proxy
from g2s_cli.weights.release import IMPORT

WAYS_OUT = f"Name a mirror (HF_ENDPOINT), or bring a file you have: {IMPORT}"
OFFLINE_REMEDY = f"Unset it, or bring a file you have: {IMPORT}"
ANSWER_SECONDS = 5.0
ORIGIN = "hub.json"  # beside a pulled model.toml: its repository and commit


class NotOnHubError(WeightsError):
    """The repository answers, but has no such file."""


@dataclass(frozen=True)
class HubRepo:
    """A model repository at a revision: a branch, a tag or a commit."""

    name: str
    revision: str

    @classmethod
    def parse(cls, text: str) -> HubRepo:
        """ "owner/name" or "owner/name@revision". Raises UsageError."""
        name, _, revision = text.partition("@")
        if name.count("/") != 1 or not all(name.split("/")):
            raise UsageError(f"{text!r} is no Hub repository.", "Write owner/name, or owner/name@revision.")
        return cls(name, revision or "main")


def pull_category(name: str, repo: HubRepo) -> None:
    """Put a category's model.toml and README.md from the Hub into the cache. Raises WeightsError."""
    folder = cache_root() / name
    category, repo = _read_from_hub(name, repo)
    contents = {ORIGIN: (json.dumps({"repo": f"{repo.name}@{repo.revision}"}) + "\n").encode()}
    with suppress(WeightsError):  # optional in a repository
        contents[README] = _download(repo, f"{name}/{README}").read_bytes()
    contents[MODEL_TOML] = (category.folder / MODEL_TOML).read_bytes()  # last: it makes the folder a category
    for file, content in contents.items():
        with atomic_write(folder / file) as temporary:
            temporary.write_bytes(content)


def pulled_revision(folder: Path) -> str:
    """The "owner/name@commit" that a category's model.toml was pulled from, "" if it was not."""
    try:
        return str(read_json(folder / ORIGIN)["repo"])
    except (OSError, ValueError, LookupError, TypeError):
        return ""


def fetch_from_hub(
    category: Category, parts: Sequence[Part], repo: HubRepo, optional: Sequence[Part] = ()
) -> dict[Part, CachedFile]:
    """Download parts of a category from one commit, each checked against the hash that its model.toml states.

    Args:
        optional: parts that are downloaded too if the repository states them.

    Raises:
        NotOnHubError: the repository lacks the category.
        WeightsError: the repository states no hash, another one than `category`, or has a file of another hash (which
            is deleted).
    """
    described, repo = _read_from_hub(category.name, repo)
    files = {part: entry for part, entry in described.weights.items() if entry.sha256}
    if unknown := [part for part in parts if part not in files]:
        raise WeightsError(
            f"{repo.name} states no file with a SHA-256 for {', '.join(unknown)} of {category.name}.",
            "Publish it with: g2s weights publish.",
        )
    files = {part: files[part] for part in (*parts, *optional) if part in files}
    expected = {part: category.weights[part].sha256 for part in files if part in category.weights}
    if other := [part for part, entry in files.items() if expected.get(part) not in {None, "", entry.sha256}]:
        raise WeightsError(
            f"{repo.name} has another {' and '.join(other)} of {category.name} than {category.folder / MODEL_TOML} "
            "states.",
            f"Delete {category.folder} to take the category from there.",
        )
    found: dict[Part, CachedFile] = {}
    for part, entry in files.items():
        path = _download(repo, f"{category.name}/{entry.file}")
        if sha256_of(path) != entry.sha256:
            path.resolve().unlink(missing_ok=True)
            path.unlink(missing_ok=True)
            raise WeightsError(
                f"{category.name}/{entry.file} of {repo.name} is not the file whose SHA-256 is stated; "
                f"it was deleted from {path.parent}.",
                "Pull again; if that does not help, tell its publisher.",
            )
        found[part] = CachedFile(path, entry.sha256, f"Hub, {repo.name}@{repo.revision}")
    return found


def _read_from_hub(name: str, repo: HubRepo) -> tuple[Category, HubRepo]:
    """A category as a repository's model.toml describes it, and the repository at that file's commit."""
    path = _download(repo, f"{name}/{MODEL_TOML}")
    try:
        category = read_category(path.parent)
    except WeightsError as error:
        what = f"{repo.name} has a {MODEL_TOML} that cannot be used. {error.what}"
        raise WeightsError(what, "Tell its publisher.") from error
    return category, HubRepo(repo.name, path.parents[1].name)  # the Hub's cache: snapshots/<commit>/<category>/


def _download(repo: HubRepo, file: str) -> Path:
    """A file of a repository in the Hub's own cache. Raises WeightsError."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache  # noqa: PLC0415

    with hub_errors(f"{repo.name}, {file}"):
        cached = try_to_load_from_cache(repo.name, file, revision=repo.revision)
        if not isinstance(cached, str) and not is_offline():  # ask first: hf_hub_download hides what the Hub answers
            get_hf_file_metadata(hf_hub_url(repo.name, file, revision=repo.revision), timeout=ANSWER_SECONDS)
        return Path(hf_hub_download(repo.name, file, revision=repo.revision, library_name="g2s"))


@contextmanager
def staged(category: Category, files: Mapping[Part, Path]) -> Iterator[Path]:
    """A temporary folder as it is to be published: the files, README.md, and model.toml with their hashes."""
    with tempfile.TemporaryDirectory(prefix="g2s-publish-") as name:
        folder, data = Path(name), read_model_toml(category.folder)
        for part, path in files.items():
            entry = category.weights.get(part)
            file = entry.file if entry else f"{part}{SUFFIX}"
            (folder / file).symlink_to(path.resolve())
            cached = CachedFile(path, sha256_of(path), "")
            trained_with = trained_with_hash(category, cached) if part == "networks" else ""
            set_file(data, part, file, cached.sha256, trained_with)
        if data == read_model_toml(category.folder):  # then with its comments
            (folder / MODEL_TOML).write_bytes((category.folder / MODEL_TOML).read_bytes())
        else:
            write_model_toml(folder, data)
        readme = category.folder / README
        (folder / README).write_bytes(readme.read_bytes() if readme.is_file() else f"# {category.name}\n".encode())
        yield folder


def publish(folder: Path, category: str, repo: str) -> str:
    """Upload a `staged` folder to `<category>/` of a model repository, created if need be.

    Returns:
        The repository's URL.
    """
    from huggingface_hub import HfApi  # noqa: PLC0415

    if is_offline():
        raise WeightsError(f"{repo} cannot be uploaded: HF_HUB_OFFLINE is set.", "Unset it.")
    api = HfApi(library_name="g2s")
    with hub_errors(repo, "uploaded", "Try again later; nothing is lost."):
        api.create_repo(repo, repo_type="model", exist_ok=True)
        api.upload_folder(
            repo_id=repo, folder_path=folder, path_in_repo=category, commit_message=f"Publish {category} for g2s"
        )
    return f"{api.endpoint}/{repo}"


def is_offline() -> bool:
    """Whether HF_HUB_OFFLINE is set."""
    from huggingface_hub import constants  # noqa: PLC0415

    return bool(constants.HF_HUB_OFFLINE)


@contextmanager
def hub_errors(what: str, action: str = "downloaded", remedy: str = WAYS_OUT) -> Iterator[None]:
    """Turn any exception of huggingface_hub into a WeightsError of one sentence.

    Args:
        what: the repository or file.
        action: what was to be done with it, as a participle.
        remedy: where the error suggests none of its own.
    """
    try:
        yield
    except G2SError:
        raise
    except Exception as error:  # also the HTTP library's own, whichever library that is
        raise _explained(error, what, action, remedy) from error


def _explained(error: Exception, what: str, action: str, remedy: str) -> WeightsError:
    from huggingface_hub import __version__, constants, errors  # noqa: PLC0415

    proxy = None if is_offline() or isinstance(error, errors.HfHubHTTPError) else Proxy.of(constants.ENDPOINT)
    if proxy and proxy.is_socks and "SOCKS" in str(error):  # of its HTTP library: requests before version 1, then httpx
        package = "pysocks" if __version__.startswith("0.") else "socksio"
        return WeightsError(
            f"{what} cannot be {action}: {proxy} needs a package.", f"Install it: pip install {package}"
        )
    if proxy and (fault := proxy.fault()):
        return WeightsError(f"{what} cannot be {action}: {proxy} cannot be reached: {fault}.", MEND_PROXY)
    local, local_remedy = "not in the cache, and the Hub cannot be reached", WAYS_OUT
    if is_offline():
        local, local_remedy = "not on this machine, and HF_HUB_OFFLINE forbids fetching", OFFLINE_REMEDY
    unknown = "the Hub knows no such repository, or it is private"
    known: tuple[tuple[type[Exception], type[WeightsError], str, str], ...] = (
        (errors.GatedRepoError, WeightsError, "access is granted by its owner", "Ask for it, and set HF_TOKEN."),
        (errors.RepositoryNotFoundError, WeightsError, unknown, "Check the name, or set HF_TOKEN."),
        (errors.RevisionNotFoundError, WeightsError, "the repository has no such revision", "Check the part after @."),
        (errors.LocalEntryNotFoundError, WeightsError, local, local_remedy),
        (errors.EntryNotFoundError, NotOnHubError, "the repository has no such file", "Check the category's name."),
    )
    for kind, raised, sentence, way_out in known:
        if isinstance(error, kind):
            return raised(f"{what}: {sentence}.", way_out)
    if isinstance(error, errors.HfHubHTTPError):
        status = error.response.status_code if error.response is not None else "an error"
        may = "Set HF_TOKEN to a token that may do this."
        return WeightsError(f"{what}: the Hub answers {status}.", may if status in {401, 403} else remedy)
    if isinstance(error, OSError):
        full = error.errno in {errno.ENOSPC, errno.EDQUOT}
        free = "Free space, or set HF_HOME to a folder on another disk."
        return WeightsError(f"{what} cannot be {action}: {error.strerror or shorten(error)}.", free if full else remedy)
    return WeightsError(f"{what} cannot be {action}: {type(error).__name__}: {shorten(error)}.", remedy)
