"""The three steps: each lowers its loss, and changes the networks it is given and no other."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, fields, replace

import pytest
import torch
from g2s_cli.estimators.gan2shape.steps import Held, fit_offset, fit_shape, fit_view
from torch import Tensor, nn

from g2s_cli.config import Ellipsoid
from g2s_cli.estimators.albedo import albedo_loss, fit_albedo
from g2s_cli.estimators.base import MaskedImages, Observation
from g2s_cli.estimators.feedforward import FactorNets
from g2s_cli.estimators.gan2shape.offset_encoder import OffsetEncoder
from g2s_cli.estimators.gan2shape.offsets import EncoderPredictor, LatentDirections, PseudoSamples
from g2s_cli.estimators.gan2shape.prior import ellipsoid, fit_prior
from g2s_cli.estimators.gan2shape.sampling import LightPrior, ViewPrior
from g2s_cli.estimators.gan2shape.step2 import photo_sample, project_samples, pseudo_sampler
from g2s_cli.estimators.optimize import Fit
from g2s_cli.gan.losses import DiscriminatorDistance
from g2s_cli.gan.stylegan2 import Generator
from g2s_cli.geometry.center_crop import CenterCrop
from g2s_cli.geometry.normals import depth_to_normals, smoothness_loss
from g2s_cli.geometry.shading import diffuse_shading
from g2s_cli.progress import SilentProgress
from g2s_cli.segmentation.gan_features import Segmenter

SIZE = 16
FRAME = CenterCrop(1.0, SIZE)
VIEWS = ViewPrior(torch.zeros(6), torch.diag(torch.tensor([0.01, 0.04, 0.001, 0.0, 0.0, 0.0])))
LIGHTS = LightPrior(x=(-0.9, 0.9), y=(-0.3, 0.8), diffuse=(-0.1, 0.7), alpha=-0.4)


class Losses(SilentProgress):
    """A watch that writes down what it hears."""

    def __init__(self) -> None:
        self.steps: list[tuple[str, int]] = []
        self.values: list[float] = []

    def begin(self, step: str, total: int, quantity: str = "loss") -> None:  # noqa: ARG002
        self.steps.append((step, total))

    def advance(self, done: int, loss: float) -> None:
        self.values.append(loss)
        assert done <= self.steps[-1][1]


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def state_of(net: nn.Module) -> Tensor:
    return torch.cat([value.detach().clone().flatten() for value in (*net.parameters(), *net.buffers())])


def changed(nets: FactorNets, before: dict[str, Tensor]) -> set[str]:
    return {name for name, state in before.items() if not torch.equal(state, state_of(getattr(nets, name)))}


@pytest.fixture
def states(nets: FactorNets) -> dict[str, Tensor]:
    return {field.name: state_of(getattr(nets, field.name)) for field in fields(nets)[:4]}


@pytest.fixture(scope="module")
def observation(generator: Generator, latents: Tensor) -> Observation:
    mask = torch.ones(SIZE, SIZE)
    mask[:, :2] = mask[:, -2:] = 0
    return Observation(FRAME(generator(latents[:1]).clamp(-1, 1))[0] * mask, mask, latents[0], FRAME)


@pytest.fixture
def encoder(generator: Generator) -> OffsetEncoder:
    torch.manual_seed(0)
    encoder = OffsetEncoder(SIZE, generator.latent_size, width=8)
    with torch.no_grad():
        encoder.network[-1].weight.mul_(30)  # a fresh encoder hardly says anything
    return encoder


def asked(count: int, seed: int = 0) -> PseudoSamples:
    rng = seeded(seed)
    view, light = (torch.randn(count, n, generator=rng) for n in (6, 4))
    return PseudoSamples(torch.rand(count, 3, SIZE, SIZE, generator=rng), torch.ones(count, 1, SIZE, SIZE), view, light)


def test_linear_offsets_follow_the_change_of_turn_and_light() -> None:
    directions = torch.randn(4, 8, generator=seeded(0))
    offset_predictor, own = LatentDirections(directions), asked(1)
    assert not offset_predictor.offset(own, own).any()
    other = PseudoSamples(own.image, own.mask, own.view.clone(), own.light.clone())
    other.view[0, 1] += 0.5  # yaw
    other.view[0, 2:] += 1  # roll and shifts have no direction
    other.light[0, 3] -= 2  # l_y
    other.light[0, :2] += 1  # nor have ambient and diffuse
    torch.testing.assert_close(offset_predictor.offset(other, own)[0], 0.5 * directions[1] - 2 * directions[3])


@torch.no_grad()
@pytest.mark.parametrize("depth", [8, 3])
def test_relative_offsets_vanish_for_the_object_as_it_is(
    generator: Generator, encoder: OffsetEncoder, depth: int
) -> None:
    offset_predictor = EncoderPredictor(generator.mapping, encoder, depth=depth, relative=True)
    own, others = asked(1), asked(3, seed=1)
    torch.testing.assert_close(offset_predictor.offset(own, own), torch.zeros(1, 512), rtol=0, atol=1e-4)
    assert offset_predictor.offset(others, own).norm(dim=1).min() > 0.01


@torch.no_grad()
@pytest.mark.parametrize("depth", [8, 3])
def test_absolute_offsets_are_equation_7(generator: Generator, encoder: OffsetEncoder, depth: int) -> None:
    """Δw = F₁(E(I) + F₂(0)) - F(0), F₁ being the last `depth` of the eight layers."""
    some, mapping = asked(2), generator.mapping
    origin = torch.zeros(1, 512)
    for number in range(8 - depth):
        origin = mapping(origin, first=number + 1, last=number + 2)
    code = encoder(some.image) + origin
    for number in range(8 - depth, 8):
        code = mapping(code, first=number + 1, last=number + 2)
    found = EncoderPredictor(mapping, encoder, depth=depth, relative=False).offset(some, asked(1))
    torch.testing.assert_close(found, code - mapping(torch.zeros(1, 512)), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_without_the_mapping_network_the_offset_is_the_encoders_answer(
    generator: Generator, encoder: OffsetEncoder
) -> None:
    """The paper's "w/o regularize" (table 1, row 5)."""
    some = asked(2)
    found = EncoderPredictor(generator.mapping, encoder, depth=0, relative=False).offset(some, asked(1))
    torch.testing.assert_close(found, encoder(some.image), rtol=1e-4, atol=1e-5)


