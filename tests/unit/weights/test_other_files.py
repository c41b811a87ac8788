"""Files that are no checkpoint of a StyleGAN2 are named as what they are."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from g2s_cli.errors import WeightsError
from g2s_cli.weights.importers import read_checkpoint


@pytest.mark.parametrize(
    ("start", "what"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n", "a pointer of Git LFS"),
        (b"\n<!DOCTYPE html><html><body>Log in</body></html>", "a web page"),
        (b'{"error": "Repository not found"}', "JSON"),
        (b"\x1f\x8b\x08" + bytes(40), "a compressed archive"),
        (b"\x89HDF\r\n" + bytes(40), "an HDF5 file"),
    ],
)
@pytest.mark.parametrize("name", ["a.pt", "a.pkl", "a.safetensors"])
def test_another_file_in_place_of_a_checkpoint_is_named(tmp_path: Path, name: str, start: bytes, what: str) -> None:
    (tmp_path / name).write_bytes(start)
    with pytest.raises(WeightsError, match=f"{name} is {what}"):
        read_checkpoint(tmp_path / name)


@pytest.mark.parametrize(
    ("tensor", "family"),
    [
        ("synthesis.L0_36_512.weight", "StyleGAN3"),
        ("backbone.synthesis.b4.const", "EG3D"),
        ("synthesis.b4.conv1.weight", "NVIDIA's code"),
        ("generator.progression.0.conv1.conv.weight", "ProGAN"),
        ("quantize.embedding.weight", "VQGAN"),
        ("down_blocks.0.resnets.0.conv1.weight", "a diffusion model"),
        ("blocks.0.0.conv1.weight", "BigGAN"),
    ],
)
def test_another_family_of_generators_is_named(tmp_path: Path, tensor: str, family: str) -> None:
    torch.save({tensor: torch.zeros(3, 3)}, tmp_path / "a.pt")
    with pytest.raises(WeightsError, match=family):
        read_checkpoint(tmp_path / "a.pt")
