"""Photos together are what they are alone."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from g2s_cli import reconstruct
from g2s_cli.errors import ImageError, UsageError
from g2s_cli.files import sha256_of
from g2s_cli.geometry.metrics import psnr
from g2s_cli.loading import Plan
from g2s_cli.machine import Machine
from g2s_cli.photo.align import CropOptions
from g2s_cli.pipeline import facts_of, reconstruct_each
from g2s_cli.result.schema import Result

FACE = Path(__file__).parent.parent / "data" / "face.png"
QUICK = {"preset": "fast", "iterations": 4, "seed": 3}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A face, something that is no photo, and the face mirrored."""
    folder = tmp_path_factory.mktemp("photos")
    (folder / "broken.png").write_text("no photo")
    with Image.open(FACE) as face:
        ImageOps.mirror(face).save(folder / "mirrored.png")
    return [FACE, folder / "broken.png", folder / "mirrored.png"]


@pytest.fixture(scope="module")
def together(photos: list[Path]) -> list[Result | Exception]:
    return list(reconstruct_each(photos, Plan.of(**QUICK), Machine.named("cpu")))


def test_one_unusable_photo_is_its_own_failure_alone(together: list[Result | Exception], photos: list[Path]) -> None:
    face, broken, hflip = together
    assert isinstance(broken, ImageError)
    assert [one.report["photo"] for one in (face, hflip)] == ["face.png", "mirrored.png"]
    assert [one.report["photo_sha256"] for one in (face, hflip)] == [sha256_of(photos[0]), sha256_of(photos[2])]
    with pytest.raises(ImageError):
        reconstruct(photos[1], **QUICK, device="cpu")


def test_one_latent_is_not_for_several_photos(photos: list[Path], tmp_path: Path) -> None:
    torch.save(torch.zeros(512), tmp_path / "w.pt")
    plan = Plan.of(**QUICK, latent=tmp_path / "w.pt")
    with pytest.raises(UsageError, match="A latent is one photo's, and there are several"):
        next(reconstruct_each(photos, plan, Machine.named("cpu")))


def test_the_users_random_numbers_stay_theirs(photos: list[Path]) -> None:
    torch.manual_seed(5)
    before = torch.rand(3)
    torch.manual_seed(5)
    reconstruct(photos[0], **QUICK, device="cpu")
    assert torch.equal(torch.rand(3), before)


def test_a_photo_of_something_else_is_said_to_be_unless_the_search_was_cut_short(tmp_path: Path) -> None:
    stripes = np.indices((128, 128)).sum(axis=0) % 16 * 16
    Image.fromarray(np.stack((stripes, 255 - stripes, stripes // 2), axis=-1).astype(np.uint8)).save(tmp_path / "a.png")
    strange = reconstruct(tmp_path / "a.png", preset="instant", device="cpu", crop_options=CropOptions(align=False))
    short = reconstruct(tmp_path / "a.png", **QUICK, device="cpu", crop_options=CropOptions(align=False))
    said = [any("outside" in one for one in result.report["warnings"]) for result in (strange, short)]
    assert said == [True, False]


@pytest.mark.parametrize("index", [0, 2])
def test_together_as_alone(together: list[Result | Exception], photos: list[Path], index: int) -> None:
    one, alone = together[index], reconstruct(photos[index], **QUICK, device="cpu")
    assert psnr(one.inverted, alone.inverted) > 45
    assert psnr(one.factors.albedo, alone.factors.albedo) > 45
    assert (one.factors.depth - alone.factors.depth).abs().max() < 2e-3
    torch.testing.assert_close(one.factors.light, alone.factors.light, rtol=0, atol=0.02)
    assert one.report.keys() == alone.report.keys()
    assert one.report.items() >= facts_of(Plan.of(**QUICK)).items()


def test_facts_say_what_a_preset_means_and_survive_a_file() -> None:
    plan = Plan.of(preset="fast")
    said = plan.facts
    assert said["effort"].items() >= {"place": 15, "stages": [[0, 0, 60], [150, 0, 0]], "keep": 0.4}.items()
    assert json.loads(json.dumps(said)) == said
    assert replace(plan, effort=replace(plan.effort, keep=0.3)).facts != said


def test_what_amplifies_rounding_is_done_one_by_one_and_the_same_to_the_bit(photos: list[Path]) -> None:
    options, machine = {"preset": "paper", "iterations": 1, "seed": 5}, Machine.named("cpu")
    result = list(reconstruct_each([photos[2], FACE], Plan.of(**options), machine))[1]
    [alone] = reconstruct_each([FACE], Plan.of(**options), machine)
    assert torch.equal(result.factors.depth, alone.factors.depth)
    assert torch.equal(result.factors.albedo, alone.factors.albedo)
    assert all(torch.equal(tensor, alone.offset_net[name]) for name, tensor in result.offset_net.items())


def test_seconds_are_a_photos_share(together: list[Result | Exception]) -> None:
    spent = [one.report["seconds"] for one in together if isinstance(one, Result)]
    assert spent[0]["invert"] == spent[1]["invert"]
    assert all(sum(one.values()) == pytest.approx(2 * one["total"], abs=0.1) for one in spent)
