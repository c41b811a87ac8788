"""g2s weights with files of one's own: import, list, verify, path, and files that are refused."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import fake_checkpoints
import pytest
import torch
from caches import COARSE, FACE, NO_PROXY
from installed import Command

from g2s_cli.weights.cache import models_root


@pytest.fixture
def g2s(g2s: Command, home: Path) -> Command:
    """g2s with an empty cache."""
    return g2s.using(HF_HOME=home)


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., None]:
    """Write objects as torch files, named by the keywords, in the test's folder."""

    def save(**contents: object) -> None:
        for name, content in contents.items():
            (tmp_path / f"{name}.pt").write_bytes(fake_checkpoints.saved(content))

    return save


def test_imported_statistics_are_used(g2s: Command, save: Callable) -> None:
    save(o=fake_checkpoints.gan(32), v=fake_checkpoints.statistics(6))
    g2s.ok("weights", "import", "o.pt", "v.pt", "-c", "owls")
    report = g2s.json("reconstruct", FACE, "-c", "owls", "--iterations", 0, *COARSE)
    assert report["weights"].keys() == {"gan", "views"}


def test_networks_for_another_latent_size_are_refused(g2s: Command, save: Callable) -> None:
    networks = fake_checkpoints.networks(64, latent=32)
    save(g=fake_checkpoints.gan(128), n=networks, v=fake_checkpoints.statistics(6), l=fake_checkpoints.statistics(4))
    g2s.ok("weights", "import", "g.pt", "n.pt", "v.pt", "l.pt", "-c", "bfm")
    message = g2s.fails(4, "reconstruct", FACE, "-c", "bfm", "--iterations", 0, "-q")
    assert "latents of 32 numbers; this one's have 16" in message


def test_path_of_missing_files_says_how_to_get_them(g2s: Command) -> None:
    message = g2s.fails(4, "weights", "path", "horse")
    assert message.strip() == "g2s: No file of horse is on this machine. Have some: g2s weights pull horse"
    message = g2s.fails(4, "weights", "path", "own")
    assert message.strip().endswith("Have some: g2s weights import FILE --category own")


def test_one_damaged_card_does_not_hide_other_categories(on_hub: Command, owls: Path) -> None:
    card = owls.parent / "model.toml"
    card.write_text(card.read_text().replace("near = 0.9\n", "near = 0.9\ncrop_of = 0\n"))
    listed = on_hub.ok("weights", "list", "--json")
    assert "synface" in {row["name"] for row in json.loads(listed.stdout)["categories"]}
    assert str(card) in listed.stderr
    verified = on_hub("weights", "verify", "-q")
    assert verified.returncode == 4
    assert str(card) in verified.stderr
    assert verified.stdout.count("ok ") == 7  # synface's and portrait's


def test_verify_checks_files_that_the_card_does_not_name(from_release: Command, save: Callable) -> None:
    save(horse=fake_checkpoints.gan(32))
    path = Path(from_release.ok("weights", "import", "horse.pt", "-c", "horse").stdout.strip())
    assert from_release.ok("weights", "verify", "horse").stdout == f"ok  {path}\n"
    path.write_bytes(path.read_bytes()[:-5])
    answer = from_release("weights", "verify", "-q")
    assert answer.returncode == 4
    assert str(path) in answer.stderr
    assert not path.exists()


@pytest.mark.slow
def test_a_gan_of_ones_own_needs_no_category(g2s: Command, save: Callable, tmp_path: Path) -> None:
    gan, relight = tmp_path / "my.pt", ("relight", "out", "--light", "0.5,0", "--overwrite")
    save(my=fake_checkpoints.gan(32), w={"latent": torch.zeros(1, fake_checkpoints.LATENT)})
    report = g2s.json("reconstruct", FACE, "--gan", "my.pt", "--latent", "w.pt", "--iterations", 0, *COARSE)
    assert (report["category"], report["gan_file"], list(report["weights"])) == ("own", str(gan), ["gan"])
    g2s.ok(*relight, "--renderer", "gan")
    save(my=fake_checkpoints.gan(32, seed=7))
    assert f"was made with another GAN than {gan}" in g2s.fails(4, *relight, "--renderer", "gan")
    gan.unlink()
    assert "There is no file" in g2s.fails(4, *relight, "--renderer", "gan")
    g2s.ok(*relight)


