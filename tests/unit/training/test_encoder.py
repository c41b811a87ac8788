"""The encoder of images into W."""

import pytest
import torch

from g2s_cli.training.encoder import Encoder
from g2s_cli.training.gan_networks import LATENT


@pytest.mark.parametrize("size", [8, 32])
def test_a_latent_depends_on_its_own_image_alone(size: int) -> None:
    encoder = Encoder(size)
    images = torch.rand(3, 3, size, size, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        together, alone = encoder(images), encoder(images[1:2])
    assert together.shape == (3, LATENT)
    torch.testing.assert_close(together[1:2], alone, atol=1e-5, rtol=1e-4)
