"""g2s weights with files of one's own, and what is said of those that cannot be used."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import fake_checkpoints
import pytest
import torch
from caches import FACE, OUTSIDE, one_sentence

from g2s_cli.weights.cache import models_root


def test_imported_statistics_are_used(g2s: Callable, home: Path, tmp_path: Path) -> None:
    (tmp_path / "o.pt").write_bytes(fake_checkpoints.saved(fake_checkpoints.gan(32)))
    (tmp_path / "v.pt").write_bytes(fake_checkpoints.saved(fake_checkpoints.statistics(6)))
    g2s("weights", "import", "o.pt", "v.pt", "-c", "owls", HF_HOME=str(home))
    answer = g2s("reconstruct", FACE, "-c", "owls", "--iterations", 0, "--json", HF_HOME=str(home))
    assert json.loads(answer.stdout)["weights"].keys() == {"gan", "views"}


def test_networks_of_another_gan_are_refused(g2s: Callable, home: Path, tmp_path: Path) -> None:
    contents = {
        "g": fake_checkpoints.gan(128),
        "n": fake_checkpoints.networks(64, latent=32),
        "v": fake_checkpoints.statistics(6),
        "l": fake_checkpoints.statistics(4),
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(fake_checkpoints.saved(content))
    assert g2s("weights", "import", *contents, "-c", "bfm", HF_HOME=str(home)).returncode == 0
    said = one_sentence(g2s("reconstruct", FACE, "-c", "bfm", "--iterations", 0, "-q", HF_HOME=str(home)), 4)
    assert "latents of 32 numbers; this one's have 16" in said


def test_where_files_are_that_are_not_here(g2s: Callable, home: Path) -> None:
    said = one_sentence(g2s("weights", "path", "horse", HF_HOME=str(home)), 4)
    assert said.strip() == "g2s: No file of horse is on this machine. Have some: g2s weights pull horse"
    said = one_sentence(g2s("weights", "path", "own", "--json", HF_HOME=str(home)), 4)
    assert said.strip().endswith("Have some: g2s weights import FILE --category own")


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
    (tmp_path / "horse.pt").write_bytes(fake_checkpoints.saved(fake_checkpoints.gan(32)))
    path = Path(from_release("weights", "import", "horse.pt", "-c", "horse").stdout.strip())
    assert from_release("weights", "verify", "horse").stdout == f"ok  {path}\n"
    path.write_bytes(path.read_bytes()[:-5])
    answer = from_release("weights", "verify", "-q")
    assert answer.returncode == 4
    assert str(path) in answer.stderr
    assert not path.exists()


def test_a_gan_of_ones_own_needs_no_category(g2s: Callable, home: Path, tmp_path: Path) -> None:
    (tmp_path / "my.pt").write_bytes(fake_checkpoints.saved(fake_checkpoints.gan(32)))
    torch.save({"latent": torch.zeros(1, fake_checkpoints.LATENT)}, tmp_path / "w.pt")
    arguments = ("reconstruct", FACE, "--gan", "my.pt", "--latent", "w.pt", "--iterations", 2, "-o", "out", "--json")
    answer = g2s(*arguments, HF_HOME=str(home))
    assert answer.returncode == 0, answer.stderr
    report = json.loads(answer.stdout)
    assert report["category"] == "own"
    assert report["gan_file"] == str(tmp_path / "my.pt")
    assert list(report["weights"]) == ["gan"]
    assert g2s("relight", "out", "--light", "0.5,0", "--by", "gan", HF_HOME=str(home)).returncode == 0
    (tmp_path / "my.pt").write_bytes(fake_checkpoints.saved(fake_checkpoints.gan(32, seed=7)))
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
    (tmp_path / "views.pth").write_bytes(fake_checkpoints.saved(fake_checkpoints.statistics(6)))
    (tmp_path / "w.pt").write_bytes(fake_checkpoints.saved(torch.zeros(7)))
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
    (tmp_path / "a.pt").write_bytes(fake_checkpoints.saved(fake_checkpoints.statistics(6)))
    assert says in one_sentence(g2s("weights", *arguments, HF_HOME=str(home)), 2)
    assert not home.exists() or not any(path.is_file() for path in home.rglob("*"))


def test_horses_need_a_gan_of_ones_own(g2s: Callable, home: Path) -> None:
    said = one_sentence(g2s("reconstruct", FACE, "-c", "horse", HF_HOME=str(home), **os.environ | OUTSIDE), 4)
    assert "horse" in said


def test_what_nobody_offers_is_to_be_imported_not_fetched(on_hub: Callable, owls: Path) -> None:
    owls.write_bytes(owls.read_bytes()[:-1] + b"?")
    said = one_sentence(on_hub("weights", "path", "owls"), 4)
    assert said.endswith("Bring it again: g2s weights import FILE --category owls")
    rows = {row["name"]: row for row in json.loads(on_hub("weights", "list", "--json").stdout)["categories"]}
    assert (rows["owls"]["missing"], rows["owls"]["yours"]) == ([], ["gan"])
    assert (rows["horse"]["missing"], rows["horse"]["yours"]) == (["views", "lights", "parsing"], ["gan"])
    assert "Bring your own: g2s weights import" in one_sentence(on_hub("weights", "pull", "own"), 4)


def test_cards_are_utf8_whatever_the_locale(start: Callable, tmp_path: Path) -> None:
    folder = tmp_path / "cache" / "wald"
    folder.mkdir(parents=True)
    card = (models_root() / "own" / "model.toml").read_text("utf-8").replace('"A GAN of your own"', '"Bäume im Wald"')
    (folder / "model.toml").write_text(card, "utf-8")
    ascii_alone = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    process = start("weights", "list", "--json", G2S_CACHE=str(folder.parent), **ascii_alone)
    said, complaints = process.communicate(timeout=60)
    assert (process.returncode, complaints) == (0, "")
    assert "Bäume im Wald" in json.dumps(json.loads(said), ensure_ascii=False)
