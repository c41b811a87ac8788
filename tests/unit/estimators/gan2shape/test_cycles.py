"""GAN2Shape: which steps its schedule runs, in which order, on which networks."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from recording import Changes, ProgressLog, Snapshot, weights_of
from torch import Tensor

from g2s_cli import loading
from g2s_cli.config import Ellipsoid, Schedule, Stage
from g2s_cli.estimators.base import DepthEstimate, Observation
from g2s_cli.estimators.feedforward import FactorNets, FeedForward, estimate_of
from g2s_cli.estimators.gan2shape import cycles, prior
from g2s_cli.estimators.gan2shape.cycles import GAN2Shape
from g2s_cli.estimators.gan2shape.offset_encoder import OffsetEncoder
from g2s_cli.estimators.gan2shape.offsets import EncoderPredictor
from g2s_cli.estimators.gan2shape.step2 import GanPrior
from g2s_cli.estimators.morphable import MorphableEstimator
from g2s_cli.geometry.warp import hflip
from g2s_cli.loading import Plan
from g2s_cli.machine import Machine
from g2s_cli.options import ReconstructOptions
from g2s_cli.progress import SilentProgress

SIZE = 16
ONCE, NEVER = Stage(1, 1, 1), Stage(0, 0, 0)
SHAPE = Ellipsoid(near=0.92, far=1.02, radius=0.4)
ADAM = {"rate": 1e-3, "decay": 0.0}
Method = Callable[..., GAN2Shape]


def schedule(*stages: Stage, **changes: object) -> Schedule:
    """A small one from trained networks, without symmetry."""
    settings = {"start": "networks", "batch": 2, "samples": 2, "prior": 0, "symmetry": "off", **ADAM} | changes
    return Schedule(stages=stages, **settings)


@pytest.fixture
def method(nets: FactorNets, encoder: OffsetEncoder, gan: GanPrior) -> Method:
    """Makes GAN2Shape of a schedule, on copies of the networks `nets` and `encoder`."""

    def build(steps: Schedule, seed: int = 0, nets: FactorNets = nets) -> GAN2Shape:
        def networks() -> tuple[FactorNets, EncoderPredictor]:
            predictor = EncoderPredictor(gan.generator.mapping, copy.deepcopy(encoder), depth=8, relative=True)
            return copy.deepcopy(nets), predictor

        return GAN2Shape(networks, gan, steps, SHAPE, seed)

    return build


def assert_equal(one: DepthEstimate, other: DepthEstimate) -> None:
    assert one.factors is not None
    assert other.factors is not None
    assert torch.equal(one.depth, other.depth)
    for name in ("depth", "albedo", "view", "light"):
        assert torch.equal(getattr(one.factors, name), getattr(other.factors, name))
    assert all(torch.equal(tensor, other.encoder[name]) for name, tensor in one.encoder.items())


def test_cycles_from_the_ellipsoid(
    method: Method, observation: Observation, progress: ProgressLog, nets: FactorNets, encoder: OffsetEncoder
) -> None:
    steps = schedule(Stage(2, 1, 1), ONCE, prior=4, start="ellipsoid")
    made = []
    estimator = method(steps)
    estimator = replace(estimator, networks=lambda make=estimator.networks: made.append(make()) or made[-1])
    estimate = estimator.estimate(observation, progress)
    assert progress.steps == [
        "prior 4",
        *("step 1: albedo 2", "step 2: project 1", "step 3: shape 1"),
        *("step 1: albedo 1", "step 2: project 1", "step 3: shape 1"),
    ]
    [(trained, predictor)] = made
    expected = estimate_of(trained.factors_of(observation.image), nets.camera)
    assert_equal(estimate, replace(expected, encoder=predictor.encoder.state_dict()))
    assert not torch.equal(weights_of(predictor.encoder), weights_of(encoder))


def test_each_step_changes_its_networks_alone(
    nets: FactorNets, encoder: OffsetEncoder, gan: GanPrior, observation: Observation
) -> None:
    factors = {name: getattr(nets, name) for name in ("depth", "albedo", "view", "light")}
    frozen = {"generator": gan.generator, "discriminator": gan.distance.discriminator}
    progress = Changes(factors | frozen | {"encoder": encoder})
    predictor = EncoderPredictor(gan.generator.mapping, encoder, depth=8, relative=True)
    steps = schedule(Stage(8, 3, 5), prior=30, rate=2e-3, symmetry="on")
    GAN2Shape(lambda: (nets, predictor), gan, steps, SHAPE, 0).estimate(observation, progress)
    assert progress.changed == {
        "prior": {"depth"},
        "step 1: albedo": {"albedo"},
        "step 2: project": {"encoder"},
        "step 3: shape": set(factors),
    }
    for step, share in {"prior": 0.5, "step 1: albedo": 0.9, "step 3: shape": 1.0}.items():
        assert progress.losses[step][-1] < share * progress.losses[step][0]


def test_an_estimate_follows_from_the_seed_and_changes_no_network_of_the_next(
    method: Method, snapshot: Snapshot, observation: Observation
) -> None:
    estimator, silent = method(schedule(ONCE)), SilentProgress()
    assert_equal(*(estimator.estimate(observation, silent) for _ in range(2)))
    assert snapshot.changed() == set()
    other = method(schedule(ONCE), seed=1).estimate(observation, silent)
    assert not torch.equal(estimator.estimate(observation, silent).depth, other.depth)


@pytest.mark.parametrize(
    ("stage", "samples"), [(Stage(1, 5, 0), 2), (Stage(1, 5, 5), 0)], ids=["no step 3", "no samples"]
)
def test_without_step_3_or_its_samples_there_is_only_step_1(
    method: Method,
    observation: Observation,
    progress: ProgressLog,
    snapshot: Snapshot,
    encoder: OffsetEncoder,
    stage: Stage,
    samples: int,
) -> None:
    estimate = method(schedule(stage, samples=samples)).estimate(observation, progress)
    assert progress.steps == ["step 1: albedo 1"]
    assert estimate.factors is not None
    assert torch.equal(estimate.factors.depth, snapshot.nets.factors_of(observation.image).depth)
    assert all(torch.equal(tensor, estimate.encoder[name]) for name, tensor in encoder.state_dict().items())


@pytest.mark.parametrize("inner", [False, True])
def test_the_prior_stands_on_the_inner_mask_if_there_is_one(
    method: Method, observation: Observation, inner: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    masks = []
    ellipsoid = prior.ellipsoid
    monkeypatch.setattr(cycles, "ellipsoid", lambda mask, shape: masks.append(mask) or ellipsoid(mask, shape))
    inner_mask = torch.zeros(SIZE, SIZE)
    inner_mask[4:12, 4:12] = 1
    observation = replace(observation, inner_mask=inner_mask if inner else None)
    method(schedule(NEVER, prior=1)).estimate(observation, SilentProgress())
    [mask] = masks
    assert torch.equal(mask, inner_mask if inner else observation.mask)


@pytest.mark.parametrize(
    ("symmetry", "count", "even"),
    [("on", 2, True), ("first-stage", 1, True), ("first-stage", 2, False), ("off", 1, False)],
)
def test_networks_with_a_template_are_averaged_with_their_mirror_image_in_symmetric_cycles(
    method: Method, nets: FactorNets, observation: Observation, symmetry: str, count: int, even: bool
) -> None:
    with_template = replace(nets, mean_depth=torch.zeros(SIZE, SIZE))
    steps = schedule(*[NEVER] * count, symmetry=symmetry)
    factors = method(steps, nets=with_template).estimate(observation, SilentProgress()).factors
    assert factors is not None
    assert torch.allclose(factors.depth, hflip(factors.depth), atol=1e-6) == even
    assert torch.allclose(factors.albedo, hflip(factors.albedo), atol=1e-6) == even


@pytest.mark.parametrize("template", [False, True])
def test_networks_without_a_template_have_symmetric_losses_instead(
    method: Method, nets: FactorNets, observation: Observation, template: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    symmetries: list[bool] = []
    shape_loss = cycles.shape_loss

    def recorded(*values: Any, symmetric: bool) -> Tensor:
        symmetries.append(symmetric)
        return shape_loss(*values, symmetric=symmetric)

    monkeypatch.setattr(cycles, "shape_loss", recorded)
    nets = replace(nets, mean_depth=torch.zeros(SIZE, SIZE) if template else None)
    steps = schedule(*[Stage(0, 0, 1)] * 2, symmetry="first-stage")
    method(steps, nets=nets).estimate(observation, SilentProgress())
    assert symmetries == [not template, False]


@pytest.mark.slow
def test_the_embedded_networks_are_not_changed() -> None:
    options = ReconstructOptions(category="synface", preset="paper", iterations=1)
    loaded = loading.load(Plan.of(options), Machine.named("cpu"))
    tensors = {name: tensor.clone() for name, tensor in loaded.networks.items()}
    [estimator] = loaded.estimators()
    latent = loaded.gan.generator.mapping(torch.zeros(1, loaded.gan.generator.latent_size))[0]
    size = loaded.category.working_size
    image = loaded.center_crop(loaded.gan.generator(latent[None]).clamp(-1, 1))[0].detach()
    observation = Observation(image, torch.ones(size, size), latent.detach(), loaded.center_crop)
    one, two = (estimator.estimate(observation, SilentProgress()) for _ in range(2))
    assert_equal(one, two)
    assert not torch.equal(one.depth, FeedForward(loaded.factor_nets()).estimate(observation, SilentProgress()).depth)
    assert all(torch.equal(tensor, loaded.networks[name]) for name, tensor in tensors.items())


@pytest.mark.slow
def test_the_estimators_of_a_preset_share_no_factor_networks() -> None:
    options = ReconstructOptions(category="synface", preset="fast", iterations=1)
    loaded = loading.load(Plan.of(options), Machine.named("cpu"))
    feedforward, morphable, _ = loaded.estimators()
    assert isinstance(morphable, MorphableEstimator)
    nets = (feedforward.nets, morphable.nets, loaded.factor_nets())  # the pipeline fits the albedo of the third
    pointers = [weight.data_ptr() for one in nets for weight in one.parameters("depth", "albedo", "view", "light")]
    assert len(set(pointers)) == len(pointers)
