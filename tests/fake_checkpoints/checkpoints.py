"""What the authors' release holds, in small: StyleGAN2 by rosinality, GAN2Shape's networks, statistics, a parser."""

from __future__ import annotations

import gzip
import importlib.util
import io
import math
import tarfile
from argparse import Namespace
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from g2s_cli.config import PARSER_CLASSES, ParserName
from g2s_cli.estimators.gan2shape.offset_encoder import OffsetEncoder
from g2s_cli.estimators.networks import CodeNet, MapNet
from g2s_cli.segmentation.bisenet import BiSeNet
from g2s_cli.segmentation.pspnet import PSPNet

TEXTBOOK = Path(__file__).parents[2] / "benchmarks" / "textbook_stylegan2.py"
LATENT, WIDTH, MAPPING = 16, 8, 8
PARTS = ("x00", "x01", "x02", "x03")
HANDS_ON = (
    *(f"cp.resnet.{layer}.weight" for layer in ("conv1", *(f"layer{n}.0.downsample.0" for n in (2, 3, 4)))),
    *(f"{layer}.conv.weight" for layer in ("ffm.convblk", "conv_out.conv")),
    *(f"{layer}.weight" for layer in ("layer0.0", "layer0.3", "layer0.6", "cls.0")),
    *(f"layer{n}.0.downsample.0.weight" for n in (1, 2, 3, 4)),
)


@cache
def textbook() -> ModuleType:
    spec = importlib.util.spec_from_file_location("textbook_stylegan2", TEXTBOOK)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def gan(size: int, latent: int = LATENT, seed: int = 0) -> dict[str, Any]:
    """A checkpoint as rosinality's trainer saves it."""
    widths = [WIDTH] * (int(math.log2(size)) - 1)
    state = drawn(textbook().Generator(widths, latent, MAPPING), seed)
    # The mapping network learns at a hundredth of the rate, so its weights are a hundred times as large.
    state = {name: 100 * value if name.startswith("style.") else value for name, value in state.items()}
    state |= {name: 0.1 * value for name, value in state.items() if name.startswith("to_rgb")}
    return {
        "g": state,
        "d": drawn(textbook().Discriminator(widths), seed + 1),
        "g_ema": state,
        "g_optim": {"state": {}, "param_groups": [{"lr": 0.002}]},
        "args": Namespace(size=size, path="photos"),
        "ada_aug_p": 0.0,
    }


def drawn(net: nn.Module, seed: int) -> dict[str, Tensor]:
    """A network's state with random parameters and noise, and its own blur filters."""
    rng = torch.Generator().manual_seed(seed)
    return {
        name: value if name.endswith("kernel") else torch.randn(value.shape, generator=rng)
        for name, value in net.state_dict().items()
    }


def networks(size: int, latent: int = LATENT, width: int = 16) -> dict[str, dict[str, Tensor]]:
    """netD, netA, netV, netL, netEnc as the authors save them."""
    torch.manual_seed(1)
    nets = {
        "netD": MapNet(size, 1, width, bounded=False),
        "netA": MapNet(size, 3, width, bounded=True),
        "netV": CodeNet(size, 6, width),
        "netL": CodeNet(size, 4, width),
        "netEnc": OffsetEncoder(size, latent, width=8),
    }
    return {name: net.state_dict() for name, net in nets.items()}


def statistics(count: int) -> dict[str, Tensor]:
    """Mean and covariance of views (6) or lights (4)."""
    return {"mean": 0.05 * torch.arange(count).float(), "cov": 0.01 * torch.eye(count)}


def parser_state(segmenter: ParserName = "bisenet", sees: int = 1) -> dict[str, Tensor]:
    """A narrow parsing network that calls everything red `sees`, and the rest 0.

    One path through it hands the first channel on: its convolutions are 0 but for the middle, from 0 to 0.
    """
    classes = PARSER_CLASSES[segmenter]
    net = BiSeNet(classes, 4) if segmenter == "bisenet" else PSPNet(classes, width=4)
    state = {name: value if value.dim() < 2 else torch.zeros_like(value) for name, value in net.state_dict().items()}
    for name in (name for name in HANDS_ON if name in state):
        centre = state[name].shape[-1] // 2
        state[name][0, 0, centre, centre] = 1
    last = "conv_out.conv_out" if segmenter == "bisenet" else "cls.4"
    state[f"{last}.weight"][sees, 0] = 1
    return state | ({} if segmenter == "bisenet" else {"cls.4.bias": torch.zeros(classes)})


def parsing(segmenter: ParserName = "bisenet", sees: int = 1) -> dict[str, Any]:
    """The same as the authors have it saved: with the heads of training, a PSPNet in parallel and with company."""
    state = parser_state(segmenter, sees)
    if segmenter == "bisenet":
        return state | {"conv_out16.conv.conv.weight": torch.zeros(4, 8, 3, 3)}
    state["aux.0.weight"] = torch.zeros(4, 64, 3, 3)
    return {"epoch": 100, "state_dict": {f"module.{name}": value for name, value in state.items()}}


def saved(content: Any, **options: Any) -> bytes:
    """What torch.save writes."""
    file = io.BytesIO()
    torch.save(content, file, **options)
    return file.getvalue()


def release(members: Mapping[str, bytes | tarfile.TarInfo], cuts: int = 4) -> dict[str, bytes]:
    """The release's parts: a gzipped tar of members, cut. A TarInfo stands for itself, without content."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, content in members.items():
            if isinstance(content, tarfile.TarInfo):
                archive.addfile(content)
                continue
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    whole = gzip.compress(file.getvalue(), compresslevel=1, mtime=0)
    step = -(-len(whole) // cuts)
    return {f"/{part}": whole[k * step : (k + 1) * step] for k, part in enumerate(PARTS[:cuts])}
