"""Pickles as NVIDIA's programs write them, of classes that pickle as theirs do, and malicious ones.

`install_modules` puts the classes into the modules that they are pickled from, which only NVIDIA's programs have.
"""

from __future__ import annotations

import collections
import io
import itertools
import math
import pickle
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

BUFFERS = ("resample_filter", "noise_const", "w_avg")
NETWORKS = {"deep": ([32, 32, 16, 8], 32, 8), "shallow": ([12, 8, 4], 20, 2)}  # widths from 4 pixels on, latent, depth
TINY = ([3, 2], 4, 1)

State = dict[str, Tensor]


def fake_tensor(name: str, *shape: int) -> Tensor:
    """Reproducible numbers of a size at which every layer matters; filters are asymmetric."""
    n = torch.arange(math.prod(shape))
    seed = zlib.crc32(name.encode()) % 65521
    even = ((n * n * 7919 + n * seed + seed) % 65521).double() / 65521
    if name.endswith("resample_filter"):
        return (even / 8).float().view(shape)
    value = (math.sqrt(3) * (2 * even - 1)).float().view(shape)
    if "mapping.fc" in name:
        return value * (100 if name.endswith("weight") else 30)
    return value + 1 if name.endswith("affine.bias") else value


def generator(widths: list[int], latent: int, depth: int) -> State:
    shapes: dict[str, tuple[int, ...]] = {
        "mapping.w_avg": (latent,),
        "synthesis.b4.const": (widths[0], 4, 4),
        **{f"mapping.fc{i}.weight": (latent, latent) for i in range(depth)},
        **{f"mapping.fc{i}.bias": (latent,) for i in range(depth)},
    }
    for level, width in enumerate(widths):
        size = 4 << level
        block = f"synthesis.b{size}"
        convs = {"conv1": width} if level == 0 else {"conv0": widths[level - 1], "conv1": width}
        shapes[f"{block}.resample_filter"] = (4, 4)
        for conv, before in convs.items():
            shapes |= {
                f"{block}.{conv}.weight": (width, before, 3, 3),
                f"{block}.{conv}.noise_strength": (),
                f"{block}.{conv}.bias": (width,),
                f"{block}.{conv}.resample_filter": (4, 4),
                f"{block}.{conv}.noise_const": (size, size),
            }
        shapes |= {f"{block}.torgb.weight": (3, width, 1, 1), f"{block}.torgb.bias": (3,)}
        for layer, before in (convs | {"torgb": width}).items():
            shapes[f"{block}.{layer}.affine.weight"] = (before, latent)
            shapes[f"{block}.{layer}.affine.bias"] = (before,)
    return {name: fake_tensor(name, *shape) for name, shape in shapes.items()}


def discriminator(widths: list[int]) -> State:
    coarsest, finest = widths[0], widths[-1]
    largest = f"b{2 << len(widths)}"
    shapes: dict[str, tuple[int, ...]] = {
        f"{largest}.fromrgb.weight": (finest, 3, 1, 1),
        f"{largest}.fromrgb.bias": (finest,),
        f"{largest}.fromrgb.resample_filter": (4, 4),
        "b4.conv.weight": (coarsest, coarsest + 1, 3, 3),
        "b4.conv.bias": (coarsest,),
        "b4.conv.resample_filter": (4, 4),
        "b4.fc.weight": (coarsest, 16 * coarsest),
        "b4.fc.bias": (coarsest,),
        "b4.out.weight": (1, coarsest),
        "b4.out.bias": (1,),
    }
    for level, (after, before) in enumerate(itertools.pairwise(widths)):
        block = f"b{8 << level}"
        shapes |= {
            f"{block}.resample_filter": (4, 4),
            f"{block}.conv0.weight": (before, before, 3, 3),
            f"{block}.conv0.bias": (before,),
            f"{block}.conv0.resample_filter": (4, 4),
            f"{block}.conv1.weight": (after, before, 3, 3),
            f"{block}.conv1.bias": (after,),
            f"{block}.conv1.resample_filter": (4, 4),
            f"{block}.skip.weight": (after, before, 1, 1),
            f"{block}.skip.resample_filter": (4, 4),
        }
    return {name: fake_tensor(name, *shape) for name, shape in shapes.items()}


def reconstruct(meta: dict[str, Any]) -> object:
    """As the original, it runs the source that came with the object."""
    exec(meta["module_src"], {})
    return object()


class EasyDict(dict[str, Any]):
    pass


class TFNetwork:
    pass


def renamed(thing: Any, module: str, name: str) -> Any:
    thing.__module__, thing.__name__, thing.__qualname__ = module, name, name
    return thing


CLASSES = [
    renamed(reconstruct, "torch_utils.persistence", "_reconstruct_persistent_obj"),
    renamed(EasyDict, "dnnlib.util", "EasyDict"),
    renamed(TFNetwork, "dnnlib.tflib.network", "Network"),
]


def install_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the modules that the originals are pickled from."""
    for thing in CLASSES:
        parents = list(itertools.accumulate(thing.__module__.split("."), lambda *names: ".".join(names)))
        for name in parents:
            if not isinstance(sys.modules.get(name), ModuleType):
                monkeypatch.setitem(sys.modules, name, ModuleType(name))
        setattr(sys.modules[thing.__module__], thing.__name__, thing)


class Net:
    """A module that pickles as NVIDIA's, of tensors with dotted names."""

    def __init__(
        self, state: dict[str, Any], source: str = "", settings: dict[str, Any] | None = None, *, frozen: bool = False
    ) -> None:
        self.state, self.source, self.settings, self.frozen = state, source, settings or {}, frozen

    def buffers(self, name: str) -> bool:
        return self.frozen or name in BUFFERS

    def __reduce__(self) -> tuple[Any, ...]:
        own = {name: value for name, value in self.state.items() if "." not in name}
        inner: dict[str, dict[str, Any]] = {}
        for name, value in self.state.items():
            if "." in name:
                first, rest = name.split(".", 1)
                inner.setdefault(first, {})[rest] = value
        attributes = {
            "training": False,
            "weight_gain": np.float64(0.5),  # there and unused, as much else
            "_parameters": collections.OrderedDict(
                (name, nn.Parameter(value, requires_grad=False) if isinstance(value, Tensor) else value)
                for name, value in own.items()
                if not self.buffers(name)
            ),
            "_buffers": collections.OrderedDict((name, value) for name, value in own.items() if self.buffers(name)),
            "_non_persistent_buffers_set": set(),
            "_modules": collections.OrderedDict(
                (name, Net(state, self.source, frozen=self.frozen)) for name, state in inner.items()
            ),
            **self.settings,
        }
        meta = {"type": "class", "version": 6, "module_src": self.source, "class_name": "Net", "state": attributes}
        return reconstruct, (meta,), None


class Call:
    """Unpickled, it calls a function."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


def saved(path: Path, content: Any, protocol: int = 4) -> Path:
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    return path


def tiny(**changes: Any) -> dict[str, Any]:
    net = Net(generator(*TINY))
    return {"G": net, "D": Net(discriminator(TINY[0])), "G_ema": net, "augment_pipe": None} | changes


class Pickled:
    """Pickled, it is a storage: what torch.load makes of these bytes."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    def __reduce__(self) -> tuple[Any, ...]:
        return torch.storage._load_from_bytes, (self.content,)


def storage_of(values: Any, **options: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(values, stream, **{"_use_new_zipfile_serialization": False} | options)
    return stream.getvalue()
