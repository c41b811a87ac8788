"""StyleGAN2 pickles of NVIDIA's stylegan2-ada-pytorch and stylegan3, read without running code that they carry.

Such a file is a pickle of modules, each with the source of its class. It is unpickled to plain records: the sources are
ignored, each global has a harmless stand-in or is refused, and only the tensors that g2s uses are made, after checks.

The networks compute what those in the rosinality layout do, so most tensors only change name or shape. Filters of
up-sampling are stored without their gain of 4. Activations are clamped where a network ran in float16, at values that
float32 networks hardly reach: the clamp is left out.
"""

from __future__ import annotations

import io
import itertools
import math
import pickle
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from g2s_cli.errors import WeightsError

UP_GAIN = 4.0  # of a filter that follows zero insertion
MAPPING_LR_MULTIPLIER = 0.01  # assumed by `gan.stylegan2`
MAX_LEVELS = 12  # the last block makes 8192 pixels
MAX_MAPPING_LAYERS = 64
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)

Names = dict[str, str]  # rosinality's name of each tensor to NVIDIA's

# Of the discriminator.
RESIDUAL_BLOCK: Names = {
    "conv1.0.weight": "conv0.weight",
    "conv1.1.bias": "conv0.bias",
    "conv2.0.kernel": "conv1.resample_filter",
    "conv2.1.weight": "conv1.weight",
    "conv2.2.bias": "conv1.bias",
    "skip.0.kernel": "skip.resample_filter",
    "skip.1.weight": "skip.weight",
}
LAST_BLOCK: Names = {
    "final_conv.0.weight": "conv.weight",
    "final_conv.1.bias": "conv.bias",
    "final_linear.0.weight": "fc.weight",
    "final_linear.0.bias": "fc.bias",
    "final_linear.1.weight": "out.weight",
    "final_linear.1.bias": "out.bias",
}


def read_nvidia(path: Path) -> dict[str, Tensor]:
    """The averaged generator, the discriminator and the mean latent of a pickle, in the rosinality layout.

    Returns:
        Tensors named `g_ema.*`, `d.*` and `latent_avg` (the last two if there are any), in float32. Shapes are for the
        networks to check.

    Raises:
        WeightsError: the file is no such pickle, refers to a global that no StyleGAN2 needs, has a tensor larger than
            its storage or a number that is not finite, or holds another network than an unconditional StyleGAN2.
    """
    try:
        with path.open("rb") as stream:
            content = _Unpickler(stream, path).load()
        if not isinstance(content, dict) or not isinstance(content.get("G_ema"), _Module):
            raise WeightsError(f"{path} has no G_ema network.", "Name a StyleGAN2 pickle of NVIDIA's code.")
        file = _File(path, content)
        return _read_generator(file) | (_read_discriminator(file) if isinstance(content.get("D"), _Module) else {})
    except WeightsError:
        raise
    except Exception as error:  # an unpickler raises anything on the bytes of another format
        raise WeightsError(f"{path} cannot be read as a pickle of networks.", "Fetch the file again.") from error


class _Module:
    """A pickled module: its class's name and its attributes; its source is dropped."""

    def __init__(self, meta: Mapping[Any, Any]) -> None:
        self.class_name, self.state = meta.get("class_name"), meta.get("state")

    def attribute(self, name: str) -> Any:
        return self.state.get(name) if isinstance(self.state, dict) else None

    def table(self, name: str) -> Mapping[Any, Any]:
        table = self.attribute(name)
        return table if isinstance(table, dict) else {}

    @property
    def children(self) -> set[str]:
        return {str(name) for name, module in self.table("_modules").items() if module is not None}


class _View(NamedTuple):
    """A pickled tensor: its place in a storage. Its fields hold anything until they are checked."""

    storage: Any
    offset: Any
    size: Any
    stride: Any


