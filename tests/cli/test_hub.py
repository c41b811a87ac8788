"""Weights on a Hub: the installed command against a local server that speaks its protocol."""

from __future__ import annotations

import shutil
import tomllib
from collections.abc import Callable
from pathlib import Path

import fake_checkpoints
import pytest
import torch
from caches import ALL_OF_CAR, COARSE, FACE, REPO, cached, verify_after_damage
from installed import Command
from safetensors.torch import load_file
from servers import TOKEN, Fault, FileServer, HubServer, Repo

from g2s_cli.files import sha256_of

PULL = ("weights", "pull", "owls", "--hub-repo", REPO)
PUBLISH = ("weights", "publish", "owls", "--repo", REPO)


@pytest.fixture
def published(on_hub: Command, hub: HubServer, owls: Path, home: Path) -> Repo:
    """The Hub repository of owls; the cache is empty."""
    assert on_hub.using(HF_TOKEN=TOKEN).ok(*PUBLISH).stdout.strip().endswith(REPO)
    shutil.rmtree(home)
    return hub.repos[REPO]


def files_of(repo: Repo) -> dict[str, bytes]:
    return repo.commits[repo.revisions["main"]]


def test_imported_published_pulled_reconstructed(
    on_hub: Command, hub: HubServer, owls: Path, home: Path, tmp_path: Path
) -> None:
    tensors = load_file(owls)
    on_hub.using(HF_TOKEN=TOKEN).ok(*PUBLISH)
    shutil.rmtree(home)
    assert {"owls/model.toml", "owls/gan.safetensors", "owls/README.md"} <= files_of(hub.repos[REPO]).keys()
    pulled = load_file(on_hub.ok(*PULL).stdout.strip())
    assert all(torch.equal(pulled[name], tensors[name]) for name in tensors)
    hub.repos.clear()  # all that follows needs no Hub
    on_hub.using(HF_HUB_OFFLINE="1").ok("reconstruct", FACE, "-c", "owls", "--iterations", 1, *COARSE, "-q")
    assert (tmp_path / "out" / "mesh.glb").is_file()


@pytest.mark.usefixtures("published")
def test_a_category_is_pulled_by_its_first_reconstruction(on_hub: Command) -> None:
    on_hub.using(G2S_HUB_REPO=REPO).ok("reconstruct", FACE, "-c", "owls", "--iterations", 0, *COARSE)


def test_a_pinned_revision_is_pulled(on_hub: Command, published: Repo) -> None:
    first = published.revisions["main"]
    published.commit(files_of(published) | {"owls/gan.safetensors": b"something else"})
    assert first in on_hub.ok("weights", "pull", "owls", "--hub-repo", f"{REPO}@{first}").stdout
    missing = on_hub.fails(4, "weights", "pull", "cat", "--hub-repo", f"{REPO}@{'0' * 40}")
    assert "no such revision" in missing


def test_a_file_of_another_hash_is_deleted(on_hub: Command, published: Repo, home: Path) -> None:
    published.commit(files_of(published) | {"owls/gan.safetensors": b"x" * 1000})
    message = on_hub.fails(4, *PULL)
    assert "owls/gan.safetensors" in message
    assert "deleted" in message
    assert not list(home.rglob("gan.safetensors"))
    assert not [path for path in (home / "hub").rglob("blobs/*") if path.stat().st_size == 1000]


@pytest.mark.usefixtures("published")
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_cut_download_is_resumed(on_hub: Command, hub: HubServer, share: float) -> None:
    hub.faults.append(Fault("/cdn/", "cut", share=share))
    on_hub.ok(*PULL)
    on_hub.ok("weights", "verify", "owls")


@pytest.mark.usefixtures("published")
def test_a_download_with_wrong_bytes_is_deleted_and_can_be_repeated(
    on_hub: Command, hub: HubServer, home: Path
) -> None:
    hub.faults.append(Fault("/cdn/", "wrong"))
    assert "deleted" in on_hub.fails(4, *PULL)
    assert not list(home.rglob("gan.safetensors"))
    on_hub.ok(*PULL)
    on_hub.ok("weights", "verify", "owls")


@pytest.mark.slow
@pytest.mark.usefixtures("published")
def test_two_processes_at_once_download_once(start: Callable, on_hub: Command, hub: HubServer) -> None:
    hub.faults.append(Fault("/cdn/", "slow", seconds=0.1))
    both = [start(*PULL, **on_hub.environment) for _ in range(2)]
    for process in both:
        _, stderr = process.communicate(timeout=60)
        assert process.returncode == 0, stderr
    on_hub.ok("weights", "verify", "owls")
    assert len([entry for entry in hub.log if entry.method == "GET" and "/cdn/" in entry.path]) == 1


@pytest.mark.usefixtures("published")
@pytest.mark.parametrize(
    ("status", "message"), [(401, "HF_TOKEN"), (403, "HF_TOKEN"), (404, "owls"), (429, "429"), (503, "503")]
)
def test_an_error_status_of_the_hub_is_named(
    on_hub: Command, hub: HubServer, home: Path, status: int, message: str
) -> None:
    hub.faults.append(Fault("model.toml", "status", status=status, times=99))
    assert message in on_hub.fails(4, *PULL).splitlines()[-1]
    assert cached(home, "owls") == []


@pytest.mark.usefixtures("owls")
def test_unknown_gated_and_forbidden_repositories(on_hub: Command, hub: HubServer) -> None:
    hub.repos["somebody/secret"] = Repo.of({"owls/model.toml": b""}, gated=True)
    pull = ("weights", "pull", "cat", "--hub-repo")
    assert "no such repository" in on_hub.fails(4, *pull, "no/body")
    assert "granted by its owner" in on_hub.fails(4, *pull, "somebody/secret")
    assert "is no Hub repository" in on_hub.fails(2, *pull, "nobody")
    assert "HF_TOKEN" in on_hub.fails(4, *PUBLISH)


