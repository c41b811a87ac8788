"""Networks beside another GAN than they were trained with: refused at every door, and the right pair let in."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import fake_checkpoints
import pytest
from servers import TOKEN, HubServer

from g2s_cli.files import sha256_of
from g2s_cli.weights.categories import load_category
from g2s_cli.weights.importers import read_checkpoint
from g2s_cli.weights.registry import store_part
from g2s_cli.weights.tensors import write_weights

FACE = Path(__file__).parent.parent / "data" / "face.png"
REPO = "somebody/shapes"
Files = dict[str, Path]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """HF_HOME, so g2s's cache too, of the command and of this process."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    return tmp_path / "hf" / "g2s"


@pytest.fixture
def run(g2s: Callable, home: Path) -> Callable:
    return lambda *arguments, **environment: g2s(*arguments, HF_HOME=str(home.parent), **environment)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """Two GANs, as checkpoints and as g2s keeps them; networks of the first, and the same as the authors save them."""
    result: Files = {}
    for name, seed in (("ours", 0), ("other", 7)):
        result[f"{name}.pt"] = tmp_path / f"{name}.pt"
        result[f"{name}.pt"].write_bytes(fake_checkpoints.saved(fake_checkpoints.gan(128, seed=seed)))
        result[name] = tmp_path / f"{name}.safetensors"
        write_weights(read_checkpoint(result[f"{name}.pt"])[1], result[name])
    result["silent"] = tmp_path / "silent.pth"
    result["silent"].write_bytes(fake_checkpoints.saved(fake_checkpoints.networks(64)))
    result["networks"] = tmp_path / "networks.safetensors"
    write_weights(read_checkpoint(result["silent"])[1], result["networks"], sha256_of(result["ours"]))
    return result


def put(files: Files, *names: str) -> None:
    """Files in the cache without a question, as an older g2s left them."""
    for name in names:
        part, tensors = read_checkpoint(files[name])
        store_part(load_category("bfm"), part, tensors, files[name], "made up")


def kept(home: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in home.rglob("*") if path.suffix in {".safetensors", ".json"}}


def refused(answer: object, *names: object) -> None:
    """Exit code 4, and one sentence that names both files and what to do."""
    assert answer.returncode == 4, answer.stderr
    assert answer.stdout == ""
    sentences = [line for line in answer.stderr.splitlines() if "trained with another GAN" in line]
    assert len(sentences) == 1
    for said in (*names, "g2s weights import GAN NETWORKS --category"):
        assert str(said) in sentences[0]


def test_a_right_pair_is_imported_at_once_or_one_by_one(run: Callable, files: Files, home: Path) -> None:
    # What is a safetensors file already is kept byte for byte; what is converted comes out the same every time.
    for names in (("ours", "networks"), ("ours.pt",), ("networks",)):
        answer = run("weights", "import", *(files[name] for name in names), "-c", "bfm")
        assert answer.returncode == 0, answer.stderr
        assert (home / "bfm" / "gan.safetensors").read_bytes() == files["ours"].read_bytes()
        assert (home / "bfm" / "networks.safetensors").read_bytes() == files["networks"].read_bytes()


def test_an_import_that_would_mix_two_is_refused_and_changes_nothing(run: Callable, files: Files, home: Path) -> None:
    both = files["other.pt"], files["networks"]
    refused(run("weights", "import", *both, "-c", "owls"), *both)
    assert not (home / "owls").exists()
    put(files, "other")
    refused(run("weights", "import", files["networks"], "-c", "bfm"), home / "bfm", files["networks"])
    put(files, "ours", "networks")
    before = kept(home)
    there = home / "bfm" / "networks.safetensors"
    refused(run("weights", "import", files["other"], "-c", "bfm"), files["other"], there)
    assert kept(home) == before


def test_networks_that_say_nothing_go_with_any_gan(run: Callable, files: Files, home: Path) -> None:
    put(files, "ours", "networks")
    assert run("weights", "import", files["other.pt"], files["silent"], "-c", "bfm").returncode == 0
    assert run("weights", "verify", "bfm").returncode == 0


def test_what_lies_there_mixed_is_refused_whoever_asks(run: Callable, files: Files, home: Path, tmp_path: Path) -> None:
    for name, count in (("views", 6), ("lights", 4)):
        files[name] = tmp_path / f"{name}.safetensors"
        write_weights(fake_checkpoints.statistics(count), files[name])
    put(files, "views", "lights", "other", "networks")
    both = (home / "bfm" / "gan.safetensors", home / "bfm" / "networks.safetensors")
    refused(run("reconstruct", FACE, "-c", "bfm", "-o", "out"), *both)
    refused(run("weights", "publish", "bfm", "--repo", REPO), *both)
    verified = run("weights", "verify", "bfm")
    assert (verified.returncode, len(verified.stdout.splitlines())) == (4, 4)
    assert "trained with another GAN" in verified.stderr
    listed = run("weights", "list", "--json")
    assert listed.returncode == 0
    rows = {row["name"]: row["mismatch"] for row in json.loads(listed.stdout)["categories"]}
    assert rows.pop("bfm") in listed.stderr
    assert not any(rows.values())
    # A GAN of one's own goes without the category's networks, and a preset that needs them says so.
    own = run("reconstruct", FACE, "-c", "bfm", "--gan", files["other.pt"], "-o", "out", "--iterations", 0)
    assert own.returncode == 2
    assert "begins from networks trained with its own GAN" in own.stderr
    assert not (tmp_path / "out").exists()
    put(files, "ours")
    result = run("reconstruct", FACE, "-c", "bfm", "-o", "out", "--iterations", 0)
    assert result.returncode == 0, result.stderr


@pytest.fixture
def hub() -> Iterator[HubServer]:
    with HubServer({}) as server:
        yield server


def test_the_hub_s_pair_is_checked_as_it_is_pulled(
    run: Callable, hub: HubServer, files: Files, home: Path, tmp_path: Path
) -> None:
    there = {"HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1", "NO_PROXY": "127.0.0.1"}
    assert run("weights", "import", files["ours.pt"], files["networks"], "-c", "owls").returncode == 0
    published = run("weights", "publish", "owls", "--repo", REPO, HF_TOKEN=TOKEN, **there)
    assert published.returncode == 0, published.stderr
    repo = hub.repos[REPO]
    content = repo.commits[repo.revisions["main"]]
    card = content["owls/model.toml"].decode()
    hashes = {name: sha256_of(files[name]) for name in ("ours", "other")}
    assert f'gan_sha256 = "{hashes["ours"]}"' in card
    pulling = ("weights", "pull", "owls", "--hub-repo", REPO)
    elsewhere = {name: there | {"G2S_CACHE": str(tmp_path / name)} for name in ("right", "mixed")}
    right = run(*pulling, **elsewhere["right"])
    assert right.returncode == 0, right.stderr
    # Somebody puts another GAN there, with its hash, and leaves the networks.
    card = card.replace(f'\nsha256 = "{hashes["ours"]}"', f'\nsha256 = "{hashes["other"]}"')
    repo.commit(content | {"owls/gan.safetensors": files["other"].read_bytes(), "owls/model.toml": card.encode()})
    refused(run(*pulling, **elsewhere["mixed"]), "owls/gan.safetensors", "owls/networks.safetensors")
