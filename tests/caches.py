"""What tests of fetched weights share: a release in small, what a cache holds, and how an answer refuses."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import fake_checkpoints
from servers import TOKEN

from g2s_cli.weights.categories import load_category

FACE = Path(__file__).parent / "data" / "face.png"
REPO = "somebody/shapes"
RELEASED = ["celeba", "cat", "car", "church"]
OUTSIDE = {"HTTP_PROXY": "", "HTTPS_PROXY": "", "NO_PROXY": "127.0.0.1"}
ALL_OF_CAR = sorted(f"{part}.{suffix}" for part in load_category("car").weights for suffix in ("json", "safetensors"))


def members(name: str) -> dict[str, bytes]:
    """What the release has of a category, in small."""
    category = load_category(name)
    contents = {
        # A file's own size counts; pictures of 512 px would take minutes here.
        "gan": lambda: fake_checkpoints.gan(category.image_size if category.frame_share < 1 else 128),
        "networks": lambda: fake_checkpoints.networks(category.working_size),
        "views": lambda: fake_checkpoints.statistics(6),
        "lights": lambda: fake_checkpoints.statistics(4),
        "parsing": lambda: fake_checkpoints.parsing(category.mask.segmenter, category.mask.classes[0][0]),
    }
    return {entry.member: fake_checkpoints.saved(contents[part]()) for part, entry in category.weights.items()}


def kept(home: Path, name: str) -> list[str]:
    folder = home / "g2s" / name
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".lock")) if folder.exists() else []


def one_sentence(answer: object, code: int) -> str:
    assert answer.returncode == code, answer.stderr
    assert "Traceback" not in answer.stderr
    assert answer.stdout == ""
    return answer.stderr.splitlines()[-1]


def noticed(run: Callable, category: str, path: Path) -> str:
    """Damage a file of a category; verify names it, exits with 4 and deletes it. Returns what was said."""
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    answer = run("weights", "verify", category)
    assert answer.returncode == 4
    assert str(path) in answer.stderr
    assert not path.exists()
    return answer.stderr


def published(on_hub: Callable, home: Path) -> None:
    answer = on_hub("weights", "publish", "owls", "--repo", REPO, HF_TOKEN=TOKEN)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.strip().endswith(REPO)
    shutil.rmtree(home)
