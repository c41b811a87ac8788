"""g2s weights, and reconstructions that fetch what they need: the installed command against local servers."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import made_up
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from servers import TOKEN, Fault, FileServer, HubServer, Repo

from g2s_cli.zoo.catalog import load_category

FACE = Path(__file__).parent.parent / "data" / "face.png"
CATEGORIES = ["celeba", "cat", "car", "church"]
OUTSIDE = {"HTTP_PROXY": "", "HTTPS_PROXY": "", "NO_PROXY": "127.0.0.1"}
REPO = "somebody/shapes"


def members(name: str) -> dict[str, bytes]:
    """What the release has of a category, in small."""
    category = load_category(name)
    contents = {
        # A file's own size counts; pictures of 512 px would take minutes here.
        "gan": lambda: made_up.gan(category.image_size if category.frame_share < 1 else 128),
        "networks": lambda: made_up.networks(category.working_size),
        "views": lambda: made_up.statistics(6),
        "lights": lambda: made_up.statistics(4),
        "parsing": lambda: made_up.parsing(category.mask.parser, category.mask.classes[0][0]),
    }
    return {entry.member: made_up.saved(contents[part]()) for part, entry in category.weights.items()}


@pytest.fixture(scope="module")
def archives() -> dict[str, dict[str, bytes]]:
    return {name: made_up.release(members(name) | {"checkpoints/other.bin": bytes(9999)}) for name in CATEGORIES}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """HF_HOME, so g2s's cache too."""
    return tmp_path / "hf"


@pytest.fixture
def release(archives: dict[str, dict[str, bytes]]) -> Iterator[FileServer]:
    with FileServer(dict(archives["car"])) as server:
        yield server


@pytest.fixture
def from_release(g2s: Callable, release: FileServer, home: Path) -> Callable:
    return lambda *arguments: g2s(*arguments, HF_HOME=str(home), G2S_RELEASE_URL=release.url, **OUTSIDE)


def kept(home: Path, name: str) -> list[str]:
    folder = home / "g2s" / name
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".lock")) if folder.exists() else []


ALL_OF_CAR = sorted(f"{part}.{suffix}" for part in load_category("car").weights for suffix in ("json", "safetensors"))


def one_sentence(answer: object, code: int) -> str:
    assert answer.returncode == code, answer.stderr
    assert "Traceback" not in answer.stderr
    assert answer.stdout == ""
    return answer.stderr.splitlines()[-1]


@pytest.mark.parametrize("name", CATEGORIES)
def test_from_the_release_to_a_mesh(
    g2s: Callable, archives: dict[str, dict[str, bytes]], home: Path, tmp_path: Path, name: str
) -> None:
    Image.open(FACE).resize((300, 260)).save(tmp_path / "photo.jpg")
    with FileServer(archives[name]) as server:
        environment = {"HF_HOME": str(home), "G2S_RELEASE_URL": server.url} | OUTSIDE
        for folder in ("out", "again"):
            quick = ("--iterations", 2 if folder == "out" else 0, "--json")
            answer = g2s("reconstruct", "photo.jpg", "-c", name, "-o", folder, *quick, **environment)
            assert answer.returncode == 0, answer.stderr
        assert [entry.path for entry in server.log] == ["/x00", "/x01", "/x02", "/x03"]  # once, and whole
    report = json.loads(answer.stdout)
    category = load_category(name)
    assert report["weights"].keys() == {*category.needs(category.preset("fast")), "parsing"}
    assert report["mask"] == category.mask.parser
    assert report["background"] == ("remove" if category.preset("fast").masked else "keep")
    out = tmp_path / "out"
    with Image.open(out / "input.png") as shown:
        assert shown.size == (category.working_size, category.working_size)
    assert (out / "mesh.glb").stat().st_size > 1000
    answer = g2s("rotate", "out", "--yaw", "5", "--by", "gan", HF_HOME=str(home), HF_HUB_OFFLINE="1", **OUTSIDE)
    assert answer.returncode == 0, answer.stderr
    with Image.open(out / "rotate" / "000.png") as turned:
        assert turned.size == (category.working_size, category.working_size)