def test_step_1_changes_the_albedo_alone(
    nets: FactorNets, states: dict[str, Tensor], observation: Observation, distance: DiscriminatorDistance
) -> None:
    progress = Losses()
    fit_albedo(nets, observation, distance, Fit(8, rate=2e-3, decay=0.0), progress, symmetric=False)
    assert changed(nets, states) == {"albedo"}
    assert progress.steps == [("albedo", 8)]
    assert progress.values[-1] < 0.9 * progress.values[0]


def test_placing_changes_view_and_light_alone(
    nets: FactorNets, states: dict[str, Tensor], observation: Observation, distance: DiscriminatorDistance
) -> None:
    progress = Losses()
    fit_view(nets, observation, distance, Fit(8, rate=1e-3, decay=0.0), progress)
    assert changed(nets, states) == {"view", "light"}
    assert progress.steps == [("view", 8)]
    assert progress.values[-1] < 0.98 * progress.values[0]


def test_a_symmetric_step_1_sees_the_mirrored_object_too(
    nets: FactorNets, observation: Observation, distance: DiscriminatorDistance
) -> None:
    plain, both = Losses(), Losses()
    fit_albedo(nets, observation, distance, Fit(1, rate=0.0, decay=0.0), plain, symmetric=False)
    fit_albedo(nets, observation, distance, Fit(1, rate=0.0, decay=0.0), both, symmetric=True)
    assert plain.values[0] != pytest.approx(both.values[0], abs=1e-5)


def test_where_the_mask_is_empty_smoothness_alone_is_left(
    nets: FactorNets, observation: Observation, distance: DiscriminatorDistance
) -> None:
    nowhere, progress = (
        Observation(observation.image, torch.zeros_like(observation.mask), observation.latent, FRAME),
        Losses(),
    )
    with torch.no_grad():
        image = observation.image[None]
        depth, light = nets.depth_of(image), nets.light_of(image)
        smoothness = 0.01 * (
            smoothness_loss(depth) + smoothness_loss(diffuse_shading(depth_to_normals(depth, nets.camera), light))
        )
    for where in (nowhere, observation):
        fit_albedo(nets, where, distance, Fit(1, rate=0.0, decay=0.0), progress, symmetric=False)
    assert progress.values[0] == pytest.approx(smoothness.item())
    assert progress.values[1] > 2 * smoothness


