"""StyleGAN2 pickles of NVIDIA's stylegan2-ada-pytorch and stylegan3, read without running the code they carry.

Such a file is a pickle of modules, each with the source of its class. Unpickled here, it makes plain records:
the sources are never looked at, every global has a harmless stand-in or is refused, and tensors are made
afterwards, of the parts we use only, once they have been checked.

The networks compute what those in the rosinality layout do, so most tensors only change name or shape. Two
differences remain. Filters of up-sampling are stored without their gain of 4. And activations are clamped
where a network ran in float16, at values that float32 networks hardly reach: the clamp is left out.
"""

from __future__ import annotations

import io
import math
import pickle
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from g2s_cli.errors import WeightsError

UP_GAIN = 4.0  # of a filter that follows stuffing zeros between pixels
MAPPING_RATE = 0.01  # learning-rate multiplier that `nets.stylegan2` takes for granted
MOST_LEVELS = 12  # the last block makes 8192 pixels
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def read_nvidia(path: Path) -> dict[str, Tensor]:
    """The averaged generator, the discriminator if there is one, and the mean latent, in the rosinality layout.

    Names are `g_ema.*`, `d.*` and `latent_avg`, as `read_rosinality` gives them; all is float32. Raises
    WeightsError if the file is no such pickle, names a global that none needs, has a tensor larger than its
    storage or a number that is not finite, or holds another network than an unconditional StyleGAN2.
    """
    try:
        with path.open("rb") as file:
            content = _Unpickler(file, path).load()
        if not isinstance(content, dict) or not isinstance(content.get("G_ema"), _Module):
            raise WeightsError(f"{path} has no G_ema network.", "Name a StyleGAN2 pickle of NVIDIA's code.")
        generator = _Part(path, "G_ema", content["G_ema"])
        tensors = {f"g_ema.{name}": tensor for name, tensor in _generator(generator).items()}
        if isinstance(content.get("D"), _Module):
            found = _discriminator(_Part(path, "D", content["D"]))
            tensors |= {f"d.{name}": tensor for name, tensor in found.items()}
        mapping = generator.part("mapping")
        if mapping.has("w_avg"):
            tensors["latent_avg"] = mapping.tensor("w_avg", len(tensors["g_ema.style.1.bias"]))
    except WeightsError:
        raise
    except Exception as error:  # an unpickler, fed another file's bytes, lets through whatever goes wrong inside
        raise WeightsError(f"{path} cannot be read as a pickle of networks.", "Fetch the file again.") from error
    return tensors


class _Module:
    """A pickled module: its class's name and its attributes. The source beside them is dropped unread."""

    def __init__(self, meta: Mapping[Any, Any]) -> None:
        self.class_name = meta.get("class_name")
        self.state = meta.get("state")


class _Storage:
    """Numbers as torch.save wrote them, not yet looked at."""

    def __init__(self, content: Any) -> None:
        self.content = content


