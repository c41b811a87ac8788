"""Face and object parsing networks, recognised by the names in their state dicts."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from g2s_cli.errors import WeightsError
from g2s_cli.gan.state_dict import load_state, state_mismatch
from g2s_cli.segmentation.bisenet import BiSeNet
from g2s_cli.segmentation.pspnet import PSPNet

ParsingNet = BiSeNet | PSPNet

# By a prefix that only this network's names have.
NETWORKS_BY_PREFIX: dict[str, type[ParsingNet]] = {"cp": BiSeNet, "ppm": PSPNet}


def parsing_net(state: Mapping[str, Tensor]) -> ParsingNet:
    """Build the frozen parsing network of a state dict.

    Raises:
        WeightsError: names or shapes belong to no parsing network.
    """
    prefixes = {name.split(".")[0] for name in state}
    cls = next((network for prefix, network in NETWORKS_BY_PREFIX.items() if prefix in prefixes), None)
    if cls is None:
        raise WeightsError("Its names are those of no parsing network.", "g2s reads BiSeNet and PSPNet.")
    if not all(name in state and state[name].dim() == 4 and len(state[name]) for name in (cls.stem, cls.head)):
        raise state_mismatch(cls, f"{cls.stem} or {cls.head} is missing")
    weights = {name: tensor for name, tensor in state.items() if not name.startswith(cls.auxiliary)}
    return load_state(cls, lambda: cls.sized_for(weights), weights).eval().requires_grad_(False)
