"""Fréchet distances, against normal distributions whose distance is known."""

import numpy as np
import pytest
import torch

from g2s_cli.errors import G2SError
from g2s_cli.training import fid
from g2s_cli.training.fid import Gaussian, colour_features, feature_statistics, frechet_distance


def test_distance_of_normal_distributions_along_the_same_axes() -> None:
    turn, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))
    one = Gaussian(np.zeros(3), turn @ np.diag([1.0, 4.0, 9.0]) @ turn.T)
    other = Gaussian(np.array([1.0, 2.0, 2.0]), turn @ np.diag([4.0, 4.0, 1.0]) @ turn.T)
    assert frechet_distance(one, other) == pytest.approx(9 + (1 - 2) ** 2 + 0 + (3 - 1) ** 2)
    assert frechet_distance(one, one) == pytest.approx(0, abs=1e-9)


def test_distance_of_distributions_along_different_axes_is_symmetric() -> None:
    random = np.random.default_rng(1)
    one, other = (Gaussian.fit(random.normal(size=(50, 4)) @ random.normal(size=(4, 4))) for _ in range(2))
    assert frechet_distance(one, other) == pytest.approx(frechet_distance(other, one))
    assert frechet_distance(one, other) > 0


def test_the_distance_grows_with_the_difference_of_images() -> None:
    random = torch.Generator().manual_seed(0)
    grey = torch.rand(900, 3, 32, 32, generator=random) * 0.2
    base, near, far = (
        feature_statistics((images,), {"colours": colour_features})["colours"]
        for images in (grey, grey.flip(0) + 0.01, grey * 3)
    )
    assert frechet_distance(base, near) < frechet_distance(base, far) / 10


def test_without_dlib_the_error_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fid, "find_spec", lambda _: None)
    with pytest.raises(G2SError, match="dlib or its weights") as caught:
        fid.face_extractor()
    assert "pip install dlib-bin face_recognition_models" in str(caught.value)
