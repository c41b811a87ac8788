"""Latent editing: planted directions are found, and edits change what they should."""

from __future__ import annotations

from pathlib import Path

import fake_checkpoints
import torch
from torch.nn.functional import avg_pool2d

from g2s_cli.geometry.center_crop import CenterCrop
from g2s_cli.loading import Weights, load_gan
from g2s_cli.machine import Machine
from g2s_cli.training.latent_editing import MAX_VIEW, MAX_WIDE, VIEW_STD, LatentEditor, ObjectSampler


def test_images_of_a_larger_gan_are_averaged_down(tmp_path: Path) -> None:
    path = tmp_path / "gan.pt"
    path.write_bytes(fake_checkpoints.saved(fake_checkpoints.gan(32)))
    gan = load_gan(Weights({}, path), Machine(torch.device("cpu"), torch.float32))
    sampler = ObjectSampler(gan, CenterCrop(1.0, 16))
    latents = sampler.latents(3, torch.Generator().manual_seed(0))
    images, objects = sampler.images(latents), sampler.objects(latents)
    image, features = gan.generator.forward_features(latents)
    torch.testing.assert_close(images.image, avg_pool2d(image.clamp(-1, 1), 2))
    torch.testing.assert_close(images.mask, avg_pool2d(gan.segmenter.mask(features)[:, None].float(), 2))
    assert torch.equal(objects.image, images.image * images.mask)


def test_planted_directions_are_found_and_edits_change_nothing_else() -> None:
    """Latents are linear in twelve causes, of which four are the attributes."""
    rng = torch.Generator().manual_seed(0)
    mixing = torch.linalg.qr(torch.randn(12, 12, generator=rng)).Q * torch.linspace(1, 2, 12)
    causes = torch.randn(4000, 12, generator=rng)
    latents = causes @ mixing + 3
    scale = torch.tensor([0.1, 0.3, 0.5, 0.2])
    editor = LatentEditor.fit(latents, causes[:, :4] * scale - 0.1)

    torch.testing.assert_close(editor.std, scale, rtol=0.05, atol=0)
    assert editor.r2.min() > 0.99
    units = torch.tensor([torch.pi / 3, torch.pi / 3, 1, 1])
    planted = mixing[:4] / (scale * units)[:, None]
    assert torch.cosine_similarity(editor.directions, planted).min() > 0.99
    torch.testing.assert_close(editor.directions.norm(dim=1), planted.norm(dim=1), rtol=0.05, atol=0)

    attributes = torch.tensor([[1.5, -1, 0, 2], [-2, 0.5, 1, 0]]).expand(10, -1, -1)
    edited = (editor.edit(latents[:10], attributes) - 3) @ mixing.inverse()
    torch.testing.assert_close(edited[..., :4], attributes, rtol=0, atol=0.3)
    torch.testing.assert_close(edited[..., 4:], causes[:10, None, 4:].expand(-1, 2, -1), rtol=0, atol=0.3)

    views = (editor.random_views(latents[:10], 400, rng) - 3) @ mixing.inverse()
    torch.testing.assert_close(views[..., 2:], causes[:10, None, 2:].expand(-1, 400, -1), rtol=0, atol=0.3)
    torch.testing.assert_close(views[..., :2].std(dim=1), torch.full((10, 2), VIEW_STD), rtol=0.15, atol=0)
    assert views[..., :2].abs().max() < MAX_VIEW + 0.3

    wide = (editor.wide_views(latents, rng) - 3) @ mixing.inverse()
    torch.testing.assert_close(wide[:10, 2:], causes[:10, 2:], rtol=0, atol=0.3)
    torch.testing.assert_close(wide[:, :2].std(dim=0), torch.tensor([1.1, 1.4]), rtol=0.1, atol=0)
    assert wide[:, :2].abs().max() < MAX_WIDE + 0.3
