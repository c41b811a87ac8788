"""Weights on a Hub: the installed command against a local server that speaks its protocol."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path

import fake_checkpoints
import pytest
import torch
from caches import ALL_OF_CAR, FACE, OUTSIDE, REPO, kept, noticed, one_sentence, published
from safetensors.torch import load_file
from servers import TOKEN, Fault, FileServer, HubServer, Repo

from g2s_cli.files import sha256_of


def test_imported_published_pulled_reconstructed(
    on_hub: Callable, hub: HubServer, owls: Path, home: Path, tmp_path: Path
) -> None:
    tensors = load_file(owls)
    published(on_hub, home)
    assert {"owls/model.toml", "owls/gan.safetensors", "owls/README.md"} <= hub.repos[REPO].commits[
        hub.repos[REPO].revisions["main"]
    ].keys()
    pulled = on_hub("weights", "pull", "owls", "--hub-repo", REPO)
    assert pulled.returncode == 0, pulled.stderr
    again = load_file(pulled.stdout.strip())
    assert all(torch.equal(again[name], tensors[name]) for name in tensors)
    hub.repos.clear()  # all that follows needs no Hub
    arguments = ("reconstruct", FACE, "-c", "owls", "-o", "out", "--iterations", 2, "-q")
    answer = on_hub(*arguments, HF_HUB_OFFLINE="1")
    assert answer.returncode == 0, answer.stderr
    assert (tmp_path / "out" / "mesh.glb").is_file()


def test_a_category_nobody_pulled_comes_with_its_first_reconstruction(on_hub: Callable, owls: Path, home: Path) -> None:
    published(on_hub, home)
    arguments = ("reconstruct", FACE, "-c", "owls", "-o", "out", "--iterations", 1)
    assert on_hub(*arguments, G2S_HUB_REPO=REPO).returncode == 0


def test_a_pinned_revision_is_kept(on_hub: Callable, hub: HubServer, owls: Path, home: Path) -> None:
    published(on_hub, home)
    repo = hub.repos[REPO]
    first = repo.revisions["main"]
    repo.commit(repo.commits[first] | {"owls/gan.safetensors": b"something else"})
    answer = on_hub("weights", "pull", "owls", "--hub-repo", f"{REPO}@{first}")
    assert answer.returncode == 0, answer.stderr
    assert first in answer.stdout
    assert "no such revision" in one_sentence(on_hub("weights", "pull", "cat", "--hub-repo", f"{REPO}@{'0' * 40}"), 4)


def test_a_file_that_is_not_the_one_stated_is_deleted(on_hub: Callable, hub: HubServer, owls: Path, home: Path) -> None:
    published(on_hub, home)
    repo = hub.repos[REPO]
    repo.commit(repo.commits[repo.revisions["main"]] | {"owls/gan.safetensors": b"x" * 1000})
    said = one_sentence(on_hub("weights", "pull", "owls", "--hub-repo", REPO), 4)
    assert "owls/gan.safetensors" in said
    assert "deleted" in said
    assert not list(home.rglob("gan.safetensors"))
    assert not [path for path in (home / "hub").rglob("blobs/*") if path.stat().st_size == 1000]


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_cut_download_ends_well_all_the_same(
    on_hub: Callable, hub: HubServer, owls: Path, home: Path, share: float
) -> None:
    published(on_hub, home)
    hub.faults.append(Fault("/cdn/", "cut", share=share))
    answer = on_hub("weights", "pull", "owls", "--hub-repo", REPO)
    assert answer.returncode == 0, answer.stderr
    assert on_hub("weights", "verify", "owls").returncode == 0


def test_bytes_that_change_on_the_way_are_deleted_and_fetched_again(
    on_hub: Callable, hub: HubServer, owls: Path, home: Path
) -> None:
    published(on_hub, home)
    hub.faults.append(Fault("/cdn/", "wrong"))
    assert "deleted" in one_sentence(on_hub("weights", "pull", "owls", "--hub-repo", REPO), 4)
    assert not list(home.rglob("gan.safetensors"))
    assert on_hub("weights", "pull", "owls", "--hub-repo", REPO).returncode == 0
    assert on_hub("weights", "verify", "owls").returncode == 0


def test_two_processes_at_once_pull_one_good_file(
    start: Callable, on_hub: Callable, hub: HubServer, owls: Path, home: Path
) -> None:
    published(on_hub, home)
    hub.faults.append(Fault("/cdn/", "slow", seconds=0.1))
    environment = {"HF_HOME": str(home), "HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1"} | OUTSIDE
    both = [start("weights", "pull", "owls", "--hub-repo", REPO, **environment) for _ in range(2)]
    for process in both:
        _, stderr = process.communicate(timeout=60)
        assert process.returncode == 0, stderr
    assert on_hub("weights", "verify", "owls").returncode == 0
    assert len([entry for entry in hub.log if entry.method == "GET" and "/cdn/" in entry.path]) == 1


@pytest.mark.parametrize(
    ("status", "says"), [(401, "HF_TOKEN"), (403, "HF_TOKEN"), (404, "owls"), (429, "429"), (503, "503")]
)
def test_what_the_hub_answers_is_said(
    on_hub: Callable, hub: HubServer, owls: Path, home: Path, status: int, says: str
) -> None:
    published(on_hub, home)
    hub.faults.append(Fault("model.toml", "status", status=status, times=99))
    assert says in one_sentence(on_hub("weights", "pull", "owls", "--hub-repo", REPO), 4)
    assert kept(home, "owls") == []


def test_unknown_gated_and_forbidden(on_hub: Callable, hub: HubServer, owls: Path) -> None:
    hub.repos["somebody/secret"] = Repo.of({"owls/model.toml": b""}, gated=True)
    assert "no such repository" in one_sentence(on_hub("weights", "pull", "cat", "--hub-repo", "no/body"), 4)
    assert "granted by its owner" in one_sentence(on_hub("weights", "pull", "cat", "--hub-repo", "somebody/secret"), 4)
    assert "is no Hub repository" in one_sentence(on_hub("weights", "pull", "cat", "--hub-repo", "nobody"), 2)
    assert "HF_TOKEN" in one_sentence(on_hub("weights", "publish", "owls", "--repo", REPO), 4)


def test_what_was_pulled_is_mended_from_where_it_came(on_hub: Callable, hub: HubServer, owls: Path, home: Path) -> None:
    published(on_hub, home)
    path = Path(on_hub("weights", "pull", "owls", "--hub-repo", REPO).stdout.strip())
    repo = hub.repos[REPO]
    card = repo.commits[repo.revisions["main"]]["owls/model.toml"]
    moved = {"owls/gan.safetensors": b"another", "owls/model.toml": card.replace(b'sha256 = "', b'sha256 = "0')}
    repo.commit(repo.commits[repo.revisions["main"]] | moved)
    for arguments in ((), ("--hub-repo", REPO)):
        path.write_bytes(path.read_bytes()[:-5])
        answer = on_hub("weights", "verify", "owls")
        assert answer.returncode == 4
        assert "g2s weights pull owls" in answer.stderr
        assert not path.exists()
        answer = on_hub("weights", "pull", "owls", *arguments)
        assert answer.returncode == 0, answer.stderr
        assert answer.stdout.strip() == str(path)
    path.unlink()
    said = one_sentence(on_hub("weights", "pull", "owls", "--hub-repo", f"{REPO}@main"), 4)
    assert "has another gan of owls than" in said
    assert f"Delete {home / 'g2s' / 'owls'}" in said


def test_a_repository_needs_no_readme_and_a_bad_card_is_not_kept(
    on_hub: Callable, hub: HubServer, owls: Path, home: Path
) -> None:
    published(on_hub, home)
    files = hub.repos[REPO].commits[hub.repos[REPO].revisions["main"]]
    card = files["owls/model.toml"]
    hub.repos[REPO] = Repo.of({"bad/model.toml": card.replace(b"[image]", b"[image]\ncrop_of = 0"), **files})
    del hub.repos[REPO].commits[hub.repos[REPO].revisions["main"]]["owls/README.md"]
    assert "a model.toml that cannot be used" in one_sentence(on_hub("weights", "pull", "bad", "--hub-repo", REPO), 4)
    assert kept(home, "bad") == []
    answer = on_hub("weights", "pull", "owls", "--hub-repo", REPO)
    assert answer.returncode == 0, answer.stderr


def test_what_a_general_hub_repository_lacks_comes_from_the_release(
    on_hub: Callable, hub: HubServer, release: FileServer, home: Path
) -> None:
    hub.repos[REPO] = Repo.of({"owls/model.toml": b""})
    refused = on_hub("weights", "pull", "car", "--hub-repo", REPO, G2S_RELEASE_URL=release.url)
    assert "has no such file" in one_sentence(refused, 4)
    answer = on_hub("weights", "pull", "car", G2S_HUB_REPO=REPO, G2S_RELEASE_URL=release.url)
    assert answer.returncode == 0, answer.stderr
    assert kept(home, "car") == ALL_OF_CAR


def test_quiet_uploads_say_nothing(on_hub: Callable, owls: Path) -> None:
    assert on_hub("weights", "publish", "owls", "--repo", REPO, "-q", HF_TOKEN=TOKEN).stderr == ""


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({}, "the Hub answers 500. Try again later; nothing is lost."),
        ({"HF_ENDPOINT": "http://127.0.0.1:9"}, f"{REPO} cannot be uploaded: "),
        ({"HF_HUB_OFFLINE": "1"}, f"{REPO} cannot be uploaded: HF_HUB_OFFLINE is set. Unset it."),
    ],
)
def test_an_upload_that_fails_is_not_called_a_download(
    on_hub: Callable, hub: HubServer, owls: Path, environment: dict[str, str], says: str
) -> None:
    hub.faults.append(Fault("api", "status", status=500, times=99))
    said = one_sentence(on_hub("weights", "publish", "owls", "--repo", REPO, HF_TOKEN=TOKEN, **environment), 4)
    assert says in said
    assert not any(words in said for words in ("download", "import", "pull"))


def test_a_revision_is_not_published_to(on_hub: Callable, hub: HubServer, owls: Path) -> None:
    said = one_sentence(on_hub("weights", "publish", "owls", "--repo", f"{REPO}@v2", HF_TOKEN=TOKEN), 2)
    assert f"--repo {REPO}" in said
    assert not hub.repos


def test_a_model_toml_of_inline_tables_is_published_with_hashes(on_hub: Callable, hub: HubServer, owls: Path) -> None:
    card = owls.parent / "model.toml"
    lines = [line for line in card.read_text().splitlines() if not line.startswith(("[weights", "file =", "sha256 ="))]
    card.write_text("\n".join(['weights = {gan = {file = "gan.safetensors"}}', *lines]))
    answer = on_hub("weights", "publish", "owls", "--repo", REPO, HF_TOKEN=TOKEN)
    assert answer.returncode == 0, answer.stderr
    published = hub.repos[REPO].commits[hub.repos[REPO].revisions["main"]]["owls/model.toml"].decode()
    assert tomllib.loads(published)["weights"]["gan"]["sha256"] == sha256_of(owls)


def test_a_damaged_import_of_a_new_category_is_noticed(on_hub: Callable, owls: Path) -> None:
    noticed(on_hub, "owls", owls)


def test_a_cache_can_be_moved(on_hub: Callable, owls: Path, home: Path, tmp_path: Path) -> None:
    home.rename(tmp_path / "moved here")
    answer = on_hub("weights", "verify", "owls", HF_HOME="moved here")
    assert answer.stdout.startswith("ok ")
    assert "moved here" in answer.stdout


@pytest.mark.parametrize("verb", [("import", "o.pt", "-c", "new"), ("pull", "owls", "--hub-repo", REPO)])
def test_a_cache_that_cannot_be_written(on_hub: Callable, owls: Path, home: Path, tmp_path: Path, verb: tuple) -> None:
    published(on_hub, home)
    (tmp_path / "o.pt").write_bytes(fake_checkpoints.saved(fake_checkpoints.statistics(6)))
    (tmp_path / "cache").write_text("a file where a folder should be")
    said = one_sentence(on_hub("weights", *verb, G2S_CACHE="cache"), 4)
    assert "Set G2S_CACHE to a folder of yours" in said