def test_pull_verify_path_and_list(from_release: Callable, home: Path, release: FileServer) -> None:
    pulled = from_release("weights", "pull", "car")
    assert pulled.returncode == 0, pulled.stderr
    assert kept(home, "car") == ALL_OF_CAR
    paths = pulled.stdout.splitlines()
    assert from_release("weights", "path", "car").stdout.splitlines() == paths
    assert from_release("weights", "verify", "car").stdout.splitlines() == [f"ok  {path}" for path in paths]
    listed = json.loads(from_release("weights", "list", "--json").stdout)["categories"]
    assert next(row for row in listed if row["name"] == "car")["missing"] == []
    assert next(row for row in listed if row["name"] == "church")["missing"] == ["gan", "views", "lights", "parsing"]
    assert [row["name"] for row in listed if row["yours"] == ["gan"]] == ["horse", "own"]
    table = from_release("weights", "list").stdout
    assert all(row["name"] in table for row in listed)
    asked = len(release.log)
    assert from_release("weights", "pull", "car").returncode == 0
    assert len(release.log) == asked  # nothing is fetched twice


def test_a_damaged_file_is_deleted_and_named(from_release: Callable, home: Path) -> None:
    from_release("weights", "pull", "car")
    path = home / "g2s" / "car" / "gan.safetensors"
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    answer = from_release("weights", "verify", "car")
    assert answer.returncode == 4
    assert str(path) in answer.stderr
    assert "g2s weights pull car" in answer.stderr
    assert not path.exists()
    assert from_release("weights", "pull", "car").returncode == 0
    assert from_release("weights", "verify").returncode == 0