def test_a_pulled_file_is_repaired_from_its_own_repository(on_hub: Command, published: Repo, home: Path) -> None:
    path = Path(on_hub.ok(*PULL).stdout.strip())
    card = files_of(published)["owls/model.toml"]
    moved = {"owls/gan.safetensors": b"another", "owls/model.toml": card.replace(b'sha256 = "', b'sha256 = "0')}
    published.commit(files_of(published) | moved)
    for arguments in ((), ("--hub-repo", REPO)):
        path.write_bytes(path.read_bytes()[:-5])
        assert "g2s weights pull owls" in on_hub.fails(4, "weights", "verify", "owls")
        assert not path.exists()
        assert on_hub.ok("weights", "pull", "owls", *arguments).stdout.strip() == str(path)
    path.unlink()
    message = on_hub.fails(4, "weights", "pull", "owls", "--hub-repo", f"{REPO}@main")
    assert "has another gan of owls than" in message
    assert f"Delete {home / 'g2s' / 'owls'}" in message


def test_a_repository_needs_no_readme(on_hub: Command, published: Repo) -> None:
    del files_of(published)["owls/README.md"]
    on_hub.ok(*PULL)


def test_a_category_with_an_unusable_card_is_not_kept(on_hub: Command, published: Repo, home: Path) -> None:
    card = files_of(published)["owls/model.toml"]
    published.commit(files_of(published) | {"bad/model.toml": card.replace(b"[image]", b"[image]\ncrop_of = 0")})
    assert "a model.toml that cannot be used" in on_hub.fails(4, "weights", "pull", "bad", "--hub-repo", REPO)
    assert cached(home, "bad") == []


def test_files_missing_from_the_environments_repository_come_from_the_release(
    on_hub: Command, hub: HubServer, release: FileServer, home: Path
) -> None:
    hub.repos[REPO] = Repo.of({"owls/model.toml": b""})
    g2s = on_hub.using(G2S_RELEASE_URL=release.url)
    assert "has no such file" in g2s.fails(4, "weights", "pull", "car", "--hub-repo", REPO)
    g2s.using(G2S_HUB_REPO=REPO).ok("weights", "pull", "car")
    assert cached(home, "car") == ALL_OF_CAR


@pytest.mark.usefixtures("owls")
def test_a_quiet_upload_prints_nothing(on_hub: Command) -> None:
    assert on_hub.using(HF_TOKEN=TOKEN).ok(*PUBLISH, "-q").stderr == ""


@pytest.mark.usefixtures("owls")
@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({}, "the Hub answers 500. Try again later; nothing is lost."),
        ({"HF_ENDPOINT": "http://127.0.0.1:9"}, f"{REPO} cannot be uploaded: "),
        ({"HF_HUB_OFFLINE": "1"}, f"{REPO} cannot be uploaded: HF_HUB_OFFLINE is set. Unset it."),
    ],
)
def test_a_failed_upload_is_not_called_a_download(
    on_hub: Command, hub: HubServer, environment: dict[str, str], message: str
) -> None:
    hub.faults.append(Fault("api", "status", status=500, times=99))
    line = on_hub.using(HF_TOKEN=TOKEN, **environment).fails(4, *PUBLISH).splitlines()[-1]
    assert message in line
    assert not any(words in line for words in ("download", "import", "pull"))


@pytest.mark.usefixtures("owls")
def test_a_revision_cannot_be_published_to(on_hub: Command, hub: HubServer) -> None:
    message = on_hub.using(HF_TOKEN=TOKEN).fails(2, "weights", "publish", "owls", "--repo", f"{REPO}@v2")
    assert f"--repo {REPO}" in message
    assert not hub.repos


def test_a_model_toml_of_inline_tables_is_published_with_hashes(on_hub: Command, hub: HubServer, owls: Path) -> None:
    card = owls.parent / "model.toml"
    lines = [line for line in card.read_text().splitlines() if not line.startswith(("[weights", "file =", "sha256 ="))]
    card.write_text("\n".join(['weights = {gan = {file = "gan.safetensors"}}', *lines]))
    on_hub.using(HF_TOKEN=TOKEN).ok(*PUBLISH)
    published = files_of(hub.repos[REPO])["owls/model.toml"].decode()
    assert tomllib.loads(published)["weights"]["gan"]["sha256"] == sha256_of(owls)


def test_verify_names_a_damaged_import(on_hub: Command, owls: Path) -> None:
    verify_after_damage(on_hub, "owls", owls)


@pytest.mark.usefixtures("owls")
def test_a_cache_can_be_moved(on_hub: Command, home: Path, tmp_path: Path) -> None:
    home.rename(tmp_path / "moved here")
    answer = on_hub.using(HF_HOME="moved here").ok("weights", "verify", "owls")
    assert answer.stdout.startswith("ok ")
    assert "moved here" in answer.stdout


@pytest.mark.usefixtures("published")
@pytest.mark.parametrize("verb", [("weights", "import", "o.pt", "-c", "new"), PULL])
def test_a_cache_that_cannot_be_written_is_named(on_hub: Command, tmp_path: Path, verb: tuple) -> None:
    (tmp_path / "o.pt").write_bytes(fake_checkpoints.saved(fake_checkpoints.statistics(6)))
    (tmp_path / "cache").write_text("a file where a folder should be")
    assert "Set G2S_CACHE to a folder of yours" in on_hub.using(G2S_CACHE="cache").fails(4, *verb)