@pytest.mark.parametrize(("grey", "wrong"), [(1.0, False), (0.9, True)])
def test_nothing_is_too_bright_for_what_is_white(
    nets: FactorNets, observation: Observation, distance: DiscriminatorDistance, grey: float, wrong: bool
) -> None:
    photo = replace(observation, image=torch.full_like(observation.image, grey))
    image = photo.image[None]
    dazzling = torch.tensor([[30.0, 0.0, 0.0, 0.0]])
    with torch.no_grad():
        held = Held.of(nets.depth_of(image), nets.view_of(image), dazzling, nets, symmetric=True)
        seen = held.own.painted(nets.albedo_of(image))
        assert seen.image[:, :, seen.valid[0]].amin() > 1
        smoothness = 0.01 * (smoothness_loss(held.depth) + smoothness_loss(held.own.diffuse))
        loss = albedo_loss(nets, photo, held, distance)
    assert (loss.item() > 0.1 + smoothness) == wrong
    assert wrong or loss.item() == pytest.approx(smoothness.item())


def test_step_2_changes_the_encoder_alone(
    nets: FactorNets,
    states: dict[str, Tensor],
    observation: Observation,
    distance: DiscriminatorDistance,
    generator: Generator,
    encoder: OffsetEncoder,
) -> None:
    progress, before, gan = Losses(), state_of(encoder), state_of(generator)
    own = photo_sample(nets, observation, generator)
    draw = pseudo_sampler(nets, observation, VIEWS, LIGHTS, 2, seeded(0))
    same = draw()
    offset_predictor = EncoderPredictor(generator.mapping, encoder, depth=8, relative=True)
    settings = Fit(6, rate=1e-3)
    fit_offset(offset_predictor, generator, lambda: same, own, observation, distance, settings, progress)
    assert not torch.equal(before, state_of(encoder))
    assert torch.equal(gan, state_of(generator))
    assert changed(nets, states) == set()
    assert progress.steps == [("project", 6)]
    assert progress.values[-1] < progress.values[0]


def test_what_offsets_cost_is_a_value(
    nets: FactorNets,
    observation: Observation,
    distance: DiscriminatorDistance,
    generator: Generator,
    encoder: OffsetEncoder,
) -> None:
    own, same, still, progress = (
        photo_sample(nets, observation, generator),
        asked(2),
        Fit(1, rate=0.0, decay=0.0),
        Losses(),
    )
    paper = EncoderPredictor(generator.mapping, encoder, depth=0, relative=True)
    for offset_predictor in (paper, replace(paper, weight=0.0), replace(paper, weight=1.0)):
        fit_offset(offset_predictor, generator, lambda: same, own, observation, distance, still, progress)
    with torch.no_grad():
        cost = paper.offset(same, own).square().mean().item()
    assert cost > 1e-3
    stated, free, dear = progress.values
    assert stated - free == pytest.approx(0.01 * cost, abs=1e-5)
    assert dear - free == pytest.approx(cost, rel=1e-3)


