"""A category on the Hugging Face Hub: `<category>/model.toml` and its files in somebody's model repository.

huggingface_hub does the downloading, with its own cache, locks, resumption and conventions (HF_HOME, HF_ENDPOINT,
HF_TOKEN, HF_HUB_OFFLINE). What is added here: one commit for all files of a category, hashes, and plain sentences.
"""

from __future__ import annotations

import errno
import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from g2s_cli.errors import G2SError, UsageError, WeightsError
from g2s_cli.files import replacing, sha256_of
from g2s_cli.weights.cache import CachedFile, cache_root, require_space
from g2s_cli.weights.catalog import Category, Part, read_category
from g2s_cli.weights.compatibility import trained_with_hash
from g2s_cli.weights.release import WAYS_OUT

CARD, README = "model.toml", "README.md"
PULLED = "hub.json"  # beside a card: the repository and the commit it came from
ANSWER_SECONDS = 5.0


class NotOnHubError(WeightsError):
    """The repository answers, but has no such file."""


@dataclass(frozen=True)
class HubRepo:
    """A model repository, at a revision: a branch, a tag or a commit."""

    name: str
    revision: str

    @classmethod
    def parse(cls, text: str) -> HubRepo:
        """ "owner/name" or "owner/name@revision". Raises UsageError."""
        name, _, revision = text.partition("@")
        if name.count("/") != 1 or not all(name.split("/")):
            raise UsageError(f"{text!r} is no Hub repository.", "Write owner/name, or owner/name@revision.")
        return cls(name, revision or "main")


def pull_category(category: str, repo: HubRepo) -> HubRepo:
    """Put a category's model.toml and README.md from the Hub into the cache. Returns the repository at that commit."""
    card = _download(repo, f"{category}/{CARD}")
    _read(card, repo)
    fixed = HubRepo(repo.name, _commit_of(card, category) or repo.revision)
    contents = {PULLED: (json.dumps({"repo": f"{fixed.name}@{fixed.revision}"}) + "\n").encode()}
    with suppress(WeightsError):  # a repository can do without
        contents[README] = _download(fixed, f"{category}/{README}").read_bytes()
    for name, content in (contents | {CARD: card.read_bytes()}).items():  # the card last: with it there is a category
        with replacing(cache_root() / category / name) as temporary:
            temporary.write_bytes(content)
    return fixed


def pulled_revision(folder: Path) -> str:
    """The repository and the commit that a category's description was pulled from; "" if it was not."""
    try:
        return str(json.loads((folder / PULLED).read_text())["repo"])
    except (OSError, ValueError, LookupError, TypeError):
        return ""


def _read(card: Path, repo: HubRepo) -> Category:
    """The category that a repository's model.toml describes. Raises WeightsError."""
    try:
        return read_category(card.parent)
    except WeightsError as error:
        raise WeightsError(
            f"{repo.name} has a card that cannot be used. {error.what}", "Tell its publisher."
        ) from error


def fetch_from_hub(
    category: Category, parts: Sequence[Part], repo: HubRepo, along: Sequence[Part] = ()
) -> dict[Part, CachedFile]:
    """Download parts of a category, all from one commit, and check each against the hash its model.toml states.

    along: parts that are downloaded too if the repository states them.
    Raises WeightsError; a file that is not what was stated is deleted and named.
    """
    card = _download(repo, f"{category.name}/{CARD}")
    commit = _commit_of(card, category.name) or repo.revision
    fixed = HubRepo(repo.name, commit)
    stated = _read(card, repo).weights
    if unknown := [part for part in parts if part not in stated or not stated[part].sha256]:
        raise WeightsError(
            f"{repo.name} states no file with a SHA-256 for {', '.join(unknown)} of {category.name}.",
            "Publish it with: g2s weights publish.",
        )
    parts = [*parts, *(part for part in along if part in stated and stated[part].sha256)]
    hashes = {part: category.weights[part].sha256 if part in category.weights else "" for part in parts}
    if other := [part for part in parts if hashes[part] not in {"", stated[part].sha256}]:
        raise WeightsError(
            f"{repo.name} has another {' and '.join(other)} of {category.name} than {category.folder / CARD} states.",
            f"Delete {category.folder} to take the category from there.",
        )
    found: dict[Part, CachedFile] = {}
    for part in parts:
        path = _download(fixed, f"{category.name}/{stated[part].file}")
        if sha256_of(path) != stated[part].sha256:
            path.resolve().unlink(missing_ok=True)
            path.unlink(missing_ok=True)
            raise WeightsError(
                f"{category.name}/{stated[part].file} of {repo.name} is not the file whose SHA-256 is stated; "
                f"it was deleted from {path.parent}.",
                "Pull again; if that does not help, tell its publisher.",
            )
        found[part] = CachedFile(path, stated[part].sha256, f"Hub, {repo.name}@{commit}")
    return found


def publish(folder: Path, category: str, repo: str) -> str:
    """Upload a prepared folder to `<category>/` of a model repository, made if need be. Returns its address."""
    from huggingface_hub import HfApi  # noqa: PLC0415

    if _offline():
        raise WeightsError(f"{repo} cannot be uploaded: HF_HUB_OFFLINE is set.", "Unset it.")
    api = HfApi(library_name="g2s")
    with hub_errors(repo, "uploaded", "Try again later; nothing is lost."):
        api.create_repo(repo, repo_type="model", exist_ok=True)
        api.upload_folder(
            repo_id=repo, folder_path=folder, path_in_repo=category, commit_message=f"Publish {category} for g2s"
        )
    return f"{api.endpoint}/{repo}"


