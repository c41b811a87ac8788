"""MTCNN's networks and the reading of their published weights."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path

import lz4.frame
import numpy as np
import pytest
import torch

from g2s_cli.errors import WeightsError
from g2s_cli.photo.mtcnn import CascadeNet, FlattenColumns, output_net, proposal_net, refine_net
from g2s_cli.photo.mtcnn_weights import load_mtcnn, read_arrays


@pytest.mark.parametrize(
    ("make", "size", "shapes"),
    [
        (proposal_net, 12, [(2, 4, 1, 1), (2, 2, 1, 1)]),
        (refine_net, 24, [(2, 4), (2, 2)]),
        (output_net, 48, [(2, 4), (2, 10), (2, 2)]),
    ],
)
def test_a_window_gives_one_output(make: Callable[[], CascadeNet], size: int, shapes: list[tuple[int, ...]]) -> None:
    assert [tuple(output.shape) for output in make()(torch.zeros(2, 3, size, size))] == shapes


def test_the_proposal_network_scores_every_window_of_an_image() -> None:
    torch.manual_seed(0)
    net, image = proposal_net(), torch.randn(1, 3, 30, 40)
    offsets, probabilities = net(image)
    assert probabilities.shape == (1, 2, 10, 15)
    window = net(image[..., 8:20, 14:26])
    assert torch.allclose(offsets[..., 4, 7], window[0][..., 0, 0], atol=1e-5)
    assert torch.allclose(probabilities[..., 4, 7], window[1][..., 0, 0], atol=1e-5)


def test_published_arrays_are_transposed_into_the_parameters() -> None:
    net, orders = refine_net(), {4: (2, 3, 1, 0), 2: (1, 0), 1: (0,)}
    arrays = [torch.randn(value.shape).permute(orders[value.ndim]) for value in net.parameters()]
    net.load_arrays(arrays)
    first, *_, last, _ = net.parameters()
    assert torch.equal(first, arrays[0].permute(3, 2, 0, 1))
    assert torch.equal(last, arrays[-2].T)


def test_arrays_of_other_shapes_or_number_are_refused() -> None:
    arrays = [torch.zeros(value.shape) for value in refine_net().parameters()]
    with pytest.raises(ValueError, match="an array is"):
        refine_net().load_arrays([torch.zeros(5, 5, 3, 28), *arrays[1:]])
    with pytest.raises(ValueError):
        refine_net().load_arrays(arrays[:3])


def test_maps_are_flattened_column_by_column() -> None:
    maps = torch.arange(2 * 2 * 3).view(1, 2, 2, 3).float()  # two channels, two rows, three columns
    assert FlattenColumns()(maps)[0, :4].tolist() == [0, 6, 3, 9]


WEIGHTS = Path(importlib.util.find_spec("mtcnn").origin).parent / "assets" / "weights"


@pytest.mark.parametrize(
    ("name", "count", "sha256"),
    [
        ("pnet", 13, "65877c7e2a3e55c1ba94a7a00c5ee586166f1abadc73df29c3baef5423a7f591"),
        ("rnet", 16, "58eb69fac64cc6532fa5ad99db36159e3025569e5519aa6e2817bfc2e369bb76"),
        ("onet", 21, "726de10e6a54e2acd6e8817dbccccb570fe311550ff02c66dce5875b65530c18"),
    ],
)
def test_arrays_are_those_that_joblib_reads(name: str, count: int, sha256: str) -> None:
    """The hashes are of the arrays of joblib.load (joblib 1.6.0, mtcnn 1.0.0)."""
    arrays = read_arrays(lz4.frame.decompress((WEIGHTS / f"{name}.lz4").read_bytes()))
    assert [(array.dtype, array.flags.writeable) for array in arrays] == [(np.float32, True)] * count
    shapes = repr([array.shape for array in arrays]).encode()
    assert hashlib.sha256(shapes + b"".join(array.tobytes() for array in arrays)).hexdigest() == sha256


class Command:
    """Pickles to a call of os.mkdir."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (self.folder,)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The weights folder of a made-up package mtcnn, not yet read."""
    folder = tmp_path / "mtcnn" / "assets" / "weights"
    folder.mkdir(parents=True)
    spec = importlib.util.spec_from_file_location("mtcnn", tmp_path / "mtcnn" / "__init__.py")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: spec)
    load_mtcnn.cache_clear()
    yield folder
    load_mtcnn.cache_clear()


def test_a_malicious_pickle_is_refused_and_not_run(package: Path, tmp_path: Path) -> None:
    data = pickle.dumps([Command(tmp_path / "run")])
    (package / "pnet.lz4").write_bytes(lz4.frame.compress(data))
    with pytest.raises(WeightsError, match="damaged"):
        load_mtcnn()
    with pytest.raises(pickle.UnpicklingError, match=r"mkdir is no part of an array"):
        read_arrays(data)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "content", [b"", b"not numbers", lz4.frame.compress(pickle.dumps({})), lz4.frame.compress(pickle.dumps([1.0]))]
)
def test_damaged_weights_are_refused_with_a_remedy(package: Path, content: bytes) -> None:
    (package / "pnet.lz4").write_bytes(content)
    with pytest.raises(WeightsError, match="damaged") as refusal:
        load_mtcnn()
    assert "pip install" in refusal.value.remedy


@pytest.mark.parametrize("keep", [100, 300, 20_000])
def test_truncated_arrays_are_refused(keep: int) -> None:
    data = lz4.frame.decompress((WEIGHTS / "pnet.lz4").read_bytes())
    with pytest.raises(Exception):  # noqa: B017
        read_arrays(data[:keep])


def test_a_missing_package_is_refused_with_a_remedy(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(WeightsError, match="not installed") as refusal:
        load_mtcnn()
    assert "pip install" in refusal.value.remedy
