"""Safetensors files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from g2s_cli.errors import WeightsError
from g2s_cli.weights.tensors import load_tensors, quantize, read_metadata, submodule_state


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "zebra" / "gan.safetensors"
    path.parent.mkdir()
    save_file({"a.x": torch.tensor([0.1, 2.0]).half(), "a.y.x": torch.tensor([3]), "ab": torch.zeros(2, 2)}, path)
    return path


def test_tensors_are_read_in_single_precision(file: Path) -> None:
    tensors = load_tensors(file)
    assert {name: value.dtype for name, value in tensors.items()} == {
        "a.x": torch.float32,
        "a.y.x": torch.int64,
        "ab": torch.float32,
    }
    torch.testing.assert_close(tensors["a.x"], torch.tensor([0.1, 2.0]).half().float(), rtol=0, atol=0)


@pytest.mark.parametrize("content", [b"", b"not weights", b"\xff" * 64, None])
def test_another_file_is_refused(file: Path, content: bytes | None) -> None:
    file.write_bytes(file.read_bytes()[:-3] if content is None else content)
    for path in (file, file.with_name("none.safetensors")):
        with pytest.raises(WeightsError, match="not a readable safetensors file"):
            load_tensors(path)


def test_a_submodule_is_selected_by_its_prefix_and_a_dot(file: Path) -> None:
    assert sorted(submodule_state(load_tensors(file), "a")) == ["x", "y.x"]


def test_metadata_is_read(tmp_path: Path) -> None:
    with_metadata, without = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    save_file({"a": torch.zeros(1)}, with_metadata, metadata={"seed": "3"})
    save_file({"a": torch.zeros(1)}, without)
    assert read_metadata(with_metadata) == {"seed": "3"}
    assert read_metadata(without) == {}
    with pytest.raises(WeightsError, match="not a readable safetensors file"):
        read_metadata(tmp_path / "none.safetensors")


def test_quantized_tensors_are_close_to_the_originals(tmp_path: Path) -> None:
    """To half a step of each output channel; small tensors stay float16."""
    torch.manual_seed(0)
    weights = {"net.a": torch.randn(8, 16, 3, 3) * torch.logspace(-3, 1, 8).view(8, 1, 1, 1), "net.b": torch.randn(300)}
    weights["net.few"], weights["net.none"] = torch.randn(3, 4), torch.zeros(4, 100)
    packed = quantize(weights)
    assert packed["net.a"].dtype == torch.int8
    assert packed["net.b"].dtype == packed["net.few"].dtype == torch.float16
    save_file(packed, tmp_path / "packed.safetensors")
    read = load_tensors(tmp_path / "packed.safetensors")
    assert read.keys() == weights.keys()
    largest = weights["net.a"].flatten(1).abs().amax(dim=1)
    assert ((read["net.a"] - weights["net.a"]).flatten(1).abs().amax(dim=1) <= largest / 253).all()
    assert torch.equal(read["net.none"], weights["net.none"])
    torch.testing.assert_close(quantize(read)["net.a"], packed["net.a"])  # and packed again they are the same
    assert (quantize({"a": torch.zeros(4, 100).half()})["a"] == 0).all()


@pytest.mark.parametrize("steps", [torch.ones(3), torch.ones(2, 1), torch.tensor(1.0)])
def test_quantization_steps_of_another_shape_are_refused(tmp_path: Path, steps: torch.Tensor) -> None:
    file = tmp_path / "torn.safetensors"
    save_file({"a": torch.zeros(2, 200, dtype=torch.int8), "a.steps": steps}, file)
    with pytest.raises(WeightsError, match=r"a\.steps does not fit a"):
        load_tensors(file)
    save_file({"a.steps": torch.ones(2)}, file)
    with pytest.raises(WeightsError, match=r"a\.steps does not fit a"):
        load_tensors(file)
