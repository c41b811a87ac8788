"""g2s sample: the embedded GAN, one's own, and what is refused."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path

import fake_checkpoints
import pytest
from PIL import Image


def test_a_sheet_and_photos_that_reconstruct(g2s: Callable, tmp_path: Path) -> None:
    answer = g2s("sample", "--category", "synface", "--count", 2, "--save", "-o", "faces.png")
    assert answer.returncode == 0, answer.stderr
    names = ["faces.png", "faces/seed0-0000.png", "faces/seed0-0001.png", "faces/latents.safetensors"]
    assert answer.stdout.splitlines() == names
    with Image.open(tmp_path / "faces.png") as sheet, Image.open(tmp_path / names[1]) as first:
        assert sheet.size == (2 * first.width, first.height)
    # The line that it ends with is one to try.
    trial = shlex.split(answer.stderr.splitlines()[-1].partition(": ")[2])
    assert trial[2] == names[1]
    assert "--no-align" in trial
    tried = g2s(*trial[1:], "--preset", "instant", "--iterations", 5, "-q")
    assert tried.returncode == 0, tried.stderr
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["alignment"]["how"] == "middle"
    assert (tmp_path / "out" / "aligned.png").read_bytes() == (tmp_path / names[1]).read_bytes()
    # Its latent is known, so nothing needs to be looked for.
    known = g2s(*trial[1:-1], "known", "--latent", f"{names[3]}:0", "--preset", "instant", "-q")
    assert known.returncode == 0, known.stderr
    report = json.loads((tmp_path / "known" / "report.json").read_text())
    assert report["inversion_psnr_db"] > 35
    assert report["latent_row"] == 0


def test_json_and_overwrite(g2s: Callable, tmp_path: Path) -> None:
    (tmp_path / "my gan.pt").write_bytes(fake_checkpoints.saved(fake_checkpoints.gan(32)))
    ask = ("sample", "--gan", "my gan.pt", "-n", 3, "--seed", 9, "--truncation", 1, "--save")
    answer = g2s(*ask, "--json")
    assert answer.returncode == 0, answer.stderr
    facts = json.loads(answer.stdout)
    assert facts["files"] == [f"samples/seed9-000{number}.png" for number in range(3)]
    assert (facts["sheet"], facts["latents"]) == ("samples.png", "samples/latents.safetensors")
    assert (facts["category"], facts["seed"], facts["truncation"], facts["count"]) == ("own", 9, 1, 3)
    assert "g2s reconstruct samples/seed9-0000.png --gan 'my gan.pt' -o out/" in answer.stderr
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.png")}
    refused = g2s(*ask)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "samples.png exists. Add --overwrite" in refused.stderr
    again = g2s(*ask, "--overwrite", "-q")
    assert (again.returncode, again.stderr) == (0, "")
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.png")} == before


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("--count", 0), 2, "--count 0 is out of range. Give 1 to 100000."),
        (("--truncation", "1.5"), 2, "--truncation 1.5 is out of range."),
        (("--category", "zebra"), 2, "There is no category 'zebra'."),
        (("--category", "celeba"), 4, "The gan of celeba is not on this machine"),
        (("--gan", "none.pt"), 4, "There is no file none.pt."),
        (("--gan", "views.pt"), 4, "views.pt is no GAN but views."),
    ],
)
def test_what_cannot_be_shown(g2s: Callable, tmp_path: Path, arguments: tuple, code: int, says: str) -> None:
    (tmp_path / "views.pt").write_bytes(fake_checkpoints.saved(fake_checkpoints.statistics(6)))
    answer = g2s("sample", *arguments, G2S_CACHE="cache", HF_HUB_OFFLINE="1")
    assert (answer.returncode, answer.stdout) == (code, "")
    assert says in answer.stderr
    assert answer.stderr.count("\n") == 1
    assert not list(tmp_path.rglob("*.png"))
