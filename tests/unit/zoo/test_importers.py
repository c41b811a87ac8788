"""Foreign checkpoints: read without running what they carry, and refused by name."""

from __future__ import annotations

import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from g2s_cli.errors import WeightsError
from g2s_cli.zoo.importers import read_rosinality, sha256_of, write_weights
from g2s_cli.zoo.store import load_tensors


def checkpoint(**changes: Any) -> dict[str, Any]:
    parts = {
        "g_ema": OrderedDict({"input.input": torch.randn(1, 4, 4, 4)}),
        "d": {"convs.0.0.weight": torch.randn(2, 3, 1, 1)},
        "latent_avg": torch.randn(5),
        "g_optim": {"state": {0: {"step": 3}}, "param_groups": [{"lr": 0.1}]},
        "args": None,
    }
    return parts | changes


def saved(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


def test_generator_discriminator_and_mean_latent_are_read(tmp_path: Path) -> None:
    content = checkpoint()
    tensors = read_rosinality(saved(tmp_path / "a.pt", content))
    assert sorted(tensors) == ["d.convs.0.0.weight", "g_ema.input.input", "latent_avg"]
    assert torch.equal(tensors["g_ema.input.input"], content["g_ema"]["input.input"])


def test_a_generator_alone_will_do(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.pt", {"g_ema": checkpoint()["g_ema"]})
    assert sorted(read_rosinality(path)) == ["g_ema.input.input"]


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04 no archive", pickle.dumps([1, 2], protocol=2)])
def test_what_is_no_torch_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"photo\.jpg"):
        read_rosinality(path)


def test_an_absent_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"none\.pt cannot be read"):
        read_rosinality(tmp_path / "none.pt")


@pytest.mark.parametrize("content", [{"d": {}}, {"g_ema": torch.zeros(1)}, [torch.zeros(1)], torch.zeros(1)])
def test_what_has_no_generator_is_refused(tmp_path: Path, content: Any) -> None:
    with pytest.raises(WeightsError, match="has no g_ema entry"):
        read_rosinality(saved(tmp_path / "a.pt", content))


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
@pytest.mark.parametrize("part", ["g_ema", "d", "latent_avg"])
def test_a_number_that_is_none_is_named(tmp_path: Path, part: str, number: float) -> None:
    broken = torch.tensor([1.0, number])
    path = saved(tmp_path / "a.pt", checkpoint(**{part: broken if part == "latent_avg" else {"w": broken}}))
    with pytest.raises(WeightsError, match=rf"damaged: {part}.* not finite"):
        read_rosinality(path)


class Trap:
    """Unpickled, it leaves a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[Path]]:
        return Path.touch, (self.path,)


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.pt", checkpoint(args=Trap(tmp_path / "sprung")))
    with pytest.raises(WeightsError, match="plain tensors"):
        read_rosinality(path)
    assert not (tmp_path / "sprung").exists()
    torch.load(path, weights_only=False)
    assert (tmp_path / "sprung").exists(), "the trap does not work"


@pytest.mark.parametrize(
    ("part", "content"), [("d", None), ("d", [torch.zeros(1)]), ("d", torch.zeros(1)), ("latent_avg", None)]
)
def test_odd_extras_are_no_traceback(tmp_path: Path, part: str, content: Any) -> None:
    path = saved(tmp_path / "a.pt", checkpoint(**{part: content}))
    assert not any(name.startswith(part) for name in read_rosinality(path))


def test_written_weights_say_what_they_were_made_from(tmp_path: Path) -> None:
    source, path = saved(tmp_path / "a.pt", checkpoint()), tmp_path / "a.safetensors"
    tensors = read_rosinality(source) | {"turned": torch.arange(6.0).view(2, 3).T}
    write_weights(tensors, path, source)
    read = load_tensors(path)
    assert all(torch.equal(read[name], tensors[name]) for name in tensors)
    with safe_open(path, "pt") as file:
        assert file.metadata() == {"format": "g2s-weights-1", "source": "a.pt", "source_sha256": sha256_of(source)}


def test_sha256(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    assert sha256_of(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
