"""Which steps a preset runs, in which order, on which networks."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor

from g2s_cli.config import Category, Preset, Stage
from g2s_cli.estimators import morphable as morphing
from g2s_cli.estimators import registration
from g2s_cli.estimators.base import Observation
from g2s_cli.estimators.depth_net import DepthNet
from g2s_cli.estimators.feedforward import FactorNets
from g2s_cli.estimators.gan2shape import cycles
from g2s_cli.estimators.gan2shape.cycles import Guides, fit
from g2s_cli.estimators.gan2shape.offset_encoder import OffsetEncoder
from g2s_cli.estimators.gan2shape.offsets import EncoderPredictor, LatentDirections, OffsetPredictor
from g2s_cli.estimators.gan2shape.sampling import LightPrior, ViewPrior
from g2s_cli.estimators.morphable import MorphableFit
from g2s_cli.estimators.morphable_model import MorphableModel
from g2s_cli.estimators.registration import ShapeTemplate
from g2s_cli.gan.losses import DiscriminatorDistance
from g2s_cli.gan.stylegan2 import Generator
from g2s_cli.geometry.center_crop import CenterCrop
from g2s_cli.geometry.factors import Factors
from g2s_cli.geometry.warp import hflip
from g2s_cli.progress import SilentProgress
from g2s_cli.segmentation.gan_features import Segmenter
from g2s_cli.weights.categories import load_category

SIZE = 16
FRAME = CenterCrop(1.0, SIZE)
ONCE = Stage(1, 1, 1)
Ran = Callable[[Preset, Guides], tuple[list[str], Factors]]


class Steps(SilentProgress):
    """A watch that writes down the steps."""

    def __init__(self) -> None:
        self.initial_coefficients: list[str] = []

    def begin(self, step: str, total: int, quantity: str = "loss") -> None:  # noqa: ARG002
        self.initial_coefficients.append(f"{step} {total}")


@pytest.fixture(scope="module")
def category() -> Category:
    return replace(load_category("synface"), working_size=SIZE)


@pytest.fixture(scope="module")
def observation(generator: Generator, latents: Tensor) -> Observation:
    image = FRAME(generator(latents[:1]).clamp(-1, 1))[0]
    return Observation(image, torch.ones(SIZE, SIZE), latents[0], FRAME)


@pytest.fixture(scope="module")
def guides(distance: DiscriminatorDistance, segmenter: Segmenter) -> Guides:
    views = ViewPrior(torch.zeros(6), 0.01 * torch.eye(6))
    return Guides(distance, distance, views, LightPrior((-0.9, 0.9), (-0.3, 0.8), (-0.1, 0.7), -0.4), segmenter)


@pytest.fixture
def encoder(generator: Generator) -> EncoderPredictor:
    return EncoderPredictor(generator.mapping, OffsetEncoder(SIZE, 512, width=4), depth=8, relative=True)


def preset(category: Category, *stages: Stage, **changes: object) -> Preset:
    return replace(category.preset("paper"), **({"stages": stages, "batch": 2, "samples": 2} | changes))


def ran(
    nets: FactorNets,
    offset_predictor: OffsetPredictor,
    generator: Generator,
    observation: Observation,
    category: Category,
    preset: Preset,
    guides: Guides,
) -> tuple[list[str], Factors]:
    progress, rng = Steps(), torch.Generator().manual_seed(0)
    found = fit(
        nets,
        offset_predictor,
        generator,
        observation,
        observation.mask,
        category,
        preset,
        preset.symmetry,
        guides,
        rng,
        progress,
    )
    return progress.initial_coefficients, found


def test_cycles_from_the_ellipsoid(
    nets: FactorNets,
    encoder: EncoderPredictor,
    generator: Generator,
    observation: Observation,
    category: Category,
    guides: Guides,
) -> None:
    schedule = preset(category, Stage(2, 1, 1), ONCE, prior=4, start="ellipsoid")
    initial_coefficients, found = ran(nets, encoder, generator, observation, category, schedule, guides)
    assert initial_coefficients == ["prior 4", "albedo 2", "project 1", "shape 1", "albedo 1", "project 1", "shape 1"]
    image = observation.image[None]
    with torch.no_grad():
        torch.testing.assert_close(found.depth, nets.depth_of(image)[0])
        torch.testing.assert_close(found.albedo, nets.albedo_of(image)[0])
        torch.testing.assert_close(found.view, nets.view_of(image)[0])
        torch.testing.assert_close(found.light, nets.light_of(image)[0])


def test_linear_directions_need_no_second_step(
    nets: FactorNets, generator: Generator, observation: Observation, category: Category, guides: Guides
) -> None:
    linear = LatentDirections(torch.zeros(4, 512))
    initial_coefficients, _ = ran(nets, linear, generator, observation, category, preset(category, ONCE), guides)
    assert initial_coefficients == ["albedo 1", "shape 1"]


def test_the_object_is_placed_once_before_the_first_cycle(
    nets: FactorNets, generator: Generator, observation: Observation, category: Category, guides: Guides
) -> None:
    schedule = preset(category, ONCE, ONCE, place=3, samples=0)
    initial_coefficients, _ = ran(nets, Unused(), generator, observation, category, schedule, guides)
    assert initial_coefficients == ["view 3", "albedo 1", "shape 1", "albedo 1", "shape 1"]


@pytest.fixture
def mean(observation: Observation, segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch) -> ShapeTemplate:
    """A flat one, with which photos are registered in little time."""
    monkeypatch.setattr(registration, "UPDATES", 2)
    return ShapeTemplate(torch.full((SIZE, SIZE), 0.98), observation.latent, torch.zeros(4, 512), segmenter)


def nothing_known() -> MorphableModel:
    """Of how objects differ."""
    plain, still = torch.zeros(3, SIZE, SIZE), torch.zeros(SIZE, SIZE, 3, 2)
    return MorphableModel(
        still[..., 0], still, plain, plain[..., None], plain + 0.01, torch.ones(2, 4), torch.zeros(4, 2)
    )


@pytest.fixture
def unmoved(nets: FactorNets, generator: Generator, observation: Observation, category: Category) -> Ran:
    """A fit by a preset and guides that asks for no other views."""
    return partial(ran, nets, Unused(), generator, observation, category)


def test_a_photo_is_registered_once_before_it_is_placed(
    unmoved: Ran, nets: FactorNets, observation: Observation, category: Category, guides: Guides, mean: ShapeTemplate
) -> None:
    schedule = preset(category, ONCE, ONCE, register=2, place=3, samples=0)
    before = nets.depth_of(observation.image[None]).detach()
    initial_coefficients, _ = unmoved(schedule, replace(guides, mean=mean))
    assert initial_coefficients == ["match 1", "register 2", "view 3", "albedo 1", "shape 1", "albedo 1", "shape 1"]

    still = preset(category, Stage(0, 0, 0), register=2, rate=1e-3)
    _, found = unmoved(still, replace(guides, mean=mean))
    assert (found.depth - before[0]).abs().max() > 1e-4
    initial_coefficients, _ = unmoved(still, guides)  # where no mean object is known
    assert initial_coefficients == ["albedo 0"]


def test_a_second_opinion_is_heard_before_the_first_cycle_and_followed_after_it(
    unmoved: Ran, category: Category, guides: Guides, mean: ShapeTemplate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(morphing, "UPDATES", 2)
    hilly = replace(mean, depth=1 - 0.05 * torch.linspace(-1, 1, SIZE).square().expand(SIZE, SIZE))
    knowing = replace(guides, mean=hilly, shapes=nothing_known())
    schedule = preset(category, Stage(0, 0, 1), Stage(1, 0, 0), register=2, samples=0, rate=0.0, agree=0.5)
    initial_coefficients, led = unmoved(schedule, knowing)
    assert initial_coefficients == ["explain 2", "match 1", "register 2", "albedo 0", "shape 1", "albedo 1"]
    initial_coefficients, as_it_was = unmoved(replace(schedule, agree=0.0), knowing)
    assert initial_coefficients == ["match 1", "register 2", "albedo 0", "shape 1", "albedo 1"]
    assert (led.depth - as_it_was.depth).abs().max() > 1e-3
    assert torch.equal(led.view, as_it_was.view)
    _, alone = unmoved(schedule, guides)  # where no mean object is known
    assert torch.equal(alone.depth, as_it_was.depth)


def test_highlights_are_taken_off_where_shape_is_found_and_painted_on_in_the_end(
    unmoved: Ran, category: Category, guides: Guides, mean: ShapeTemplate, monkeypatch: pytest.MonkeyPatch
) -> None:
    specular: dict[str, float] = {}
    said = MorphableFit(torch.ones(1, SIZE, SIZE), torch.tensor([0.07]))
    monkeypatch.setattr(cycles, "second_opinion", lambda *_, **__: said)
    for step in ("fit_view", "fit_shape", "fit_albedo"):
        monkeypatch.setattr(cycles, step, lambda nets, *_, step=step, **__: specular.update({step: nets.specular}))
    schedule = preset(category, Stage(0, 0, 1), Stage(1, 0, 0), register=2, place=1, samples=0, agree=0.5)
    unmoved(schedule, replace(guides, mean=mean, shapes=nothing_known()))
    assert specular == pytest.approx({"fit_view": 0.07, "fit_shape": 0.07, "fit_albedo": 0.0})


def test_what_s_says_is_followed_after_the_first_cycle(unmoved: Ran, category: Category, guides: Guides) -> None:
    """Before the last albedo is fitted; where nobody has an S the relief stays as it is."""
    torch.manual_seed(0)
    sight = DepthNet(SIZE, 8, 8)
    sight.said.weight.data.mul_(10)
    schedule = preset(category, Stage(0, 0, 1), Stage(1, 0, 0), samples=0, rate=0.0, sight=0.8)
    initial_coefficients, led = unmoved(schedule, replace(guides, sight=sight))
    assert initial_coefficients == ["albedo 0", "shape 1", "albedo 1"]
    _, alone = unmoved(schedule, guides)
    _, unasked = unmoved(replace(schedule, sight=0.0), replace(guides, sight=sight))
    assert torch.equal(alone.depth, unasked.depth)
    assert (led.depth - alone.depth).abs().max() > 1e-3
    assert alone.depth_residual is None
    assert led.depth_residual is not None
    assert led.depth_residual.abs().max() > 1e-4
    _, later = unmoved(replace(schedule, stages=(Stage(0, 0, 1), Stage(0, 0, 1))), replace(guides, sight=sight))
    assert later.depth_residual is None  # step 3 has gone on from there


def test_the_second_opinion_is_read_with_the_presets_steps(
    unmoved: Ran, category: Category, guides: Guides, mean: ShapeTemplate, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []
    real = morphing.sharpen_template
    monkeypatch.setattr(morphing, "UPDATES", 1)
    monkeypatch.setattr(morphing, "with_steps", lambda *given: asked.append(given[-1]) or real(*given))
    schedule = preset(category, Stage(0, 0, 0), register=2, agree=0.5)
    unmoved(replace(schedule, steps=0.6), replace(guides, mean=mean, shapes=nothing_known()))
    unmoved(schedule, replace(guides, mean=mean, shapes=nothing_known()))
    assert asked == [0.6, 1.0]


@pytest.mark.parametrize("masked", [True, False])
def test_the_mean_object_is_shown_as_the_photo_is_whoever_masked_that(
    unmoved: Ran, category: Category, guides: Guides, mean: ShapeTemplate, masked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user's mask says nothing of other pictures, and leaves no parser among the guides."""
    asked, found = [], Segmenter.mask
    monkeypatch.setattr(Segmenter, "mask", lambda self, features: asked.append(len(features)) or found(self, features))
    schedule = preset(category, Stage(0, 0, 0), register=2, masked=masked)
    unmoved(schedule, replace(guides, mean=mean, segmenter=None))
    assert asked == ([1] * (registration.ROUNDS + 1) if masked else [])