def test_pictures_too_large_to_be_made_at_once_are_made_in_parts(
    nets: FactorNets,
    observation: Observation,
    distance: DiscriminatorDistance,
    generator: Generator,
    encoder: OffsetEncoder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own, same = photo_sample(nets, observation, generator), asked(4)
    same.mask.fill_(1)  # parts weigh by their pictures, so only where all of them count is the sum the whole's
    gradients = []
    result: list[int] = []
    forward = Generator.forward_features
    monkeypatch.setattr(Generator, "forward_features", lambda net, w: result.append(len(w)) or forward(net, w))
    for most, sizes in ((generator.size**2 * 9, [4]), (generator.size**2 * 3, [3, 1]), (1, [1, 1, 1, 1])):
        monkeypatch.setattr("g2s_cli.gan.stylegan2.MAX_BATCH_PIXELS", most)
        result.clear()
        offset_predictor = EncoderPredictor(generator.mapping, deepcopy(encoder), depth=8, relative=True)
        fit_offset(offset_predictor, generator, lambda: same, own, observation, distance, Fit(1, rate=0.0), Losses())
        assert result == sizes
        gradients.append(torch.cat([weight.grad.flatten() for weight in offset_predictor.encoder.parameters()]))
        result.clear()
        samples = project_samples(Still(), generator, lambda: same, own, observation, 4, None)
        assert result == sizes
        assert len(samples.image) == 4
    for parts in gradients[1:]:
        assert (parts - gradients[0]).norm() < 1e-4 * gradients[0].norm()


@pytest.mark.parametrize("symmetric", [False, True])
def test_step_3_changes_the_four_networks(
    nets: FactorNets,
    states: dict[str, Tensor],
    observation: Observation,
    distance: DiscriminatorDistance,
    generator: Generator,
    symmetric: bool,
) -> None:
    progress, gan, judge = Losses(), state_of(generator), state_of(distance.discriminator)
    same = MaskedImages(observation.image.expand(3, -1, -1, -1), observation.mask.expand(3, 1, -1, -1))
    settings = Fit(5, rate=1e-3, decay=0.0)
    fit_shape(nets, observation, same, distance, settings, 2, seeded(0), progress, symmetric=symmetric)
    assert changed(nets, states) == {"depth", "albedo", "view", "light"}
    assert torch.equal(gan, state_of(generator))
    assert torch.equal(judge, state_of(distance.discriminator))
    assert progress.steps == [("shape", 5)]
    assert progress.values[-1] < progress.values[0]


def test_the_prior_changes_the_depth_alone(
    nets: FactorNets, states: dict[str, Tensor], observation: Observation
) -> None:
    shape = ellipsoid(observation.mask, Ellipsoid(near=0.92, far=1.02, radius=0.4))
    progress = Losses()
    fit_prior(nets, observation, shape, Fit(30, rate=2e-3, decay=0.0), progress)
    assert changed(nets, states) == {"depth"}
    assert progress.values[-1] < 0.5 * progress.values[0]


def test_pseudo_samples_are_the_object_within_its_mask(nets: FactorNets, observation: Observation) -> None:
    draw = pseudo_sampler(nets, observation, VIEWS, LIGHTS, 4, seeded(0))
    one, two = draw(), draw()
    assert one.image.shape == (4, 3, SIZE, SIZE)
    assert set(one.mask.unique().tolist()) == {0, 1}
    assert not (one.image * (1 - one.mask)).any()
    assert one.image.abs().max() <= 1
    assert not torch.equal(one.view, two.view)
    again = pseudo_sampler(nets, observation, VIEWS, LIGHTS, 4, seeded(0))()
    assert all(torch.equal(getattr(one, field.name), getattr(again, field.name)) for field in fields(PseudoSamples))
    own = nets.light_of(observation.image[None])[0].detach()
    torch.testing.assert_close(one.light[:, 0] - own[0], -0.4 * (one.light[:, 1] - own[1]))


def test_the_object_as_it_is(nets: FactorNets, observation: Observation, generator: Generator) -> None:
    own = photo_sample(nets, observation, generator)
    torch.testing.assert_close(own.image[0], observation.image)  # the target is an image of the GAN
    assert torch.equal(own.mask[0, 0], observation.mask)
    torch.testing.assert_close(own.view, nets.view_of(observation.image[None]).detach())


@dataclass(frozen=True)
class Still:
    """A projector that never moves."""

    def offset(self, asked: PseudoSamples, own: PseudoSamples) -> Tensor:
        assert len(own.image) == 1
        return torch.zeros(len(asked.image), 512)


@pytest.mark.parametrize("parsed", [False, True])
def test_projected_samples_are_what_the_gan_shows(
    nets: FactorNets, observation: Observation, generator: Generator, segmenter: Segmenter, parsed: bool
) -> None:
    own = photo_sample(nets, observation, generator)
    some = asked(2)
    some.mask[:, :, :8] = 0
    samples = project_samples(Still(), generator, lambda: some, own, observation, 3, segmenter if parsed else None)
    assert len(samples.image) == len(samples.mask) == 4  # whole batches, at least three
    generate = FRAME(generator(observation.latent[None]).clamp(-1, 1))
    if parsed:
        assert samples.mask[0, 0, 4:12, 5:11].min() == 1
        assert samples.mask[0, 0, 0, 0] == 0
    else:
        assert torch.equal(samples.mask, some.mask.repeat(2, 1, 1, 1))
    torch.testing.assert_close(samples.image, generate * samples.mask)
    picked = samples.pick(torch.tensor([1]))
    assert torch.equal(picked.image, samples.image[1:2])