class _View:
    """A pickled tensor: where its numbers lie in a storage. Anything may stand in its fields until checked."""

    def __init__(self, storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> None:
        self.storage, self.offset, self.size, self.stride = storage, offset, size, stride


class _Unused:
    """In place of what real files hold and we do not need: numpy's numbers, torch's dtypes and devices."""

    def __init__(self, *_: Any) -> None:
        pass


def _parameter(data: Any, *_: Any) -> Any:
    return data


STAND_INS: dict[tuple[str, str], Callable[..., Any]] = {
    ("torch_utils.persistence", "_reconstruct_persistent_obj"): _Module,
    ("torch._utils", "_rebuild_tensor_v2"): _View,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch.storage", "_load_from_bytes"): _Storage,
    ("collections", "OrderedDict"): OrderedDict,
    ("builtins", "set"): set,
    ("dnnlib.util", "EasyDict"): dict,
    ("numpy", "dtype"): _Unused,
    ("numpy", "ndarray"): _Unused,
    **{
        (f"numpy.{core}.{module}", name): _Unused
        for core in ("core", "_core")  # before and after numpy 2
        for module, name in (("multiarray", "scalar"), ("multiarray", "_reconstruct"), ("numeric", "_frombuffer"))
    },
    **{
        ("torch", name): _Unused
        for name in ("Size", "device", "float16", "bfloat16", "float32", "float64", "uint8", "int32", "int64", "bool")
    },
}


def _drop_state(unpickler: Any) -> None:
    unpickler.stack.pop()


class _Unpickler(pickle._Unpickler):
    """An unpickler that calls stand-ins only.

    Python's rather than C's: there a file can ask for any amount of memory by numbering its objects.
    """

    # What a file sets on objects it has made is nothing we need, and could be set on the stand-ins themselves.
    dispatch: ClassVar = {**pickle._Unpickler.dispatch, pickle.BUILD[0]: _drop_state}

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
        stand_in = STAND_INS.get((module, name))
        if stand_in is None:
            refused = ascii(f"{module}.{name}")[1:-1][:100]
            raise WeightsError(
                f"{self.path} names {refused}, which no StyleGAN2 needs; none of its code was run.",
                "Fetch the file from where it was first published.",
            )
        return stand_in

    def persistent_load(self, _: Any) -> Any:
        """Refused: a file of this kind is whole."""
        raise pickle.UnpicklingError("a reference to something outside the file")


@dataclass(frozen=True)
class _Part:
    """A network, or a module somewhere in it, that names itself in refusals."""

    path: Path
    name: str
    module: _Module

    def _table(self, name: str) -> Mapping[Any, Any]:
        state = self.module.state
        table = state.get(name) if isinstance(state, dict) else None
        return table if isinstance(table, dict) else {}

    def names(self) -> set[str]:
        """The modules directly inside."""
        return {str(name) for name, module in self._table("_modules").items() if module is not None}

    def part(self, name: str) -> _Part:
        """A module directly inside. Raises WeightsError."""
        module = self._table("_modules").get(name)
        if not isinstance(module, _Module):
            raise self.state_mismatch(f"{self.name}.{name} is missing")
        return _Part(self.path, f"{self.name}.{name}", module)

    def expect(self, names: set[str]) -> None:
        """Raise WeightsError unless these modules are inside and no others."""
        if self.names() != names:
            wrong = ", ".join(sorted(ascii(name)[1:-1][:40] for name in self.names() ^ names)[:4])
            category = ascii(self.module.class_name)[1:-1][:40]
            raise self.state_mismatch(f"{self.name}, a {category}, lacks or has beyond its due {wrong}")

    def setting(self, name: str) -> Any:
        """A plain attribute, or None."""
        return self.module.state.get(name) if isinstance(self.module.state, dict) else None

    def _view(self, name: str) -> Any:
        # What is frozen while training continues from another network lies among the buffers.
        return self._table("_parameters").get(name, self._table("_buffers").get(name))

    def has(self, name: str) -> bool:
        """Whether there is such a tensor."""
        return self._view(name) is not None

    def tensor(self, name: str, *shape: int | None) -> Tensor:
        """A tensor of this shape, in float32; None stands for any length. Raises WeightsError."""
        view, where = self._view(name), f"{self.name}.{name}"
        if not isinstance(view, _View):
            raise self.state_mismatch(f"{where} is missing")
        if not all(_is_lengths(numbers, least) for numbers, least in ((view.size, 1), (view.stride, 0))):
            raise self.damaged(f"{where} has no usable shape")
        if len(view.size) != len(shape) or any(n not in (None, m) for n, m in zip(shape, view.size, strict=True)):
            wanted = " x ".join("any" if n is None else str(n) for n in shape)
            raise self.state_mismatch(f"{where} is {' x '.join(map(str, view.size))}, not {wanted}")
        storage = _loaded(view.storage)
        if storage is None:
            raise self.damaged(f"{where} has no storage of floating-point numbers")
        if not _fits(view, len(storage)):
            raise self.damaged(f"{where} declares more numbers than its storage holds")
        tensor = storage.as_strided(view.size, view.stride, view.offset).to(
            torch.float32, memory_format=torch.contiguous_format, copy=True
        )
        if not torch.isfinite(tensor).all():
            raise self.damaged(f"{where} has numbers that are not finite")
        return tensor

    def length(self, name: str) -> int:
        """The numbers in a tensor of one dimension. Raises WeightsError."""
        return len(self.tensor(name, None))

    def damaged(self, how: str) -> WeightsError:
        """The refusal of a file that nobody can use."""
        return WeightsError(f"{self.path} is damaged: {how}.", "Fetch the file again.")

    def state_mismatch(self, how: str) -> WeightsError:
        """The refusal of a network that we cannot use."""
        return WeightsError(
            f"{self.path} is not a StyleGAN2 as we know it: {how}.",
            "Name one made by the unchanged code of NVIDIA's stylegan2-ada-pytorch or stylegan3.",
        )

    def refuse_conditional(self, modules: set[str]) -> None:
        """Raise WeightsError if the network takes class labels: it says so, or has one of these modules."""
        labels = self.setting("c_dim")
        if (isinstance(labels, int) and labels > 0) or self.names() & modules:
            raise WeightsError(
                f"{self.path} holds a conditional network: {self.name} takes class labels.",
                "Name a StyleGAN2 trained without labels.",
            )


def _is_lengths(numbers: object, least: int) -> bool:
    return isinstance(numbers, tuple) and len(numbers) < 9 and all(type(n) is int and n >= least for n in numbers)


def _loaded(storage: object) -> Tensor | None:
    """A storage's numbers as a flat tensor; None for anything but a storage of floating-point numbers.

    Pickled storages are in torch's older format; the newer, a zip archive, could unpack to any size.
    """
    content = storage.content if isinstance(storage, _Storage) else None
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


def _levels(net: _Part) -> list[int]:
    """The sizes of a network's blocks, 4 pixels first. Raises WeightsError unless they are without a gap."""
    sizes = [4 << level for level in range(min(max(len(net.names()), 1), MOST_LEVELS))]
    net.expect({f"b{size}" for size in sizes})
    return sizes


def _generator(net: _Part) -> dict[str, Tensor]:
    mapping, synthesis = net.part("mapping"), net.part("synthesis")
    net.refuse_conditional(set())
    mapping.refuse_conditional({"embed"})
    if any(name == "input" or name.startswith("L0_") for name in synthesis.names()):
        raise WeightsError(
            f"{net.path} holds a StyleGAN3 generator.", "Name a StyleGAN2: stylegan3 trains one with --cfg=stylegan2."
        )
    net.expect({"mapping", "synthesis"})
    state = _mapping(mapping)
    latent = len(state["style.1.bias"])
    for level, size in enumerate(_levels(synthesis)):
        block = synthesis.part(f"b{size}")
        if level == 0:
            block.expect({"conv1", "torgb"})
            constant = block.tensor("const", None, 4, 4)
            width = len(constant)
            state |= {"input.input": constant[None]}
            state |= _styled_conv(block.part("conv1"), "conv1", 0, width, width, size, latent)
            state |= _to_rgb(block.part("torgb"), "to_rgb1", width, latent)
        else:
            block.expect({"conv0", "conv1", "torgb"})
            before, width = width, block.part("conv0").length("bias")
            index, rgb = 2 * level - 2, f"to_rgbs.{level - 1}"
            up = f"convs.{index}"
            state |= _styled_conv(block.part("conv0"), up, index + 1, before, width, size, latent)
            state |= {f"{up}.conv.blur.kernel": UP_GAIN * block.part("conv0").tensor("resample_filter", 4, 4)}
            state |= _styled_conv(block.part("conv1"), f"convs.{index + 1}", index + 2, width, width, size, latent)
            state |= _to_rgb(block.part("torgb"), rgb, width, latent)
            state |= {f"{rgb}.upsample.kernel": UP_GAIN * block.tensor("resample_filter", 4, 4)}
    return state


def _mapping(net: _Part) -> dict[str, Tensor]:
    depth = len(net.names())
    net.expect({f"fc{layer}" for layer in range(depth)})
    latent = net.part("fc0").length("bias")
    state = {}
    for layer in range(depth):
        dense = net.part(f"fc{layer}")
        rate = dense.setting("bias_gain")
        if isinstance(rate, int | float) and rate != MAPPING_RATE:
            raise dense.state_mismatch(f"{dense.name} has the learning-rate multiplier {rate}, not {MAPPING_RATE}")
        state[f"style.{layer + 1}.weight"] = dense.tensor("weight", latent, latent)
        state[f"style.{layer + 1}.bias"] = dense.tensor("bias", latent)
    return state


def _styled_conv(
    conv: _Part, prefix: str, noise: int, before: int, width: int, size: int, latent: int
) -> dict[str, Tensor]:
    state = {
        f"{prefix}.conv.weight": conv.tensor("weight", width, before, 3, 3)[None],
        f"{prefix}.activate.bias": conv.tensor("bias", width),
        **_style(conv, prefix, before, latent),
    }
    if conv.has("noise_const"):
        state[f"{prefix}.noise.weight"] = conv.tensor("noise_strength")[None]
        state[f"noises.noise_{noise}"] = conv.tensor("noise_const", size, size)[None, None]
    return state


def _to_rgb(rgb: _Part, prefix: str, before: int, latent: int) -> dict[str, Tensor]:
    return {
        f"{prefix}.conv.weight": rgb.tensor("weight", 3, before, 1, 1)[None],
        f"{prefix}.bias": rgb.tensor("bias", 3)[None, :, None, None],
        **_style(rgb, prefix, before, latent),
    }


def _style(layer: _Part, prefix: str, before: int, latent: int) -> dict[str, Tensor]:
    affine = layer.part("affine")
    return {
        f"{prefix}.conv.modulation.weight": affine.tensor("weight", before, latent),
        f"{prefix}.conv.modulation.bias": affine.tensor("bias", before),
    }


def _discriminator(net: _Part) -> dict[str, Tensor]:
    net.refuse_conditional({"mapping"})
    fine = _levels(net)[:0:-1]
    if not all("skip" in net.part(f"b{size}").names() for size in fine):
        raise WeightsError(
            f"{net.path} holds a discriminator without residual blocks.",
            "Name a StyleGAN2 whose discriminator has the architecture resnet.",
        )
    state: dict[str, Tensor] = {}
    width = 0
    for level, size in enumerate(fine, start=1):
        block, prefix = net.part(f"b{size}"), f"convs.{level}"
        block.expect({"conv0", "conv1", "skip"} | ({"fromrgb"} if level == 1 else set()))
        if level == 1:
            rgb = block.part("fromrgb")
            width = rgb.length("bias")
            state |= {"convs.0.0.weight": rgb.tensor("weight", width, 3, 1, 1)}
            state |= {"convs.0.1.bias": rgb.tensor("bias", width)}
        inner, down, skip = block.part("conv0"), block.part("conv1"), block.part("skip")
        before, width = width, down.length("bias")
        state |= {
            f"{prefix}.conv1.0.weight": inner.tensor("weight", before, before, 3, 3),
            f"{prefix}.conv1.1.bias": inner.tensor("bias", before),
            f"{prefix}.conv2.0.kernel": down.tensor("resample_filter", 4, 4),
            f"{prefix}.conv2.1.weight": down.tensor("weight", width, before, 3, 3),
            f"{prefix}.conv2.2.bias": down.tensor("bias", width),
            f"{prefix}.skip.0.kernel": skip.tensor("resample_filter", 4, 4),
            f"{prefix}.skip.1.weight": skip.tensor("weight", width, before, 1, 1),
        }
    last = net.part("b4")
    conv, dense, out = last.part("conv"), last.part("fc"), last.part("out")
    return state | {
        # One channel more than the last block's: the mini-batch standard deviation.
        "final_conv.0.weight": conv.tensor("weight", width, width + 1, 3, 3),
        "final_conv.1.bias": conv.tensor("bias", width),
        "final_linear.0.weight": dense.tensor("weight", width, 16 * width),
        "final_linear.0.bias": dense.tensor("bias", width),
        "final_linear.1.weight": out.tensor("weight", 1, width),
        "final_linear.1.bias": out.tensor("bias", 1),
    }
