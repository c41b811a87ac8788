"""Networks beside another GAN than they were trained with are refused by every command; right pairs are accepted."""

from __future__ import annotations

import json
from pathlib import Path

import fake_checkpoints
import pytest
from caches import COARSE, FACE, NO_PROXY, REPO
from installed import Answer, Command
from servers import TOKEN, HubServer

from g2s_cli.files import sha256_of
from g2s_cli.weights.categories import load_category
from g2s_cli.weights.importers import read_checkpoint
from g2s_cli.weights.registry import store_part
from g2s_cli.weights.tensors import write_weights

Files = dict[str, Path]
IMPORT = ("weights", "import", "-c", "bfm")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache, of the command and of this process."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    return tmp_path / "hf" / "g2s"


@pytest.fixture
def g2s(g2s: Command, home: Path) -> Command:
    return g2s.using(HF_HOME=home.parent)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """Two GANs, as checkpoints and as g2s keeps them; networks of the first, and the same as the authors save them."""
    files: Files = {}
    for name, seed in (("ours", 0), ("other", 7)):
        files[f"{name}.pt"] = tmp_path / f"{name}.pt"
        files[f"{name}.pt"].write_bytes(fake_checkpoints.saved(fake_checkpoints.gan(128, seed=seed)))
        files[name] = tmp_path / f"{name}.safetensors"
        write_weights(read_checkpoint(files[f"{name}.pt"])[1], files[name])
    files["authors"] = tmp_path / "authors.pth"  # which state no GAN
    files["authors"].write_bytes(fake_checkpoints.saved(fake_checkpoints.networks(64)))
    files["networks"] = tmp_path / "networks.safetensors"
    write_weights(read_checkpoint(files["authors"])[1], files["networks"], sha256_of(files["ours"]))
    return files


def store(files: Files, *names: str) -> None:
    """Put files into the cache without a check, as an older g2s did."""
    for name in names:
        part, tensors = read_checkpoint(files[name])
        store_part(load_category("bfm"), part, tensors, files[name], "made up")


def contents(home: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in home.rglob("*") if path.suffix in {".safetensors", ".json"}}


def assert_refused(answer: Answer, *names: object) -> None:
    """Exit code 4, and one sentence that names both files and the remedy."""
    assert (answer.returncode, answer.stdout) == (4, ""), answer.stderr
    [sentence] = [line for line in answer.stderr.splitlines() if "trained with another GAN" in line]
    for words in (*names, "g2s weights import GAN NETWORKS --category"):
        assert str(words) in sentence


def test_a_right_pair_is_imported_at_once_or_one_by_one(g2s: Command, files: Files, home: Path) -> None:
    # A safetensors file is kept byte for byte; a conversion gives the same bytes every time.
    for names in (("ours", "networks"), ("ours.pt",), ("networks",)):
        g2s.ok(*IMPORT, *(files[name] for name in names))
        assert (home / "bfm" / "gan.safetensors").read_bytes() == files["ours"].read_bytes()
        assert (home / "bfm" / "networks.safetensors").read_bytes() == files["networks"].read_bytes()


def test_an_import_of_a_wrong_pair_changes_nothing(g2s: Command, files: Files, home: Path) -> None:
    both = files["other.pt"], files["networks"]
    assert_refused(g2s("weights", "import", *both, "-c", "owls"), *both)
    assert not (home / "owls").exists()
    store(files, "other")
    assert_refused(g2s(*IMPORT, files["networks"]), home / "bfm", files["networks"])
    store(files, "ours", "networks")
    before = contents(home)
    assert_refused(g2s(*IMPORT, files["other"]), files["other"], home / "bfm" / "networks.safetensors")
    assert contents(home) == before


def test_networks_that_state_no_gan_go_with_any(g2s: Command, files: Files) -> None:
    store(files, "ours", "networks")
    g2s.ok(*IMPORT, files["other.pt"], files["authors"])
    g2s.ok("weights", "verify", "bfm")


def test_a_wrong_pair_in_the_cache_is_refused_by_every_command(
    g2s: Command, files: Files, home: Path, tmp_path: Path
) -> None:
    for name, count in (("views", 6), ("lights", 4)):
        files[name] = tmp_path / f"{name}.safetensors"
        write_weights(fake_checkpoints.statistics(count), files[name])
    store(files, "views", "lights", "other", "networks")
    both = (home / "bfm" / "gan.safetensors", home / "bfm" / "networks.safetensors")
    reconstruct = ("reconstruct", FACE, "-c", "bfm", "-o", "out", "--iterations", 0, *COARSE)
    assert_refused(g2s(*reconstruct), *both)
    assert_refused(g2s("weights", "publish", "bfm", "--repo", REPO), *both)
    verified = g2s("weights", "verify", "bfm")
    assert (verified.returncode, len(verified.stdout.splitlines())) == (4, 4)
    assert "trained with another GAN" in verified.stderr
    listed = g2s.ok("weights", "list", "--json")
    mismatches = {row["name"]: row["mismatch"] for row in json.loads(listed.stdout)["categories"]}
    assert mismatches.pop("bfm") in listed.stderr
    assert not any(mismatches.values())
    # A GAN of one's own goes without the category's networks, and a preset that needs them is refused.
    message = g2s.fails(2, *reconstruct, "--gan", files["other.pt"])
    assert "begins from networks trained with its own GAN" in message
    assert not (tmp_path / "out").exists()
    store(files, "ours")
    g2s.ok(*reconstruct)


def test_a_pair_from_the_hub_is_checked(g2s: Command, files: Files, tmp_path: Path) -> None:
    with HubServer({}) as hub:
        g2s = g2s.using(HF_ENDPOINT=hub.url, **NO_PROXY)
        g2s.ok("weights", "import", files["ours.pt"], files["networks"], "-c", "owls")
        g2s.using(HF_TOKEN=TOKEN).ok("weights", "publish", "owls", "--repo", REPO)
        repo = hub.repos[REPO]
        content = repo.commits[repo.revisions["main"]]
        card = content["owls/model.toml"].decode()
        hashes = {name: sha256_of(files[name]) for name in ("ours", "other")}
        assert f'gan_sha256 = "{hashes["ours"]}"' in card
        pull = ("weights", "pull", "owls", "--hub-repo", REPO)
        g2s.using(G2S_CACHE=tmp_path / "right").ok(*pull)
        # Somebody puts another GAN there, with its hash, and leaves the networks.
        card = card.replace(f'\nsha256 = "{hashes["ours"]}"', f'\nsha256 = "{hashes["other"]}"')
        repo.commit(content | {"owls/gan.safetensors": files["other"].read_bytes(), "owls/model.toml": card.encode()})
        answer = g2s.using(G2S_CACHE=tmp_path / "mixed")(*pull)
        assert_refused(answer, "owls/gan.safetensors", "owls/networks.safetensors")
