"""Which parsing network a state dict is."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from g2s_cli.errors import WeightsError
from g2s_cli.segmentation.bisenet import BiSeNet
from g2s_cli.segmentation.pspnet import PSPNet

ParsingNet = BiSeNet | PSPNet

# The first part of names that only this network has.
NAMED_BY: dict[str, type[ParsingNet]] = {"cp": BiSeNet, "ppm": PSPNet}


def parsing_net(state: Mapping[str, Tensor]) -> ParsingNet:
    """The network whose names and shapes these are, with its weights, ready to parse. Raises WeightsError."""
    heads = {name.split(".")[0] for name in state}
    for head, category in NAMED_BY.items():
        if head in heads:
            return category.from_state(state)
    raise WeightsError("Its names are those of no parsing network.", "g2s reads BiSeNet and PSPNet.")
