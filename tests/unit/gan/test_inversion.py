"""A picture the GAN made comes back."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from g2s_cli.gan import inversion
from g2s_cli.gan.inversion import CLOUD, InversionSettings, invert
from g2s_cli.gan.latents import LatentCloud, random_latents
from g2s_cli.gan.losses import DiscriminatorDistance
from g2s_cli.gan.stylegan2 import Generator
from g2s_cli.geometry.metrics import psnr
from g2s_cli.progress import SilentProgress


class Diary(SilentProgress):
    """A watch that writes down what it hears."""

    def __init__(self) -> None:
        self.begun: list[tuple[str, int]] = []
        self.losses: list[float] = []

    def begin(self, step: str, total: int, quantity: str = "loss") -> None:  # noqa: ARG002
        self.begun.append((step, total))

    def advance(self, done: int, loss: float) -> None:
        if self.begun[-1][0] == "invert":
            self.losses.append(loss)
            assert done == len(self.losses)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_face_of_the_gan_comes_back(generator: Generator, distance: DiscriminatorDistance, latents: Tensor) -> None:
    photo = generator(latents[1:])[0].clamp(-1, 1)
    diary = Diary()
    settings = InversionSettings(iterations=36, candidates=64, rate=0.1, features=0.3)
    [found] = invert(photo[None], generator, distance, settings, seeded(0), diary)
    assert found.psnr_db > 30
    assert found.psnr_db == pytest.approx(psnr(found.image, photo))
    torch.testing.assert_close(generator(found.latent[None])[0].clamp(-1, 1), found.image)
    assert 0.5 < found.latent_distance < 1.3
    assert found.feature_distance < 0.05
    assert diary.begun == [("search", 1), ("invert", 36)]
    assert len(diary.losses) == 36
    assert diary.losses[-1] < diary.losses[0] / 2


def test_it_starts_nearer_than_any_candidate(generator: Generator, distance: DiscriminatorDistance) -> None:
    photos = generator(random_latents(generator, 4, seeded(8))).clamp(-1, 1)
    still = InversionSettings(iterations=0, candidates=48)
    started = invert(photos, generator, distance, still, seeded(3), SilentProgress())
    candidates = generator(random_latents(generator, CLOUD, seeded(3))[:48]).clamp(-1, 1)
    for one, photo in zip(started, photos, strict=True):
        assert one.psnr_db > max(psnr(other, photo) for other in candidates)
        assert one.latent_distance < 1


def test_one_candidate_says_no_more_than_its_own_latent(
    generator: Generator, distance: DiscriminatorDistance, latents: Tensor
) -> None:
    still = InversionSettings(iterations=0, candidates=1)
    [found] = invert(generator(latents[:1]), generator, distance, still, seeded(3), SilentProgress())
    torch.testing.assert_close(found.latent, random_latents(generator, CLOUD, seeded(3))[0])


def test_the_same_seed_finds_the_same(generator: Generator, distance: DiscriminatorDistance, latents: Tensor) -> None:
    photo, short = generator(latents[:1]), InversionSettings(iterations=2, candidates=4)
    (one,), (again,), (other,) = (
        [found.latent for found in invert(photo, generator, distance, short, seeded(seed), SilentProgress())]
        for seed in (1, 1, 2)
    )
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_what_no_face_looks_like_is_found_badly(generator: Generator, distance: DiscriminatorDistance) -> None:
    along = torch.arange(generator.size) // 4
    checks = (along[:, None] + along) % 2 * 2.0 - 1
    settings = InversionSettings(iterations=3, candidates=4)
    [found] = invert(checks.expand(1, 3, -1, -1), generator, distance, settings, seeded(0), SilentProgress())
    assert found.psnr_db < 15


@pytest.mark.parametrize("at_once", [1, 2, 16])
def test_a_photo_has_the_same_latent_in_any_company(
    at_once: int,
    generator: Generator,
    distance: DiscriminatorDistance,
    latents: Tensor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(inversion, "PIXELS_AT_ONCE", at_once * generator.size**2)
    faces = generator(latents).clamp(-1, 1)
    photos = torch.cat((faces, torch.zeros_like(faces[:1])))
    settings = InversionSettings(iterations=5, candidates=20)
    together = invert(photos, generator, distance, settings, seeded(2), SilentProgress())
    for photo, found in zip(photos, together, strict=True):
        [alone] = invert(photo[None], generator, distance, settings, seeded(2), SilentProgress())
        assert (found.latent - alone.latent).abs().max() < 5e-3
        assert psnr(found.image, alone.image) > 60
        assert found.psnr_db == pytest.approx(alone.psnr_db, abs=0.01)
        assert found.feature_distance == pytest.approx(alone.feature_distance, rel=1e-3)
        assert found.latent_distance == pytest.approx(alone.latent_distance, rel=1e-3)
    assert psnr(together[0].image, together[1].image) < 30


def test_known_latents_are_where_it_starts(
    generator: Generator, distance: DiscriminatorDistance, latents: Tensor
) -> None:
    still = InversionSettings(iterations=0, candidates=4)
    found = invert(generator(latents), generator, distance, still, seeded(0), SilentProgress(), latents)
    assert torch.equal(torch.stack([one.latent for one in found]), latents)


def test_the_cloud_of_latents() -> None:
    cloud = LatentCloud.of(torch.tensor([[3.0, 0.0], [-1.0, 0.0], [1.0, 2.0], [1.0, -2.0]]))
    assert cloud.mean.tolist() == [1, 0]
    assert cloud.spread == 2
