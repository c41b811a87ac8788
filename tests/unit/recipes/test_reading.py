"""What the reader of latents is trained by, and what it answers."""

import pytest
import torch

from recipes.synface.reading import Reader, misread, unlike
from recipes.synface.states import LATENT


def pictures(seed: int) -> torch.Tensor:
    return torch.rand(2, 3, 6, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 2 - 1


def test_unlike_sees_colours_and_edges() -> None:
    one = pictures(0)
    assert unlike(one, one) == 0
    torch.testing.assert_close(unlike(one + 0.25, one), torch.tensor(0.25, dtype=torch.float64))  # no edge is lost
    stripes = torch.zeros(1, 3, 6, 6).index_fill(3, torch.tensor([1, 3, 5]), 1.0)
    # Half of the pixels are wrong by 1, and all differences to the right.
    torch.testing.assert_close(unlike(torch.zeros_like(stripes), stripes), torch.tensor(1.5))


def test_misread_is_a_share_of_what_latents_differ_by() -> None:
    latents = torch.randn(400, 8, generator=torch.Generator().manual_seed(1))
    assert misread(latents, latents) == 0
    torch.testing.assert_close(misread(torch.zeros_like(latents), latents), torch.tensor(1.0), atol=0.02, rtol=0)
    torch.testing.assert_close(misread(3 * latents, 3 * latents + 3), misread(latents, latents + 1))


def test_both_have_the_slopes_they_say() -> None:
    copies, wanted = pictures(2).requires_grad_(), pictures(3)
    assert torch.autograd.gradcheck(unlike, (copies, wanted))
    read, truth = torch.randn(2, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    assert torch.autograd.gradcheck(misread, (read.requires_grad_(), truth))


@pytest.mark.parametrize("size", [8, 32])
def test_a_reader_answers_with_latents_of_its_own_picture_alone(size: int) -> None:
    reader = Reader(size)
    shown = torch.rand(3, 3, size, size, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        together, alone = reader(shown), reader(shown[1:2])
    assert together.shape == (3, LATENT)
    torch.testing.assert_close(together[1:2], alone, atol=1e-5, rtol=1e-4)
