"""Random images of a GAN: which, where, and all or nothing."""

from __future__ import annotations

import json
from pathlib import Path

import fake_checkpoints
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from g2s_cli import samples
from g2s_cli.errors import G2SError, UsageError
from g2s_cli.geometry.image import to_uint8
from g2s_cli.loading import Weights, load_gan
from g2s_cli.machine import Machine
from g2s_cli.progress import SilentProgress
from g2s_cli.samples import FACTS, SampleOptions, SampleOutput, sample
from g2s_cli.weights.categories import load_category

SIZE = 16
CPU = Machine(torch.device("cpu"), torch.bfloat16)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Weights:
    """A made-up GAN without an average latent of its own."""
    path = tmp_path_factory.mktemp("gan") / "gan.pt"
    path.write_bytes(fake_checkpoints.saved(fake_checkpoints.gan(SIZE)))
    return Weights({}, path)


def run(weights: Weights, options: SampleOptions, output: SampleOutput) -> dict:
    return sample(load_category("own"), weights, options, CPU, output, SilentProgress())


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.array(picture)


def test_an_image_does_not_depend_on_the_count(weights: Weights, tmp_path: Path) -> None:
    few, many = (SampleOutput(tmp_path / f"{name}.png", tmp_path / name) for name in ("few", "many"))
    run(weights, SampleOptions(2, seed=5), few)
    facts = run(weights, SampleOptions(19, seed=5), many)
    assert facts["pictures"] == [f"seed5-{number:04}.png" for number in range(19)]
    for name in facts["pictures"][:2]:
        assert (few.folder / name).read_bytes() == (many.folder / name).read_bytes()
    assert len({(many.folder / name).read_bytes() for name in facts["pictures"]}) == 19


def test_the_saved_latents_reproduce_the_images_in_float32(weights: Weights, tmp_path: Path) -> None:
    output = SampleOutput(tmp_path / "s.png", tmp_path / "s")
    facts = run(weights, SampleOptions(3), output)
    latents = load_file(output.folder / "latents.safetensors")["w"]
    generator = load_gan(weights, Machine(CPU.device, torch.float32)).generator
    with torch.no_grad():
        again = [to_uint8(image) for image in generator(latents)]
    for name, picture in zip(facts["pictures"], again, strict=True):
        np.testing.assert_array_equal(pixels(output.folder / name), picture)
    assert json.loads((output.folder / "samples.json").read_text()) == facts
    assert (facts["seed"], facts["truncation"], facts["size_px"]) == (0, 0.7, SIZE)
    assert facts["weights"] == weights.hashes()


def test_the_sheet_shows_images_row_by_row(weights: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = SampleOutput(tmp_path / "s.png", tmp_path / "s")
    facts = run(weights, SampleOptions(7), output)
    sheet = pixels(output.sheet)
    assert sheet.shape == (3 * SIZE, 3 * SIZE, 3)
    np.testing.assert_array_equal(sheet[SIZE : 2 * SIZE, :SIZE], pixels(output.folder / facts["pictures"][3]))
    monkeypatch.setattr(samples, "MAX_SHEET_PX", 24)
    run(weights, SampleOptions(7), alone := SampleOutput(tmp_path / "small.png", None))
    assert pixels(alone.sheet).shape == (24, 24, 3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["s", "s.png", "small.png"]


def test_a_failure_leaves_no_files(weights: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(samples, "contact_sheet", stop)
    with pytest.raises(KeyboardInterrupt):
        run(weights, SampleOptions(2), SampleOutput(tmp_path / "s.png", tmp_path / "s"))
    assert not list(tmp_path.iterdir())
    monkeypatch.undo()
    (tmp_path / "file").touch()
    with pytest.raises(G2SError, match=r"file/s\.png cannot be written"):
        run(weights, SampleOptions(1), SampleOutput(tmp_path / "file" / "s.png", None))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (SampleOptions(0), r"--count 0 is out of range\. Give 1 to 100000"),
        (SampleOptions(-3), "--count -3"),
        (SampleOptions(1, 1.01), "--truncation 1.01 is out of range"),
        (SampleOptions(1, -0.1), "--truncation -0.1"),
        (SampleOptions(1, float("nan")), "--truncation nan"),
    ],
)
def test_options_out_of_range_are_refused(options: SampleOptions, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        options.check()


@pytest.mark.parametrize("truncation", [0.0, 1.0])
def test_the_ends_of_the_range_are_valid(truncation: float) -> None:
    assert SampleOptions(1, truncation).check() == SampleOptions(1, truncation)


def test_existing_files_are_replaced_only_on_request(tmp_path: Path) -> None:
    sheet = tmp_path / "s.png"
    sheet.touch()
    with pytest.raises(UsageError, match="Add --overwrite"):
        SampleOutput.of(sheet, save=False, overwrite=False)
    assert SampleOutput.of(sheet, save=True, overwrite=True) == SampleOutput(sheet, tmp_path / "s")
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "diary.txt").touch()
    with pytest.raises(UsageError, match="will not delete it"):
        SampleOutput.of(sheet, save=True, overwrite=True)
    for name in ("gan.pt", FACTS):
        (tmp_path / "s" / name).touch()
    with pytest.raises(UsageError, match=r"gan\.pt lies in .* which would be replaced"):
        SampleOutput.of(sheet, save=True, overwrite=True, gan=tmp_path / "s" / "gan.pt")
    for bad, message in ((tmp_path / "s.jpg", "no name for a sheet"), (tmp_path / "f.png", "is a folder")):
        (tmp_path / "f.png").mkdir(exist_ok=True)
        with pytest.raises(UsageError, match=message):
            SampleOutput.of(bad, save=False, overwrite=True)