STAND_INS: dict[tuple[str, str], Callable[..., Any]] = {
    ("torch_utils.persistence", "_reconstruct_persistent_obj"): _Module,
    ("torch._utils", "_rebuild_tensor_v2"): lambda *fields: _View(*fields[:4]),
    ("torch._utils", "_rebuild_parameter"): lambda data, *_: data,
    ("torch.storage", "_load_from_bytes"): lambda content: content,
    ("collections", "OrderedDict"): OrderedDict,
    ("builtins", "set"): set,
    ("dnnlib.util", "EasyDict"): dict,
}


class _Unpickler(pickle._Unpickler):
    """An unpickler that calls stand-ins only.

    It is Python's, not C's: in the latter a file can allocate any amount of memory by numbering its objects.
    """

    # The opcode BUILD sets attributes on objects, possibly on the stand-ins themselves.
    dispatch: ClassVar = pickle._Unpickler.dispatch | {pickle.BUILD[0]: lambda unpickler: unpickler.stack.pop()}

    def __init__(self, file: io.BufferedReader, path: Path) -> None:
        super().__init__(file)
        self.path = path

    def find_class(self, module: str, name: str, /) -> Callable[..., Any]:
        """The stand-in for a global. Raises WeightsError."""
        if module == "dnnlib.tflib" or module.startswith("dnnlib.tflib."):
            raise WeightsError(
                f"{self.path} is a TensorFlow pickle.",
                "Convert it with legacy.py of NVIDIA's stylegan2-ada-pytorch, then name what that writes.",
            )
        if stand_in := STAND_INS.get((module, name)):
            return stand_in
        if module.split(".", maxsplit=1)[0] in {"numpy", "torch"}:
            return lambda *_: None  # numbers, dtypes and devices that g2s does not need
        raise WeightsError(
            f"{self.path} names {_printable(f'{module}.{name}')}, which no StyleGAN2 needs; none of its code was run.",
            "Fetch the file from where it was first published.",
        )

    def persistent_load(self, _: Any) -> Any:
        """Refused: such a file refers to nothing outside."""
        raise pickle.UnpicklingError("a reference to something outside the file")


def _printable(name: object) -> str:
    return ascii(name)[1:-1][:100]


@dataclass(frozen=True)
class _File:
    """The networks of a file. Modules and tensors are named by dotted paths, such as D.b8.conv0.weight."""

    path: Path
    networks: Mapping[Any, Any]

    def module(self, name: str) -> _Module:
        """A module. Raises WeightsError if it is missing."""
        network, *inner = name.split(".")
        module = self.networks[network]
        for key in inner:
            module = module.table("_modules").get(key)
            if not isinstance(module, _Module):
                raise self.mismatch(f"{name} is missing")
        return module

    def view(self, name: str) -> Any:
        """The unchecked view of a tensor, or None."""
        parent, _, key = name.rpartition(".")
        module = self.module(parent)
        # Layers that were frozen in training have their parameters among the buffers.
        return module.table("_parameters").get(key, module.table("_buffers").get(key))

    def tensor(self, name: str) -> Tensor:
        """A tensor in float32. Raises WeightsError."""
        view = self.view(name)
        if not isinstance(view, _View):
            raise self.mismatch(f"{name} is missing")
        if not all(_is_lengths(numbers, least) for numbers, least in ((view.size, 1), (view.stride, 0))):
            raise self.damaged(f"{name} has no usable shape")
        storage = _read_storage(view.storage)
        if storage is None:
            raise self.damaged(f"{name} has no storage of floating-point numbers")
        if not _fits(view, len(storage)):
            raise self.damaged(f"{name} declares more numbers than its storage holds")
        tensor = storage.as_strided(view.size, view.stride, view.offset).to(
            torch.float32, memory_format=torch.contiguous_format, copy=True
        )
        if not torch.isfinite(tensor).all():
            raise self.damaged(f"{name} has numbers that are not finite")
        return tensor

    def check_modules(self, names: Names, skip: str = "") -> None:
        """Raise WeightsError unless the modules are those of these tensors. skip: a module not to look into."""
        expected: dict[str, set[str]] = {}
        for name in names.values():
            modules = name.split(".")[:-1]
            for depth in range(1, len(modules)):
                expected.setdefault(".".join(modules[:depth]), set()).add(modules[depth])
        for name, children in expected.items():
            module = self.module(name)
            if name != skip and (wrong := module.children ^ children):
                others = ", ".join(sorted(map(_printable, wrong))[:4])
                raise self.mismatch(f"{name}, a {_printable(module.class_name)}, lacks or adds the modules {others}")

    def check_unconditional(self, name: str, embedding: str = "") -> None:
        """Raise WeightsError if a module takes class labels: it says so, or has a module to embed them."""
        labels = self.module(name).attribute("c_dim")
        if (isinstance(labels, int) and labels > 0) or embedding in self.module(name).children:
            raise WeightsError(
                f"{self.path} holds a conditional network: {name} takes class labels.",
                "Name a StyleGAN2 trained without labels.",
            )

    def damaged(self, how: str) -> WeightsError:
        return WeightsError(f"{self.path} is damaged: {how}.", "Fetch the file again.")

    def mismatch(self, how: str) -> WeightsError:
        return WeightsError(
            f"{self.path} is not a StyleGAN2 as we know it: {how}.",
            "Name one made by the unchanged code of NVIDIA's stylegan2-ada-pytorch or stylegan3.",
        )


