"""A GAN's pictures on disk: which, where, and all or nothing."""

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
from g2s_cli.loading import Machine, Weights, load_gan
from g2s_cli.mesh.extract import to_bytes
from g2s_cli.progress import SilentProgress
from g2s_cli.samples import FACTS, Draw, Target, sample
from g2s_cli.weights.catalog import load_category

SIZE = 16
CPU = Machine(torch.device("cpu"), torch.bfloat16)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Weights:
    """A made-up GAN without an average latent of its own."""
    path = tmp_path_factory.mktemp("gan") / "gan.pt"
    path.write_bytes(fake_checkpoints.saved(fake_checkpoints.gan(SIZE)))
    return Weights({}, path)


def result(weights: Weights, draw: Draw, target: Target) -> dict:
    return sample(load_category("own"), weights, draw, CPU, target, SilentProgress())


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.array(picture)


def test_a_picture_is_the_same_in_whatever_company(weights: Weights, tmp_path: Path) -> None:
    few, many = (Target(tmp_path / f"{name}.png", tmp_path / name) for name in ("few", "many"))
    result(weights, Draw(2, seed=5), few)
    facts = result(weights, Draw(19, seed=5), many)
    assert facts["pictures"] == [f"seed5-{number:04}.png" for number in range(19)]
    for name in facts["pictures"][:2]:
        assert (few.folder / name).read_bytes() == (many.folder / name).read_bytes()
    assert len({(many.folder / name).read_bytes() for name in facts["pictures"]}) == 19


def test_the_latents_make_the_pictures_again_in_full_precision(weights: Weights, tmp_path: Path) -> None:
    target = Target(tmp_path / "s.png", tmp_path / "s")
    facts = result(weights, Draw(3), target)
    latents = load_file(target.folder / "latents.safetensors")["w"]
    generator = load_gan(weights, Machine(CPU.device, torch.float32)).generator
    with torch.no_grad():
        again = [to_bytes(image) for image in generator(latents)]
    for name, picture in zip(facts["pictures"], again, strict=True):
        np.testing.assert_array_equal(pixels(target.folder / name), picture)
    assert json.loads((target.folder / "samples.json").read_text()) == facts
    assert (facts["seed"], facts["truncation"], facts["size_px"]) == (0, 0.7, SIZE)
    assert facts["weights"] == weights.hashes()


def test_the_sheet_shows_them_row_by_row(weights: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = Target(tmp_path / "s.png", tmp_path / "s")
    facts = result(weights, Draw(7), target)
    sheet = pixels(target.sheet)
    assert sheet.shape == (3 * SIZE, 3 * SIZE, 3)
    np.testing.assert_array_equal(sheet[SIZE : 2 * SIZE, :SIZE], pixels(target.folder / facts["pictures"][3]))
    monkeypatch.setattr(samples, "MOST_SHEET_PX", 24)
    result(weights, Draw(7), alone := Target(tmp_path / "small.png", None))
    assert pixels(alone.sheet).shape == (24, 24, 3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["s", "s.png", "small.png"]


def test_a_failure_leaves_nothing(weights: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(samples, "contact_sheet", stop)
    with pytest.raises(KeyboardInterrupt):
        result(weights, Draw(2), Target(tmp_path / "s.png", tmp_path / "s"))
    assert not list(tmp_path.iterdir())
    monkeypatch.undo()
    (tmp_path / "file").touch()
    with pytest.raises(G2SError, match=r"file/s\.png cannot be written"):
        result(weights, Draw(1), Target(tmp_path / "file" / "s.png", None))


@pytest.mark.parametrize(
    ("draw", "says"),
    [
        (Draw(0), r"--count 0 is out of range\. Give 1 to 100000"),
        (Draw(-3), "--count -3"),
        (Draw(1, 1.01), "--truncation 1.01 is out of range"),
        (Draw(1, -0.1), "--truncation -0.1"),
        (Draw(1, float("nan")), "--truncation nan"),
    ],
)
def test_draws_that_cannot_be_meant(draw: Draw, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        draw.check()


def test_the_ends_of_the_range_can_be_meant() -> None:
    for truncation in (0.0, 1.0):
        assert Draw(1, truncation).check() == Draw(1, truncation)


def test_nothing_that_is_there_is_replaced_unasked(tmp_path: Path) -> None:
    sheet = tmp_path / "s.png"
    sheet.touch()
    with pytest.raises(UsageError, match="Add --overwrite"):
        Target.of(sheet, save=False, overwrite=False)
    assert Target.of(sheet, save=True, overwrite=True) == Target(sheet, tmp_path / "s")
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "diary.txt").touch()
    with pytest.raises(UsageError, match="will not delete it"):
        Target.of(sheet, save=True, overwrite=True)
    for name in ("gan.pt", FACTS):
        (tmp_path / "s" / name).touch()
    with pytest.raises(UsageError, match=r"gan\.pt lies in .* which would be replaced"):
        Target.of(sheet, save=True, overwrite=True, gan=tmp_path / "s" / "gan.pt")
    for bad, says in ((tmp_path / "s.jpg", "no name for a sheet"), (tmp_path / "f.png", "is a folder")):
        (tmp_path / "f.png").mkdir(exist_ok=True)
        with pytest.raises(UsageError, match=says):
            Target.of(bad, save=False, overwrite=True)