def _download(repo: HubRepo, file: str) -> Path:
    """A file of a repository in the Hub's own cache. Raises WeightsError."""
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache  # noqa: PLC0415

    with hub_errors(f"{repo.name}, {file}"):
        known = try_to_load_from_cache(repo.name, file, revision=repo.revision)
        if not isinstance(known, str) and not _offline():
            url = hf_hub_url(repo.name, file, revision=repo.revision)
            needed = get_hf_file_metadata(url, timeout=ANSWER_SECONDS).size or 0
            require_space(needed, Path(constants.HF_HUB_CACHE), "HF_HOME")
        return Path(
            hf_hub_download(repo.name, file, revision=repo.revision, etag_timeout=ANSWER_SECONDS, library_name="g2s")
        )


def _offline() -> bool:
    from huggingface_hub import constants  # noqa: PLC0415

    return bool(constants.HF_HUB_OFFLINE)


def _commit_of(path: Path, category: str) -> str:
    """The commit a downloaded file is of: the Hub's cache has a folder for each."""
    parts = path.parts
    at = len(parts) - 2 - len(Path(category).parts)
    return parts[at] if parts[at - 1] == "snapshots" else ""


@contextmanager
def hub_errors(what: str, done: str = "downloaded", remedy: str = WAYS_OUT) -> Iterator[None]:
    """Turn whatever huggingface_hub raises into a WeightsError of one sentence.

    done: what was to be done with it. remedy: where the Hub gives no reason that has a remedy of its own.
    """
    from huggingface_hub import errors  # noqa: PLC0415

    try:
        yield
    except G2SError:
        raise
    except errors.GatedRepoError as error:
        raise WeightsError(f"{what}: access is granted by its owner.", "Ask for it, and set HF_TOKEN.") from error
    except errors.RepositoryNotFoundError as error:
        raise WeightsError(
            f"{what}: the Hub knows no such repository, or it is private.", "Check the name, or set HF_TOKEN."
        ) from error
    except errors.RevisionNotFoundError as error:
        raise WeightsError(f"{what}: the repository has no such revision.", "Check what follows the @.") from error
    except errors.LocalEntryNotFoundError as error:
        if _offline():
            raise WeightsError(
                f"{what}: not on this machine, and HF_HUB_OFFLINE forbids fetching.", WAYS_OUT
            ) from error
        raise WeightsError(f"{what}: not in the cache, and the Hub cannot be reached.", WAYS_OUT) from error
    except errors.EntryNotFoundError as error:
        raise NotOnHubError(f"{what}: the repository has no such file.", "Check the category's name.") from error
    except errors.OfflineModeIsEnabled as error:
        raise WeightsError(
            f"{what}: not in the cache, and HF_HUB_OFFLINE is set.", "Unset it, or pull first."
        ) from error
    except errors.HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else "an error"
        may = "Set HF_TOKEN to a token that may do this."
        raise WeightsError(f"{what}: the Hub answers {status}.", may if status in {401, 403} else remedy) from error
    except OSError as error:
        full = error.errno in {errno.ENOSPC, errno.EDQUOT}
        free = "Free space, or set HF_HOME to a folder on another disk."
        said = f"{what} cannot be {done}: {error.strerror or error}."
        raise WeightsError(said, free if full else remedy) from error
    except Exception as error:  # the HTTP library's own errors; which library it is depends on the version
        raise WeightsError(f"{what} cannot be {done}: {type(error).__name__}: {error}.", remedy) from error


def staged(category: Category, files: dict[Part, Path]) -> tempfile.TemporaryDirectory[str]:
    """A temporary folder as it will lie on the Hub: files, README.md, and model.toml with their hashes."""
    folder = tempfile.TemporaryDirectory(prefix="g2s-publish-")
    place = Path(folder.name)
    card = (category.folder / CARD).read_text(encoding="utf-8")
    for part, path in files.items():
        entry = category.weights.get(part)
        name = entry.file if entry else f"{part}.safetensors"
        (place / name).symlink_to(path.resolve())
        sha256 = sha256_of(path)
        gan_sha256 = trained_with_hash(category, CachedFile(path, sha256, "")) if part == "networks" else ""
        card = with_hash(card, part, name, sha256, gan_sha256)
    (place / CARD).write_text(card, encoding="utf-8")
    try:
        stated = read_category(place).weights
        whole = all(stated[part].sha256 == sha256_of(path) for part, path in files.items())
    except (WeightsError, LookupError):
        whole = False
    if not whole:
        raise WeightsError(
            f"{category.folder / CARD} cannot be given hashes.",
            "Give each of its weights a table of its own: [weights.gan] with file and sha256, a line each.",
        )
    readme = category.folder / README
    (place / README).write_bytes(readme.read_bytes() if readme.is_file() else f"# {category.name}\n".encode())
    return folder


def with_hash(card: str, part: str, file: str, sha256: str, gan_sha256: str = "") -> str:
    """A model.toml whose [weights.part] table states this file and hash, whatever it stated before.

    gan_sha256: of networks, the GAN file that they were trained with; "" states none.
    """
    lines, inside = [], False
    header = f"[weights.{part}]"
    table = {"file": file, "sha256": sha256} | ({"gan_sha256": gan_sha256} if gan_sha256 else {})
    said = [f'{key} = "{value}"' for key, value in table.items()]
    for line in card.splitlines():
        if line.strip().startswith("["):
            inside = line.strip() == header
        if not (inside and line.split("=")[0].strip() in {"file", "sha256", "gan_sha256"}):
            lines.append(line)
        if line.strip() == header:
            lines += said
    if header not in (line.strip() for line in lines):
        lines += ["", header, *said]
    return "\n".join(lines) + "\n"
