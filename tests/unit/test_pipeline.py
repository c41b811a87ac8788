"""The pipeline: one photo, photos together, and what their reports state."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image, ImageOps
from recording import ProgressLog

from g2s_cli import load, reconstruct
from g2s_cli.errors import ImageError, UsageError
from g2s_cli.estimators.base import DepthEstimate
from g2s_cli.files import sha256_of
from g2s_cli.gan.inversion import Inversion
from g2s_cli.gan.stylegan2 import Generator
from g2s_cli.geometry.metrics import psnr
from g2s_cli.loading import Plan
from g2s_cli.options import ReconstructOptions
from g2s_cli.photo.align import CropOptions
from g2s_cli.pipeline import Pipeline, canonical, facts_of, outside_category
from g2s_cli.progress import SilentProgress
from g2s_cli.result.schema import Result

FACE = Path(__file__).parent.parent / "data" / "face.png"
QUICK = {"category": "synface", "preset": "fast", "iterations": 1, "seed": 3}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A face, a text file, and the face mirrored."""
    folder = tmp_path_factory.mktemp("photos")
    (folder / "broken.png").write_text("no photo")
    with Image.open(FACE) as face:
        ImageOps.mirror(face).save(folder / "mirrored.png")
    return [FACE, folder / "broken.png", folder / "mirrored.png"]


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return load(device="cpu", **QUICK)


@pytest.fixture(scope="module")
def together(pipeline: Pipeline, photos: list[Path]) -> list[Result | Exception]:
    return list(pipeline.each(photos))


@pytest.fixture(scope="module")
def alone(pipeline: Pipeline, photos: list[Path]) -> dict[int, Result]:
    return {index: pipeline(photos[index]) for index in (0, 2)}


def test_an_unusable_photo_fails_alone(
    pipeline: Pipeline, together: list[Result | Exception], photos: list[Path]
) -> None:
    face, broken, mirrored = together
    assert isinstance(broken, ImageError)
    assert [one.report["photo"] for one in (face, mirrored)] == ["face.png", "mirrored.png"]
    assert [one.report["photo_sha256"] for one in (face, mirrored)] == [sha256_of(photos[0]), sha256_of(photos[2])]
    with pytest.raises(ImageError):
        pipeline(photos[1])


def test_a_run_reports_its_pictures_and_takes_another_crop(pipeline: Pipeline, alone: dict[int, Result]) -> None:
    log = ProgressLog()
    result = pipeline.with_crop(CropOptions(align=False))(FACE, log)
    assert [one.report["alignment"]["how"] for one in (result, alone[0])] == ["middle", "as it is"]
    assert list(log.pictures) == ["photo", "inversion", "mask", "shape"]
    pictures = [picture[:, ::2, ::2] if len(picture[0]) == 128 else picture for picture in log.pictures.values()]
    assert all(picture.shape == result.photo.shape for picture in pictures)
    assert torch.equal(pictures[2][0] > 0, result.mask > 0.5)
    assert all(picture.std() > 0.1 for picture in pictures)


def test_one_latent_for_several_photos_is_refused(photos: list[Path], tmp_path: Path) -> None:
    torch.save(torch.zeros(512), tmp_path / "w.pt")
    with pytest.raises(UsageError, match="A latent is one photo's, and there are several"):
        next(load(device="cpu", **QUICK, latent=tmp_path / "w.pt").each(photos))


@pytest.mark.slow
def test_reconstruct_leaves_the_global_random_state_and_is_one_call_of_a_pipeline(
    alone: dict[int, Result], photos: list[Path]
) -> None:
    torch.manual_seed(5)
    before = torch.rand(3)
    torch.manual_seed(5)
    result = reconstruct(photos[0], **QUICK, device="cpu")
    assert torch.equal(torch.rand(3), before)
    assert torch.equal(result.factors.depth, alone[0].factors.depth)
    assert torch.equal(result.factors.albedo, alone[0].factors.albedo)


@pytest.mark.parametrize(
    ("options", "psnr_db", "latent_distance", "warned"),
    [
        ({"preset": "fast"}, 15.0, 1.0, True),
        ({"preset": "fast"}, 25.0, 9.0, True),
        ({"preset": "fast"}, 25.0, 1.0, False),
        ({"preset": "fast", "iterations": 2}, 15.0, 9.0, False),  # cut short, it says nothing
        ({"preset": "instant"}, 15.0, 9.0, False),
    ],
)
def test_a_photo_outside_the_category_is_warned_of(
    options: dict[str, Any], psnr_db: float, latent_distance: float, warned: bool
) -> None:
    inversion = Inversion(torch.zeros(512), torch.zeros(3, 128, 128), psnr_db, 0.0, latent_distance)
    assert bool(outside_category(inversion, Plan.of(ReconstructOptions("synface", **options)))) == warned


@pytest.mark.parametrize("index", [0, 2])
def test_results_do_not_depend_on_the_batch(
    pipeline: Pipeline, together: list[Result | Exception], alone: dict[int, Result], index: int
) -> None:
    one, single = together[index], alone[index]
    assert psnr(one.inverted, single.inverted) > 45
    assert psnr(one.factors.albedo, single.factors.albedo) > 45
    assert (one.factors.depth - single.factors.depth).abs().max() < 2e-3
    torch.testing.assert_close(one.factors.light, single.factors.light, rtol=0, atol=0.02)
    assert one.report.keys() == single.report.keys()
    assert one.report.items() >= facts_of(pipeline.loaded.plan).items()


@pytest.mark.slow
def test_the_papers_schedule_reconstructs_one_by_one_and_the_same_to_the_bit(photos: list[Path]) -> None:
    options = {"preset": "paper", "iterations": 1, "seed": 5, "device": "cpu"}
    result = list(load(**options).each([photos[2], FACE]))[1]
    alone = reconstruct(FACE, progress=(log := ProgressLog()), **options)
    assert "shape" in log.pictures
    assert torch.equal(result.factors.depth, alone.factors.depth)
    assert torch.equal(result.factors.albedo, alone.factors.albedo)
    assert alone.offset_net
    assert all(torch.equal(tensor, alone.offset_net[name]) for name, tensor in result.offset_net.items())


def test_iterations_bound_the_search_too(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Generator, "max_batch", 4)
    totals: dict[str, int] = {}

    class Totals(SilentProgress):
        def begin(self, name: str, total: int, quantity: str = "loss") -> None:  # noqa: ARG002
            totals[name] = total
            if name == "invert":
                raise KeyboardInterrupt  # the rest is of no interest

    with pytest.raises(KeyboardInterrupt):
        pipeline(FACE, Totals())
    assert totals == {"search": 1, "invert": 1}


def test_seconds_of_shared_steps_are_divided_among_photos(together: list[Result | Exception]) -> None:
    seconds = [one.report["seconds"] for one in together if isinstance(one, Result)]
    assert seconds[0]["invert"] == seconds[1]["invert"]
    assert all(sum(one.values()) == pytest.approx(2 * one["total"], abs=0.1) for one in seconds)
    assert all(one.keys() >= {"load", "invert", "segment", "morphable fit", "fuse"} for one in seconds)


def test_the_first_estimator_must_have_canonical_factors() -> None:
    with pytest.raises(TypeError, match="no canonical factors"):
        canonical(DepthEstimate(torch.ones(4, 4), torch.ones(4, 4)))


def test_a_result_is_one_line_where_it_is_printed(together: list[Result | Exception]) -> None:
    [first, *_] = [repr(one) for one in together if isinstance(one, Result)]
    assert "category='synface', preset='fast'" in first
    assert len(first) < 120