def test_a_generator_alone_is_imported_sampled_and_reconstructs(g2s: Command, save: Callable, home: Path) -> None:
    g2s = g2s.using(HF_HOME=home)
    save(owls={"g_ema": fake_checkpoints.gan(32)["g_ema"]})
    g2s.ok("sample", "--gan", "owls.pt", "--count", 2)
    g2s.ok("weights", "import", "owls.pt", "-c", "owls")
    [row] = [row for row in g2s.json("weights", "list")["categories"] if row["name"] == "owls"]
    assert row["without"] == ["discriminator"]
    report = g2s.json("reconstruct", FACE, "-c", "owls", "--iterations", 1, *COARSE)
    assert report["perceptual"] in ("pixels", "LPIPS-VGG")
    g2s.ok("relight", "out", "--light", "0.5,0", "--renderer", "gan")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("reconstruct", FACE, "--gan", "views.pt"), 4, "is no GAN but views"),
        (("reconstruct", FACE, "--gan", "none.pt"), 4, "There is no file"),
        (("reconstruct", FACE, "--latent", "w.pt"), 4, "7 numbers; this GAN's have 512"),
        (("weights", "import", "text.pt", "-c", "owls"), 4, "text.pt"),
        (("weights", "path", "horse", "--nothing"), 2, ""),
        (("weights", "import", "views.pt", "-c", "synface"), 2, "synface came with its weights"),
        (("weights", "import", "views.pt", "-c", "../evil"), 2, "is no name for a category"),
        (("weights", "import", "views.pt", "views.pt", "-c", "owls"), 2, "Two of the files are views"),
        (("weights", "pull", "zebra"), 2, "There is no category 'zebra'"),
        (("weights", "verify", "zebra"), 2, "There is no category 'zebra'"),
    ],
)
def test_unusable_files_and_names_are_refused_and_leave_nothing(
    g2s: Command, save: Callable, home: Path, tmp_path: Path, arguments: tuple, code: int, message: str
) -> None:
    save(views=fake_checkpoints.statistics(6), w=torch.zeros(7))
    (tmp_path / "text.pt").write_text("hello")
    before = sorted(tmp_path.iterdir())
    assert message in g2s.fails(code, *arguments)
    assert [path for path in sorted(tmp_path.iterdir()) if path != home] == before
    assert code == 4 or not any(path.is_file() for path in home.rglob("*"))


def test_horses_need_a_gan_of_ones_own(g2s: Command) -> None:
    assert "horse" in g2s.using(**NO_PROXY).fails(4, "reconstruct", FACE, "-c", "horse").splitlines()[-1]


def test_a_damaged_import_is_to_be_imported_again(on_hub: Command, owls: Path) -> None:
    owls.write_bytes(owls.read_bytes()[:-1] + b"?")
    message = on_hub.fails(4, "weights", "path", "owls").strip()
    assert message.endswith("Bring it again: g2s weights import FILE --category owls")
    rows = {row["name"]: row for row in on_hub.json("weights", "list")["categories"]}
    assert (rows["owls"]["missing"], rows["owls"]["yours"]) == ([], ["gan"])
    assert (rows["horse"]["missing"], rows["horse"]["yours"]) == (["views", "lights", "parsing"], ["gan"])
    assert "Bring your own: g2s weights import" in on_hub.fails(4, "weights", "pull", "own")


def test_cards_are_utf8_in_every_locale(start: Callable, tmp_path: Path) -> None:
    folder = tmp_path / "cache" / "wald"
    folder.mkdir(parents=True)
    card = (models_root() / "own" / "model.toml").read_text("utf-8").replace('"A GAN of your own"', '"Bäume im Wald"')
    (folder / "model.toml").write_text(card, "utf-8")
    ascii_alone = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    process = start("weights", "list", "--json", G2S_CACHE=str(folder.parent), **ascii_alone)
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stderr) == (0, "")
    assert "Bäume im Wald" in json.dumps(json.loads(stdout), ensure_ascii=False)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root mounts")
def test_an_import_to_a_full_disk_leaves_no_category(g2s: Command, tmp_path: Path) -> None:
    (tmp_path / "owls.pt").write_bytes(fake_checkpoints.saved(fake_checkpoints.gan(32)))
    (cache := tmp_path / "cache").mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", cache]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        message = g2s.using(G2S_CACHE=cache).fails(4, "weights", "import", "owls.pt", "--category", "owls")
        assert "Free space" in message
        assert list(cache.iterdir()) == []
    finally:
        subprocess.run(["umount", cache], check=True)