def _is_lengths(numbers: object, least: int) -> bool:
    return isinstance(numbers, tuple) and len(numbers) < 9 and all(type(n) is int and n >= least for n in numbers)


def _read_storage(content: object) -> Tensor | None:
    """The numbers that torch.save wrote as a flat tensor; None for anything but floating-point numbers.

    Pickled storages are in torch's legacy format; the newer one, a zip archive, could unpack to any size.
    """
    if not isinstance(content, bytes) or content.startswith(b"PK"):
        return None
    numbers = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    if not isinstance(numbers, torch.storage.TypedStorage) or numbers.dtype not in FLOATS:
        return None
    return torch.empty(0, dtype=numbers.dtype).set_(numbers)


def _fits(view: _View, available: int) -> bool:
    """Whether a view with a checked shape stays inside so many numbers and shows no more than there are."""
    if type(view.offset) is not int or view.offset < 0 or len(view.stride) != len(view.size):
        return False
    last = view.offset + sum((n - 1) * step for n, step in zip(view.size, view.stride, strict=True))
    return last < available and math.prod(view.size) <= available


def _block_sizes(blocks: set[str]) -> list[int]:
    """The resolution of each block, 4 pixels first."""
    return [4 << level for level in range(min(max(len(blocks), 1), MAX_LEVELS))]


def _read_generator(file: _File) -> dict[str, Tensor]:
    file.check_unconditional("G_ema")
    file.check_unconditional("G_ema.mapping", "embed")
    layers, blocks = file.module("G_ema.mapping").children, file.module("G_ema.synthesis").children
    if any(name == "input" or name.startswith("L0_") for name in blocks):
        raise WeightsError(
            f"{file.path} holds a StyleGAN3 generator.", "Name a StyleGAN2: stylegan3 trains one with --cfg=stylegan2."
        )
    for layer in sorted(f"G_ema.mapping.{name}" for name in layers):
        rate = file.module(layer).attribute("bias_gain")
        if isinstance(rate, int | float) and rate != MAPPING_LR_MULTIPLIER:
            raise file.mismatch(f"{layer} has the learning-rate multiplier {rate}, not {MAPPING_LR_MULTIPLIER}")
    names = _generator_names(_block_sizes(blocks), min(len(layers), MAX_MAPPING_LAYERS))
    file.check_modules(names)
    state = {
        f"g_ema.{ours}": _in_rosinality_shape(ours, file.tensor(theirs))
        for ours, theirs in names.items()
        if ".noise_" not in theirs or file.view(f"{theirs.rpartition('.')[0]}.noise_const") is not None
    }
    if file.view("G_ema.mapping.w_avg") is not None:
        state["latent_avg"] = file.tensor("G_ema.mapping.w_avg").flatten()
    return state


