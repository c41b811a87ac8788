"""Where weights lie on this machine. The embedded ones travel with the package; each is checked by its hash."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from g2s_cli.errors import WeightsError
from g2s_cli.zoo.importers import sha256_of

PACKAGE = Path(__file__).resolve().parent.parent


def models_root() -> Path:
    """The folder of categories: g2s_cli/models in an installed wheel, models/ beside the package in a checkout."""
    inside = PACKAGE / "models"
    return inside if inside.is_dir() else PACKAGE.parent / "models"


def weights_path(category: str, file: str, sha256: str) -> Path:
    """A category's embedded weights file, checked. Raises WeightsError if it is missing or damaged."""
    path = models_root() / category / file
    if not path.is_file():
        raise WeightsError(f"{path} is missing.", "Install g2s again: pip install --force-reinstall g2s-cli")
    if sha256_of(path) != sha256:
        raise WeightsError(
            f"{path} is damaged: its SHA-256 is not the one the category states.",
            "Install g2s again: pip install --force-reinstall g2s-cli",
        )
    return path


def load_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file, in float32. Raises WeightsError if it cannot be read."""
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path} is not a readable safetensors file.", "Fetch or make it again.") from error
    return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}


def part_of(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with `prefix` and a dot, without it."""
    return {name.removeprefix(f"{prefix}."): value for name, value in tensors.items() if name.startswith(f"{prefix}.")}
