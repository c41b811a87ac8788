"""Shared by tests of the command: a photo, a coarse mesh, the authors' release in small, and the cache's files."""

from __future__ import annotations

from pathlib import Path

import fake_checkpoints
from installed import Command

from g2s_cli.weights.categories import load_category

FACE = Path(__file__).parent / "data" / "face.png"
COARSE = ("--mesh-size", 32, "--texture-size", 64)
REPO = "somebody/shapes"
RELEASED = ["celeba", "cat", "car", "church"]
NO_PROXY = {"HTTP_PROXY": "", "HTTPS_PROXY": "", "NO_PROXY": "127.0.0.1", "HF_HUB_DISABLE_XET": "1"}
ALL_OF_CAR = sorted(f"{part}.{suffix}" for part in load_category("car").weights for suffix in ("json", "safetensors"))


def members(name: str) -> dict[str, bytes]:
    """A category's files in the release, with small networks."""
    category = load_category(name)
    contents = {
        # A file's own size counts; pictures of 512 px would take minutes here.
        "gan": lambda: fake_checkpoints.gan(category.image_size if category.frame_share < 1 else 128),
        "networks": lambda: fake_checkpoints.networks(category.working_size),
        "views": lambda: fake_checkpoints.statistics(6),
        "lights": lambda: fake_checkpoints.statistics(4),
        "parsing": lambda: fake_checkpoints.parsing(category.mask_rule.segmenter, category.mask_rule.classes[0][0]),
    }
    return {entry.member: fake_checkpoints.saved(contents[part]()) for part, entry in category.weights.items()}


def cached(home: Path, name: str) -> list[str]:
    """The names of a category's files in the cache."""
    folder = home / "g2s" / name
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".lock")) if folder.exists() else []


def verify_after_damage(g2s: Command, category: str, path: Path) -> str:
    """Damage a category's file, assert that `weights verify` names and deletes it, and return its stderr."""
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    answer = g2s("weights", "verify", category)
    assert answer.returncode == 4
    assert str(path) in answer.stderr
    assert not path.exists()
    return answer.stderr
