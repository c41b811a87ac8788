"""Networks belong to the GAN that they were trained with; with another they say nothing of a photo.

Who says which one that is: the networks' file in its metadata, or a category's model.toml of the file it states. The
authors' files say nothing, and go with whatever GAN is there.
"""

from __future__ import annotations

from g2s_cli.errors import WeightsError
from g2s_cli.weights.cache import CachedFile, models_root
from g2s_cli.weights.catalog import SUFFIX, Category
from g2s_cli.weights.tensors import TRAINED_WITH, read_metadata


def trained_with_hash(category: Category, networks: CachedFile) -> str:
    """The SHA-256 of the GAN file that networks were trained with; "" where nobody says. Raises WeightsError."""
    entry = category.weights.get("networks")
    if entry and entry.gan_sha256 and entry.sha256 == networks.sha256:
        return entry.gan_sha256
    return read_metadata(networks.path).get(TRAINED_WITH, "") if networks.path.suffix == SUFFIX else ""


def check_compatible(category: Category, gan: CachedFile | None, networks: CachedFile | None) -> None:
    """Raise WeightsError for networks that were trained with another GAN.

    A half that is not there, or a hash that nobody states, is nothing to compare with.
    """
    if gan is None or networks is None:
        return
    wanted = trained_with_hash(category, networks)
    if wanted and gan.sha256 and wanted != gan.sha256:
        raise WeightsError(
            f"{networks.path} was trained with another GAN than {gan.path}: the one whose SHA-256 begins with "
            f"{wanted[:12]}.",
            "Install g2s again: pip install --force-reinstall g2s-cli"
            if networks.path.parent.parent == models_root()
            else f"Import the two that belong together (g2s weights import GAN NETWORKS --category {category.name}), "
            "or name another category.",
        )