def _generator_names(sizes: list[int], mapping_layers: int) -> Names:
    names = {"input.input": "G_ema.synthesis.b4.const"}
    for layer, kind in itertools.product(range(mapping_layers), ("weight", "bias")):
        names[f"style.{layer + 1}.{kind}"] = f"G_ema.mapping.fc{layer}.{kind}"
    for level, size in enumerate(sizes):
        block = f"G_ema.synthesis.b{size}"
        first, second = 2 * level - 2, 2 * level - 1
        to_rgb = f"to_rgbs.{level - 1}" if level else "to_rgb1"
        if level:
            names |= _conv_names(f"convs.{first}", f"{block}.conv0", first + 1)
            names[f"convs.{first}.conv.blur.kernel"] = f"{block}.conv0.resample_filter"
            names[f"{to_rgb}.upsample.kernel"] = f"{block}.resample_filter"
        names |= _conv_names(f"convs.{second}" if level else "conv1", f"{block}.conv1", second + 1)
        names |= _modulated_names(to_rgb, f"{block}.torgb") | {f"{to_rgb}.bias": f"{block}.torgb.bias"}
    return names


def _conv_names(ours: str, theirs: str, noise: int) -> Names:
    return _modulated_names(ours, theirs) | {
        f"{ours}.activate.bias": f"{theirs}.bias",
        f"{ours}.noise.weight": f"{theirs}.noise_strength",
        f"noises.noise_{noise}": f"{theirs}.noise_const",
    }


def _modulated_names(ours: str, theirs: str) -> Names:
    affine = {f"{ours}.conv.modulation.{kind}": f"{theirs}.affine.{kind}" for kind in ("weight", "bias")}
    return affine | {f"{ours}.conv.weight": f"{theirs}.weight"}


def _in_rosinality_shape(name: str, tensor: Tensor) -> Tensor:
    """A generator's tensor with the axes and the gain of rosinality's tensor of this name."""
    if name.endswith("kernel"):
        return UP_GAIN * tensor
    if re.fullmatch(r"to_rgb[^.]*(\.\d+)?\.bias", name):
        return tensor[None, :, None, None]
    if name.startswith("noises."):
        return tensor[None, None]
    return tensor[None] if name.endswith(("input.input", ".conv.weight", ".noise.weight")) else tensor


def _read_discriminator(file: _File) -> dict[str, Tensor]:
    file.check_unconditional("D", "mapping")
    sizes = _block_sizes(file.module("D").children)
    if not all("skip" in file.module(f"D.b{size}").children for size in sizes[1:]):
        raise WeightsError(
            f"{file.path} holds a discriminator without residual blocks.",
            "Name a StyleGAN2 whose discriminator has the architecture resnet.",
        )
    names = _discriminator_names(sizes)
    file.check_modules(names, skip="D.b4")  # which also has a module without tensors
    return {f"d.{ours}": file.tensor(theirs) for ours, theirs in names.items()}


def _discriminator_names(sizes: list[int]) -> Names:
    names = {"convs.0.0.weight": f"D.b{sizes[-1]}.fromrgb.weight", "convs.0.1.bias": f"D.b{sizes[-1]}.fromrgb.bias"}
    for level, size in enumerate(reversed(sizes[1:]), start=1):
        for ours, theirs in RESIDUAL_BLOCK.items():
            names[f"convs.{level}.{ours}"] = f"D.b{size}.{theirs}"
    return names | {ours: f"D.b4.{theirs}" for ours, theirs in LAST_BLOCK.items()}
