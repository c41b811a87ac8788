"""Inversion of generated images."""

from __future__ import annotations

from dataclasses import dataclass

import fake_checkpoints
import pytest
import torch
from recording import ProgressLog
from torch import Tensor

from g2s_cli.gan import inversion
from g2s_cli.gan.discriminator import Discriminator
from g2s_cli.gan.inversion import STATISTICS_SAMPLES, Inversion, InversionSettings
from g2s_cli.gan.latents import random_latents
from g2s_cli.gan.losses import DiscriminatorDistance
from g2s_cli.gan.stylegan2 import Generator
from g2s_cli.geometry.metrics import psnr
from g2s_cli.progress import SilentProgress


@dataclass(frozen=True)
class Inverter:
    generator: Generator
    distance: DiscriminatorDistance

    def __call__(
        self,
        photos: Tensor,
        seed: int = 0,
        progress: SilentProgress | None = None,
        initial: Tensor | None = None,
        **settings: float,
    ) -> list[Inversion]:
        rng, progress = torch.Generator().manual_seed(seed), progress or SilentProgress()
        return inversion.invert(
            photos, self.generator, self.distance, InversionSettings(**settings), rng, progress, initial
        )

    def candidates(self, seed: int) -> Tensor:
        return random_latents(self.generator, STATISTICS_SAMPLES, torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def invert(generator: Generator, distance: DiscriminatorDistance) -> Inverter:
    return Inverter(generator, distance)


@pytest.fixture(scope="module")
def small() -> Inverter:
    """With an untrained GAN of 32 px."""
    gan = fake_checkpoints.gan(32)
    generator = Generator(gan["g_ema"], torch.zeros(fake_checkpoints.LATENT))
    return Inverter(generator, DiscriminatorDistance(Discriminator(gan["d"])))


@pytest.mark.slow
def test_a_generated_face_is_recovered(invert: Inverter, generator: Generator, latents: Tensor) -> None:
    photo = generator(latents[1:])[0].clamp(-1, 1)
    progress = ProgressLog()
    [result] = invert(photo[None], 0, progress, iterations=24, candidates=32, learning_rate=0.1, feature_weight=0.3)
    assert result.psnr_db > 30
    assert result.psnr_db == pytest.approx(psnr(result.image, photo))
    torch.testing.assert_close(generator(result.latent[None])[0].clamp(-1, 1), result.image)
    assert 0.5 < result.latent_distance < 1.3
    assert result.feature_distance < 0.05
    assert progress.steps == ["search 1", "invert 24"]
    _, first, *losses = progress.losses  # the search's is one
    assert len(losses) == 23
    assert losses[-1] < first / 2


@pytest.mark.slow
def test_initial_latents_are_nearer_than_any_candidate(invert: Inverter, generator: Generator) -> None:
    photos = generator(random_latents(generator, 4, torch.Generator().manual_seed(8))).clamp(-1, 1)
    candidates = generator(invert.candidates(3)[:48]).clamp(-1, 1)
    for result, photo in zip(invert(photos, 3, iterations=0, candidates=48), photos, strict=True):
        assert result.psnr_db > max(psnr(candidate, photo) for candidate in candidates)
        assert result.latent_distance < 1


def test_a_single_candidate_is_the_initial_latent(invert: Inverter, generator: Generator, latents: Tensor) -> None:
    [result] = invert(generator(latents[:1]), 3, iterations=0, candidates=1)
    torch.testing.assert_close(result.latent, invert.candidates(3)[0])


def test_given_initial_latents_are_used(invert: Inverter, generator: Generator, latents: Tensor) -> None:
    results = invert(generator(latents), initial=latents, iterations=0, candidates=4)
    assert torch.equal(torch.stack([result.latent for result in results]), latents)


def test_the_seed_determines_the_latent(invert: Inverter, generator: Generator, latents: Tensor) -> None:
    photo = generator(latents[:1])
    one, again, other = (invert(photo, seed, iterations=2, candidates=4)[0].latent for seed in (1, 1, 2))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_an_image_without_a_face_is_inverted_badly(invert: Inverter, generator: Generator) -> None:
    along = torch.arange(generator.size) // 4
    board = (along[:, None] + along) % 2 * 2.0 - 1
    [result] = invert(board.expand(1, 3, -1, -1), iterations=3, candidates=4)
    assert result.psnr_db < 15


@pytest.mark.parametrize("batch", [1, 2, 16])
def test_latents_do_not_depend_on_batch_composition(
    batch: int, small: Inverter, monkeypatch: pytest.MonkeyPatch
) -> None:
    invert, generator = small, small.generator
    latents = 2 * generator.mapping(torch.randn(2, generator.latent_size, generator=torch.Generator().manual_seed(5)))
    monkeypatch.setattr(inversion, "BATCH_PIXELS", batch * generator.size**2)
    faces = generator(latents).clamp(-1, 1)
    photos = torch.cat((faces, torch.zeros_like(faces[:1])))
    together = invert(photos, 2, iterations=3, candidates=12)
    for photo, result in zip(photos, together, strict=True):
        [alone] = invert(photo[None], 2, iterations=3, candidates=12)
        assert (result.latent - alone.latent).abs().max() < 5e-3
        assert psnr(result.image, alone.image) > 60
        assert result.psnr_db == pytest.approx(alone.psnr_db, abs=0.01)
        assert result.feature_distance == pytest.approx(alone.feature_distance, rel=1e-3)
        assert result.latent_distance == pytest.approx(alone.latent_distance, rel=1e-3)
    assert psnr(together[0].image, together[1].image) < 30