@pytest.mark.parametrize("kind", ["cut", "wrong", "404", "disk"])
def test_a_pull_that_fails_leaves_no_bad_cache(
    from_release: Callable, home: Path, release: FileServer, kind: str
) -> None:
    if kind == "404":
        release.faults.append(Fault("x01", "status", status=404))
    elif kind == "disk":
        pytest.importorskip("resource")
    elif kind == "cut":
        release.files["/x03"] = release.files["/x03"][: len(release.files["/x03"]) // 2]  # for good
    else:
        release.faults.append(Fault("x02", "wrong"))
    if kind == "disk":
        home.mkdir()
        (home / "g2s").write_text("a file where the cache's folder should be")
        assert "g2s" in one_sentence(from_release("weights", "pull", "car"), 4)
        return
    said = one_sentence(from_release("weights", "pull", "car"), 4)
    assert said.startswith("g2s: ")
    assert kept(home, "car") == []
    release.faults.clear()
    release.files |= {} if kind != "cut" else made_up.release(members("car"))
    assert from_release("weights", "pull", "car").returncode == 0
    assert kept(home, "car") == ALL_OF_CAR


def test_without_a_network_there_are_two_ways_out(g2s: Callable, home: Path) -> None:
    start = time.monotonic()
    answer = g2s("weights", "pull", "celeba", HF_HOME=str(home))
    assert time.monotonic() - start < 10
    said = one_sentence(answer, 4)
    assert "mirror" in said
    assert "g2s weights import FILE --category celeba" in said
    offline = g2s("weights", "pull", "celeba", HF_HOME=str(home), HF_HUB_OFFLINE="1")
    assert "HF_HUB_OFFLINE forbids fetching" in one_sentence(offline, 4)
    assert kept(home, "celeba") == []


def test_two_processes_at_once_fetch_once(start: Callable, release: FileServer, home: Path) -> None:
    release.faults.append(Fault("x01", "slow", seconds=0.2))
    environment = {"HF_HOME": str(home), "G2S_RELEASE_URL": release.url} | OUTSIDE
    both = [start("weights", "pull", "car", **environment) for _ in range(2)]
    for process in both:
        stdout, stderr = process.communicate(timeout=60)
        assert process.returncode == 0, stderr
        assert len(stdout.splitlines()) == 4
    assert len(release.log) == 4
    assert kept(home, "car") == ALL_OF_CAR


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_pull_that_is_killed_leaves_no_bad_cache(
    start: Callable, from_release: Callable, release: FileServer, home: Path, how: signal.Signals
) -> None:
    release.faults.append(Fault("x01", "slow", seconds=0.5))
    process = start("weights", "pull", "car", HF_HOME=str(home), G2S_RELEASE_URL=release.url, **OUTSIDE)
    while not any(entry.path == "/x01" for entry in release.log):
        time.sleep(0.05)
    time.sleep(0.3)
    process.send_signal(how)
    process.communicate(timeout=30)
    assert process.returncode == (130 if how == signal.SIGINT else -signal.SIGKILL)
    if how == signal.SIGINT:
        assert kept(home, "car") == []
    assert not [name for name in kept(home, "car") if name.endswith((".json", ".safetensors"))]
    assert from_release("weights", "pull", "car").returncode == 0
    assert kept(home, "car") == ALL_OF_CAR


# --- the Hub


@pytest.fixture
def hub() -> Iterator[HubServer]:
    with HubServer({}) as server:
        yield server


@pytest.fixture
def on_hub(g2s: Callable, hub: HubServer, home: Path) -> Callable:
    def run(*arguments: object, **environment: str) -> object:
        base = {"HF_HOME": str(home), "HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1"} | OUTSIDE
        return g2s(*arguments, **base | environment)

    return run


@pytest.fixture
def owls(on_hub: Callable, tmp_path: Path) -> Path:
    """A category of one's own, imported."""
    (tmp_path / "owls.pt").write_bytes(made_up.saved(made_up.gan(32)))
    answer = on_hub("weights", "import", "owls.pt", "--category", "owls")
    assert answer.returncode == 0, answer.stderr
    return Path(answer.stdout.strip())


def published(on_hub: Callable, home: Path) -> None:
    answer = on_hub("weights", "publish", "owls", "--repo", REPO, HF_TOKEN=TOKEN)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.strip().endswith(REPO)
    shutil.rmtree(home)


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
    assert "a card that cannot be used" in one_sentence(on_hub("weights", "pull", "bad", "--hub-repo", REPO), 4)
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


def test_a_card_that_cannot_be_given_hashes_is_not_published(on_hub: Callable, hub: HubServer, owls: Path) -> None:
    card = owls.parent / "model.toml"
    lines = [line for line in card.read_text().splitlines() if not line.startswith(("[weights", "file =", "sha256 ="))]
    card.write_text("\n".join(['weights = {gan = {file = "gan.safetensors"}}', *lines]))
    said = one_sentence(on_hub("weights", "publish", "owls", "--repo", REPO, HF_TOKEN=TOKEN), 4)
    assert str(card) in said
    assert not hub.repos


def test_a_damaged_import_of_a_new_category_is_noticed(on_hub: Callable, owls: Path) -> None:
    content = bytearray(owls.read_bytes())
    content[-5] ^= 1
    owls.write_bytes(content)
    answer = on_hub("weights", "verify", "owls")
    assert answer.returncode == 4
    assert str(owls) in answer.stderr
    assert not owls.exists()


def test_a_cache_can_be_moved(on_hub: Callable, owls: Path, home: Path, tmp_path: Path) -> None:
    home.rename(tmp_path / "moved here")
    answer = on_hub("weights", "verify", "owls", HF_HOME="moved here")
    assert answer.stdout.startswith("ok ")
    assert "moved here" in answer.stdout


@pytest.mark.parametrize("verb", [("import", "o.pt", "-c", "new"), ("pull", "owls", "--hub-repo", REPO)])
def test_a_cache_that_cannot_be_written(on_hub: Callable, owls: Path, home: Path, tmp_path: Path, verb: tuple) -> None:
    published(on_hub, home)
    (tmp_path / "o.pt").write_bytes(made_up.saved(made_up.statistics(6)))
    (tmp_path / "cache").write_text("a file where a folder should be")
    said = one_sentence(on_hub("weights", *verb, G2S_CACHE="cache"), 4)
    assert "Set G2S_CACHE to a folder of yours" in said


# --- files of one's own


def test_imported_statistics_are_used(g2s: Callable, home: Path, tmp_path: Path) -> None:
    (tmp_path / "o.pt").write_bytes(made_up.saved(made_up.gan(32)))
    (tmp_path / "v.pt").write_bytes(made_up.saved(made_up.statistics(6)))
    g2s("weights", "import", "o.pt", "v.pt", "-c", "owls", HF_HOME=str(home))
    answer = g2s("reconstruct", FACE, "-c", "owls", "--iterations", 0, "--json", HF_HOME=str(home))
    assert json.loads(answer.stdout)["weights"].keys() == {"gan", "views"}


def test_networks_of_another_gan_are_refused(g2s: Callable, home: Path, tmp_path: Path) -> None:
    contents = {
        "g": made_up.gan(128),
        "n": made_up.networks(64, latent=32),
        "v": made_up.statistics(6),
        "l": made_up.statistics(4),
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(made_up.saved(content))
    assert g2s("weights", "import", *contents, "-c", "bfm", HF_HOME=str(home)).returncode == 0
    said = one_sentence(g2s("reconstruct", FACE, "-c", "bfm", "--iterations", 0, "-q", HF_HOME=str(home)), 4)
    assert "latents of 32 numbers; this one's have 16" in said


def test_one_damaged_category_does_not_hide_the_others(on_hub: Callable, owls: Path) -> None:
    card = owls.parent / "model.toml"
    card.write_text(card.read_text().replace("near = 0.9\n", "near = 0.9\ncrop_of = 0\n"))
    listed = on_hub("weights", "list", "--json")
    assert listed.returncode == 0
    assert "synface" in {row["name"] for row in json.loads(listed.stdout)["categories"]}
    assert str(card) in listed.stderr
    verified = on_hub("weights", "verify", "-q")
    assert verified.returncode == 4
    assert str(card) in verified.stderr
    assert verified.stdout.count("ok ") == 2  # synface's


def test_files_that_the_card_does_not_name_are_verified_too(from_release: Callable, home: Path, tmp_path: Path) -> None:
    (tmp_path / "horse.pt").write_bytes(made_up.saved(made_up.gan(32)))
    path = Path(from_release("weights", "import", "horse.pt", "-c", "horse").stdout.strip())
    assert from_release("weights", "verify", "horse").stdout == f"ok  {path}\n"
    path.write_bytes(path.read_bytes()[:-5])
    answer = from_release("weights", "verify", "-q")
    assert answer.returncode == 4
    assert str(path) in answer.stderr
    assert not path.exists()


def test_a_gan_of_ones_own_needs_no_category(g2s: Callable, home: Path, tmp_path: Path) -> None:
    (tmp_path / "my.pt").write_bytes(made_up.saved(made_up.gan(32)))
    torch.save({"latent": torch.zeros(1, made_up.LATENT)}, tmp_path / "w.pt")
    arguments = ("reconstruct", FACE, "--gan", "my.pt", "--latent", "w.pt", "--iterations", 2, "-o", "out", "--json")
    answer = g2s(*arguments, HF_HOME=str(home))
    assert answer.returncode == 0, answer.stderr
    report = json.loads(answer.stdout)
    assert report["category"] == "own"
    assert report["gan_file"] == str(tmp_path / "my.pt")
    assert list(report["weights"]) == ["gan"]
    assert g2s("relight", "out", "--light", "0.5,0", "--by", "gan", HF_HOME=str(home)).returncode == 0
    (tmp_path / "my.pt").write_bytes(made_up.saved(made_up.gan(32, seed=7)))
    said = g2s("relight", "out", "--light", "0.5,0", "--by", "gan", HF_HOME=str(home))
    assert f"was made with another GAN than {tmp_path / 'my.pt'}" in one_sentence(said, 4)
    (tmp_path / "my.pt").unlink()
    said = g2s("relight", "out", "--light", "0.5,0", "--by", "gan", HF_HOME=str(home))
    assert "There is no file" in one_sentence(said, 4)
    assert g2s("relight", "out", "--light", "0.5,0", HF_HOME=str(home)).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("reconstruct", FACE, "--gan", "views.pth"), "is no GAN but views"),
        (("reconstruct", FACE, "--gan", "none.pt"), "There is no file"),
        (("reconstruct", FACE, "--latent", "w.pt"), "7 numbers; this GAN's have 512"),
        (("weights", "import", "text.pt", "-c", "owls"), "text.pt"),
        (("weights", "path", "horse", "--json", "--nothing"), ""),
    ],
)
def test_files_that_cannot_be_used(g2s: Callable, home: Path, tmp_path: Path, arguments: tuple, says: str) -> None:
    (tmp_path / "views.pth").write_bytes(made_up.saved(made_up.statistics(6)))
    (tmp_path / "w.pt").write_bytes(made_up.saved(torch.zeros(7)))
    (tmp_path / "text.pt").write_text("hello")
    before = sorted(tmp_path.iterdir())
    answer = g2s(*arguments, HF_HOME=str(home))
    assert answer.returncode == (4 if says else 2)
    assert says in answer.stderr
    assert "Traceback" not in answer.stderr
    assert [path for path in sorted(tmp_path.iterdir()) if path != home] == before


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("import", "a.pt", "-c", "synface"), "synface came with its weights"),
        (("import", "a.pt", "-c", "../evil"), "is no name for a category"),
        (("import", "a.pt", "a.pt", "-c", "owls"), "Two of the files are views"),
        (("pull", "zebra"), "There is no category 'zebra'"),
        (("verify", "zebra"), "There is no category 'zebra'"),
    ],
)
def test_usage_that_cannot_be_meant(g2s: Callable, home: Path, tmp_path: Path, arguments: tuple, says: str) -> None:
    (tmp_path / "a.pt").write_bytes(made_up.saved(made_up.statistics(6)))
    assert says in one_sentence(g2s("weights", *arguments, HF_HOME=str(home)), 2)
    assert not home.exists() or not any(path.is_file() for path in home.rglob("*"))


def test_horses_need_a_gan_of_ones_own(g2s: Callable, home: Path) -> None:
    said = one_sentence(g2s("reconstruct", FACE, "-c", "horse", HF_HOME=str(home), **os.environ | OUTSIDE), 4)
    assert "horse" in said
