"""Step 2: pseudo samples, the loss of the offset encoder, and projected samples."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, fields, replace

import pytest
import torch
from recording import pseudo_samples
from torch import Tensor

from g2s_cli.estimators.base import Observation
from g2s_cli.estimators.feedforward import FactorNets
from g2s_cli.estimators.gan2shape.offset_encoder import OffsetEncoder
from g2s_cli.estimators.gan2shape.offsets import EncoderPredictor, PseudoSamples
from g2s_cli.estimators.gan2shape.step2 import (
    GanPrior,
    offset_loss,
    photo_sample,
    project_samples,
    pseudo_sampler,
)
from g2s_cli.gan.stylegan2 import Generator
from g2s_cli.segmentation.gan_features import Segmenter


@dataclass(frozen=True)
class NoOffset:
    """An offset predictor that always predicts 0."""

    def offset(self, samples: PseudoSamples, photo: PseudoSamples) -> Tensor:
        assert len(photo.image) == 1
        return torch.zeros(len(samples.image), 512)


@pytest.fixture
def predictor(generator: Generator, encoder: OffsetEncoder) -> EncoderPredictor:
    return EncoderPredictor(generator.mapping, encoder, depth=8, relative=True)


@pytest.fixture
def photo(nets: FactorNets, observation: Observation, generator: Generator) -> PseudoSamples:
    return photo_sample(nets, observation, generator)


@torch.no_grad()
def test_offsets_cost_their_mean_squares_times_a_weight(
    observation: Observation, gan: GanPrior, predictor: EncoderPredictor, photo: PseudoSamples
) -> None:
    batch, default = pseudo_samples(2), replace(predictor, depth=0)
    paper, free, heavy = (
        sum(part.item() for part in offset_loss(replace(default, weight=weight), batch, photo, observation, gan))
        for weight in (default.weight, 0.0, 1.0)
    )
    squares = default.offset(batch, photo).square().mean().item()
    assert squares > 1e-3
    assert paper - free == pytest.approx(0.01 * squares, abs=1e-5)
    assert heavy - free == pytest.approx(squares, rel=1e-3)


def test_batches_too_large_for_memory_are_split(
    observation: Observation,
    gan: GanPrior,
    predictor: EncoderPredictor,
    photo: PseudoSamples,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    batch = pseudo_samples(4)  # parts weigh by their images: with full masks their sum is the loss of the whole
    generator, forward, sizes = gan.generator, Generator.forward_features, []
    monkeypatch.setattr(Generator, "forward_features", lambda net, w: sizes.append(len(w)) or forward(net, w))
    gradients = []
    for pixels, expected in ((generator.size**2 * 9, [4]), (generator.size**2 * 3, [3, 1]), (1, [1, 1, 1, 1])):
        monkeypatch.setattr("g2s_cli.gan.stylegan2.MAX_BATCH_PIXELS", pixels)
        copy = replace(predictor, encoder=deepcopy(predictor.encoder))
        sizes.clear()
        for part in offset_loss(copy, batch, photo, observation, gan):
            part.backward()
        assert sizes == expected
        gradients.append(torch.cat([weight.grad.flatten() for weight in copy.encoder.parameters()]))
        sizes.clear()
        samples = project_samples(NoOffset(), lambda: batch, photo, observation, generator, 4)
        assert sizes == expected
        assert len(samples.image) == 4
    for in_parts in gradients[1:]:
        assert (in_parts - gradients[0]).norm() < 1e-4 * gradients[0].norm()


def test_pseudo_samples_are_0_outside_their_masks_and_follow_the_seed(
    nets: FactorNets, observation: Observation, gan: GanPrior
) -> None:
    draw, again = (pseudo_sampler(nets, observation, gan, 4, torch.Generator().manual_seed(0)) for _ in range(2))
    one, two, same = draw(), draw(), again()
    assert one.image.shape == (4, 3, 16, 16)
    assert set(one.mask.unique().tolist()) == {0, 1}
    assert not (one.image * (1 - one.mask)).any()
    assert one.image.abs().max() <= 1
    assert not torch.equal(one.view, two.view)
    assert all(torch.equal(getattr(one, field.name), getattr(same, field.name)) for field in fields(PseudoSamples))
    own = nets.light_of(observation.image[None])[0].detach()
    torch.testing.assert_close(one.light[:, 0] - own[0], -0.4 * (one.light[:, 1] - own[1]))


def test_the_photos_sample_is_its_inversion_in_its_own_view(
    nets: FactorNets, observation: Observation, photo: PseudoSamples
) -> None:
    torch.testing.assert_close(photo.image[0], observation.image)  # the photo is an image of the GAN
    assert torch.equal(photo.mask[0, 0], observation.mask)
    torch.testing.assert_close(photo.view, nets.view_of(observation.image[None]).detach())
    torch.testing.assert_close(photo.light, nets.light_of(observation.image[None]).detach())


@pytest.mark.parametrize("segmented", [False, True])
def test_projected_samples_are_the_gans_images_within_their_masks(
    observation: Observation, generator: Generator, segmenter: Segmenter, photo: PseudoSamples, segmented: bool
) -> None:
    batch = pseudo_samples(2)
    batch.mask[:, :, :8] = 0
    observation = replace(observation, segmenter=segmenter if segmented else None)
    samples = project_samples(NoOffset(), lambda: batch, photo, observation, generator, 3)
    assert len(samples.image) == len(samples.mask) == 4  # whole batches, at least three
    if segmented:
        assert samples.mask[0, 0, 4:12, 5:11].min() == 1
        assert samples.mask[0, 0, 0, 0] == 0
    else:
        assert torch.equal(samples.mask, batch.mask.repeat(2, 1, 1, 1))
    image = observation.center_crop(generator(observation.latent[None]).clamp(-1, 1))
    torch.testing.assert_close(samples.image, image * samples.mask)
    assert torch.equal(samples.pick(torch.tensor([1])).image, samples.image[1:2])