def test_what_is_kept_of_the_depth_network_is_kept_in_the_result(
    nets: FactorNets, generator: Generator, observation: Observation, category: Category, guides: Guides
) -> None:
    def depth(keep: float, shape: int) -> Tensor:
        schedule = preset(category, Stage(0, 0, shape), keep=keep, samples=0, rate=1e-3)
        return ran(copy.deepcopy(nets), Unused(), generator, observation, category, schedule, guides)[1].depth

    before, after, between = depth(0.0, 0), depth(0.0, 4), depth(0.5, 4)
    torch.testing.assert_close(depth(1.0, 4), before)
    assert (between - before).abs().mean() < 0.9 * (after - before).abs().mean()
    assert (between - after).abs().mean() < 0.9 * (after - before).abs().mean()


class Unused:
    """A projector that nobody should ask."""

    def offset(self, asked: object, own: object) -> Tensor:
        raise AssertionError((asked, own))


def test_without_the_third_step_there_is_no_second(
    nets: FactorNets, generator: Generator, observation: Observation, category: Category, guides: Guides
) -> None:
    initial_coefficients, _ = ran(
        nets, Unused(), generator, observation, category, preset(category, Stage(1, 5, 0)), guides
    )
    assert initial_coefficients == ["albedo 1"]


@pytest.mark.parametrize(("symmetry", "cycles", "even"), [("on", 2, True), ("first-stage", 1, True),
    ("first-stage", 2, False), ("off", 1, False)])  # fmt: skip
def test_our_trained_networks_are_averaged_with_their_mirror_image_while_symmetry_lasts(
    nets: FactorNets,
    generator: Generator,
    observation: Observation,
    category: Category,
    guides: Guides,
    symmetry: str,
    cycles: int,
    even: bool,
) -> None:
    schedule = preset(category, *[Stage(0, 0, 0)] * cycles, symmetry=symmetry)
    nets = replace(nets, base=torch.zeros(SIZE, SIZE))  # ours have a mean shape, the authors' do not
    _, found = ran(nets, Unused(), generator, observation, category, schedule, guides)
    assert torch.allclose(found.depth, hflip(found.depth), atol=1e-6) == even
    assert torch.allclose(found.albedo, hflip(found.albedo), atol=1e-6) == even
