"""What is read from files before a run."""

from __future__ import annotations

from pathlib import Path

import made_up
import pytest
import torch

from g2s_cli.errors import WeightsError
from g2s_cli.loading import Machine, Plan, Weights, load, load_gan

CPU = Machine(torch.device("cpu"), torch.float32)


@pytest.mark.parametrize("size", [16, 64, 128])
def test_latents_are_found_by_all_the_discriminator_sees(size: int, tmp_path: Path) -> None:
    (tmp_path / "gan.pt").write_bytes(made_up.saved(made_up.gan(size)))
    gan = load_gan(Weights({}, tmp_path / "gan.pt"), CPU)
    seen = gan.inversion_distance.features(torch.zeros(1, 3, size, size))
    assert [maps.shape[2] for maps in seen] == [size // 2**block for block in range(1, len(seen) + 1)]
    assert seen[-1].shape[2] == 4


def test_photos_are_registered_with_the_mean_face_that_the_networks_know(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = load(Plan.of(preset="fast"), CPU)
    mean = loaded.guides.mean
    assert mean is not None
    assert torch.equal(mean.depth, loaded.networks["mean_depth"])
    assert mean.depth.shape == (64, 64)
    assert mean.depth[32, 32] < mean.depth[5, 32]  # a face: its middle is nearest
    assert torch.equal(mean.latent, loaded.gan.generator.latent_avg)
    assert load(Plan.of(preset="instant"), CPU).guides.mean is None

    whole = Weights.tensors
    monkeypatch.setattr(
        Weights, "tensors", lambda self, part: {k: v for k, v in whole(self, part).items() if k != "mean_depth"}
    )
    with pytest.raises(WeightsError, match="do not know the mean object") as error:
        load(Plan.of(preset="fast"), CPU)
    assert "g2s weights pull synface" in str(error.value.remedy)
