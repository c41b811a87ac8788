"""g2s sample: pictures of the embedded GAN and of one's own, and what is refused."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import fake_checkpoints
import pytest
from installed import Command
from PIL import Image


@pytest.mark.slow
def test_a_sample_can_be_reconstructed(g2s: Command, tmp_path: Path) -> None:
    answer = g2s.ok("sample", "--category", "synface", "--count", 2, "--save", "-o", "faces.png")
    names = ["faces.png", "faces/seed0-0000.png", "faces/seed0-0001.png", "faces/latents.safetensors"]
    assert answer.stdout.splitlines() == names
    with Image.open(tmp_path / "faces.png") as sheet, Image.open(tmp_path / names[1]) as first:
        assert sheet.size == (2 * first.width, first.height)
    # The last line is a command to try.
    trial = shlex.split(answer.stderr.splitlines()[-1].partition(": ")[2])
    assert trial[2] == names[1]
    assert "--no-align" in trial
    g2s.ok(*trial[1:], "--preset", "instant", "--iterations", 5, "-q")
    assert json.loads((tmp_path / "out" / "report.json").read_text())["alignment"]["how"] == "middle"
    with Image.open(tmp_path / "out" / "aligned.png") as aligned, Image.open(tmp_path / names[1]) as sample:
        assert aligned.tobytes() == sample.tobytes()
    # With its latent there is no inversion.
    report = g2s.json(*trial[1:-1], "known", "--latent", f"{names[3]}:0", "--preset", "instant", "-q")
    assert report["inversion_psnr_db"] > 35
    assert report["latent_row"] == 0


def test_json_and_overwrite(g2s: Command, tmp_path: Path) -> None:
    (tmp_path / "my gan.pt").write_bytes(fake_checkpoints.saved(fake_checkpoints.gan(32)))
    command = ("sample", "--gan", "my gan.pt", "-n", 3, "--seed", 9, "--truncation", 1, "--save")
    answer = g2s.ok(*command, "--json")
    facts = json.loads(answer.stdout)
    assert facts["files"] == [f"samples/seed9-000{number}.png" for number in range(3)]
    assert (facts["sheet"], facts["latents"]) == ("samples.png", "samples/latents.safetensors")
    assert (facts["category"], facts["seed"], facts["truncation"], facts["count"]) == ("own", 9, 1, 3)
    assert "g2s reconstruct samples/seed9-0000.png --gan 'my gan.pt' -o out/" in answer.stderr
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.png")}
    assert "samples.png exists. Add --overwrite" in g2s.fails(2, *command)
    assert g2s.ok(*command, "--overwrite", "-q").stderr == ""
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.png")} == before


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--count", 0), 2, "--count 0 is out of range. Give 1 to 100000."),
        (("--truncation", "1.5"), 2, "--truncation 1.5 is out of range."),
        (("--category", "zebra"), 2, "There is no category 'zebra'."),
        (("--category", "celeba"), 4, "The gan of celeba is not on this machine"),
        (("--gan", "none.pt"), 4, "There is no file none.pt."),
        (("--gan", "views.pt"), 4, "views.pt is no GAN but views."),
    ],
)
def test_wrong_arguments_are_refused(g2s: Command, tmp_path: Path, arguments: tuple, code: int, message: str) -> None:
    (tmp_path / "views.pt").write_bytes(fake_checkpoints.saved(fake_checkpoints.statistics(6)))
    stderr = g2s.using(G2S_CACHE="cache", HF_HUB_OFFLINE="1").fails(code, "sample", *arguments)
    assert message in stderr
    assert stderr.count("\n") == 1
    assert not list(tmp_path.rglob("*.png"))
