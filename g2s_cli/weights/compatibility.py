"""Whether networks belong to a GAN: they are useless with any other than the one they were trained with.

The metadata of the networks' file names that GAN, or a category's model.toml does for the file that it states.
The authors' networks name none and go with any GAN.
"""

from __future__ import annotations

from g2s_cli.config import SUFFIX, Category
from g2s_cli.errors import WeightsError
from g2s_cli.weights.cache import CachedFile, models_root
from g2s_cli.weights.tensors import TRAINED_WITH, read_metadata


def trained_with_hash(category: Category, networks: CachedFile) -> str:
    """The SHA-256 of the GAN's file that networks were trained with, "" if unknown. Raises WeightsError."""
    entry = category.weights.get("networks")
    if entry and entry.gan_sha256 and entry.sha256 == networks.sha256:
        return entry.gan_sha256
    return read_metadata(networks.path).get(TRAINED_WITH, "") if networks.path.suffix == SUFFIX else ""


def check_compatible(category: Category, gan: CachedFile | None, networks: CachedFile | None) -> None:
    """Raise WeightsError for networks that were trained with another GAN; missing files or hashes are accepted."""
    if gan is None or networks is None:
        return
    expected = trained_with_hash(category, networks)
    if expected and gan.sha256 and expected != gan.sha256:
        raise WeightsError(
            f"{networks.path} was trained with another GAN than {gan.path}: the one whose SHA-256 begins with "
            f"{expected[:12]}.",
            "Install g2s again: pip install --force-reinstall g2s-cli"
            if networks.path.parent.parent == models_root()
            else f"Import the two that belong together (g2s weights import GAN NETWORKS --category {category.name}), "
            "or name another category.",
        )
