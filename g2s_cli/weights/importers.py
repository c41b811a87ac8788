"""Foreign checkpoints, recognised by their tensors' names and read without running code that they carry.

Read are StyleGAN2 in the rosinality layout or as NVIDIA's pickle, GAN2Shape's networks, its statistics of views or
lights, and parsing networks. The networks read their sizes off the tensors.
"""

from __future__ import annotations

import re
import zipfile
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from g2s_cli.config import PARSER_CLASSES, SUFFIX, Category, Part
from g2s_cli.errors import G2SError, WeightsError
from g2s_cli.estimators.depth_net import DepthNet
from g2s_cli.estimators.gan2shape.offset_encoder import OffsetEncoder
from g2s_cli.estimators.networks import CodeNet, MapNet
from g2s_cli.gan.discriminator import Discriminator
from g2s_cli.gan.losses import PixelPyramid
from g2s_cli.gan.stylegan2 import Generator
from g2s_cli.segmentation.parsing_net import NETWORKS_BY_PREFIX, ParsingNet, parsing_net
from g2s_cli.segmentation.person_net import PersonNet
from g2s_cli.weights.nvidia import read_nvidia
from g2s_cli.weights.tensors import load_tensors, submodule_state

LEGACY_TORCH = bytes.fromhex("80028a0a6cfc9c46f9206aa850192e")  # magic number of torch's format before zip archives
# Torch stores tensors uncompressed: unpacking adds only zip's own bookkeeping.
UNPACKED_RATIO, UNPACKED_EXTRA_BYTES = 1.1, 1_000_000
MAX_SHARING = 4  # names per stored number, on average: tied layers share numbers, decompression bombs do more
HEADER_BYTES = 512
# What is fetched in place of a checkpoint, by its first bytes.
OTHER_FILES = (
    (rb"version https://git-lfs", "a pointer of Git LFS", "Fetch the file itself: git lfs pull"),
    (rb"\s*<(!doctype|html|\?xml)", "a web page", "Fetch the file behind it, in a browser if need be."),
    (rb"\s*[{\[]\s*[\"{\[][^\0]{6}", "JSON, such as the answer of a server", "Look into it, and fetch the file again."),
    (rb"\x1f\x8b|BZh|\xfd7zXZ|7z\xbc\xaf|Rar!", "a compressed archive", "Unpack it, and name the checkpoint in it."),
    (rb"\x89HDF", "an HDF5 file", "Convert it to a StyleGAN2 in the rosinality layout."),
)
# Checkpoints of other generators, by a pattern of their tensors' names.
OTHER_FAMILIES = {
    r"(g_ema\.|g\.|generator\.)?(synthesis|backbone\.synthesis)\.L\d+_": "StyleGAN3",
    r".*backbone\.synthesis\.": "EG3D",
    r".*synthesis\.b\d+\.": "StyleGAN2 as a state dict of NVIDIA's code",
    r"(g\.|g_running\.|generator\.)*progression\.|.*\.progression\.\d": "StyleGAN (1) or ProGAN",
    r".*g_synthesis\.|.*synthesis\.blocks\.\d+x\d+": "StyleGAN (1)",
    r".*quantize\.embedding": "VQGAN",
    r"(model\.diffusion_model|first_stage_model|down_blocks|unet)\.": "a diffusion model",
    r"(blocks\.\d+\.\d+\.conv1|shared)\.": "BigGAN",
    r"(encoder\.|decoder\.|face_pool|latent_avg$)": "an encoder, such as pSp or e4e",
}
OTHER_STATES = {"g", "g_optim", "d_optim", "optimizer"}  # of a training checkpoint, not read
OUTPUTS = {"netD": (1, "depth"), "netA": (3, "colours"), "netV": (6, "a view"), "netL": (4, "light")}
AGAIN = "Fetch the file again."
ONE_TRAINING = "Take all from one training."


def read_checkpoint(path: Path) -> tuple[Part, dict[str, Tensor]]:
    """The part of a category that a file is, and its tensors under the names that g2s uses.

    Raises:
        WeightsError: the file cannot be read safely, is of no known kind, or is inconsistent: a generator and a
            discriminator of different sizes, networks of unknown shape, numbers that are not finite.
    """
    try:
        tensors = _read(path)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror or error}.", "Check the file.") from error
    for name, tensor in tensors.items():
        if tensor.is_complex() or (tensor.is_floating_point() and tensor.itemsize == 1):
            raise _unsupported(path, name)
        if not torch.isfinite(tensor).all():
            raise WeightsError(f"{path} is damaged: {name} has numbers that are not finite.", AGAIN)
    try:
        return _part_of(tensors), tensors
    except G2SError as error:
        raise WeightsError(f"{path} cannot be used. {error.what}", error.remedy) from error


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise WeightsError(f"There is no file {path}.", "Check the path.")
    with path.open("rb") as file:
        start = file.read(HEADER_BYTES)
    for pattern, what, remedy in OTHER_FILES:
        if re.match(pattern, start, re.IGNORECASE):
            raise WeightsError(f"{path} is {what}, not a checkpoint.", remedy)
    if path.suffix == SUFFIX:
        return load_tensors(path)
    start = start[: len(LEGACY_TORCH)]
    if start[:1] == b"\x80" and start != LEGACY_TORCH:
        return read_nvidia(path)
    return _flatten(path, load_torch_file(path))


def load_torch_file(path: Path) -> Any:
    """A torch file's tensors and plain containers. Raises WeightsError if it contains anything else or is damaged."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                unpacked = sum(entry.file_size for entry in archive.infolist())
                if unpacked > UNPACKED_RATIO * path.stat().st_size + UNPACKED_EXTRA_BYTES:
                    raise WeightsError(f"{path} claims {unpacked} bytes of content, more than it holds.", AGAIN)
                if damaged := archive.testzip():
                    raise WeightsError(f"{path} is damaged: the checksum of {damaged} is wrong.", AGAIN)
        with torch.serialization.safe_globals([Namespace]):  # rosinality's trainer saves its arguments
            return torch.load(path, map_location="cpu", weights_only=True)
    except WeightsError:
        raise
    except Exception as error:  # torch's unpickler raises anything on the bytes of another format
        raise WeightsError(f"{path} cannot be read as a torch checkpoint of plain tensors.", AGAIN) from error


def is_plain(tensor: Tensor) -> bool:
    """Whether a tensor is dense and in memory: not sparse, quantized or on the meta device."""
    return tensor.layout == torch.strided and tensor.device.type == "cpu" and not tensor.is_quantized


def _flatten(path: Path, content: Any) -> dict[str, Tensor]:
    """Nested containers of tensors as dotted names, without optimisers and arguments."""
    if not isinstance(content, Mapping):
        raise WeightsError(f"{path} holds no named weights.", "Name a checkpoint of a GAN, of networks or statistics.")
    if isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    flat: dict[str, Tensor] = {}
    for name, value in content.items():
        if isinstance(value, Mapping) and name not in OTHER_STATES:
            inner = {key.removeprefix("module."): tensor for key, tensor in value.items() if isinstance(key, str)}
            flat |= {f"{name}.{key}": tensor for key, tensor in inner.items() if isinstance(tensor, Tensor)}
        elif isinstance(value, Tensor) and isinstance(name, str):
            flat[name.removeprefix("module.")] = value
    if {"conv1.conv.weight", "to_rgb1.bias"} <= flat.keys():  # a generator's own state dict
        flat = {f"g_ema.{name}" if name != "latent_avg" else name: tensor for name, tensor in flat.items()}
    for name, tensor in flat.items():
        if not is_plain(tensor):
            raise _unsupported(path, name)
        if tensor.nbytes > tensor.untyped_storage().nbytes():
            raise WeightsError(f"{path} claims more numbers for {name} than it holds.", AGAIN)
    # Many names for the same numbers are stored once in the file, but once a name when converted.
    if sum(tensor.nbytes for tensor in flat.values()) > MAX_SHARING * path.stat().st_size:
        raise WeightsError(f"{path} claims more numbers than it holds.", AGAIN)
    return flat


def _unsupported(path: Path, name: str) -> WeightsError:
    return WeightsError(
        f"{path} holds {name} in a form that g2s does not read.", "Save it as a plain tensor of floats."
    )


def _part_of(tensors: Mapping[str, Tensor]) -> Part:
    """The part of a category that tensors are, by their names. Raises WeightsError if they are inconsistent."""
    heads = {name.split(".")[0] for name in tensors}
    if heads & {"g_ema", "d"}:
        build_gan(tensors)
        return "gan"
    if "netD" in heads:
        _check_networks(tensors)
        return "networks"
    if heads == {"mean", "cov"}:
        return _check_statistics(tensors["mean"], tensors["cov"])
    if "head_gate" in heads:
        PersonNet.from_state(tensors)
        return "person"
    if heads == {"netS"}:
        DepthNet.from_state(submodule_state(tensors, "netS"))
        return "depth"
    if heads & NETWORKS_BY_PREFIX.keys():
        parsing_net(tensors)
        return "parsing"
    for pattern, family in OTHER_FAMILIES.items():
        if any(re.match(pattern, name) for name in tensors):
            raise WeightsError(f"It is {family}.", "Name a StyleGAN2 in the rosinality layout or NVIDIA's pickle.")
    raise WeightsError(
        "Its names are those of no StyleGAN2, GAN2Shape networks, view or light statistics, BiSeNet, PSPNet or person "
        "network.",
        "A StyleGAN2 must be in the rosinality layout (g_ema, d) or NVIDIA's pickle.",
    )


def build_gan(tensors: Mapping[str, Tensor]) -> tuple[Generator, Discriminator | PixelPyramid]:
    """The generator and the discriminator of a "gan" file; pixels stand in for a discriminator that is not there.

    Raises WeightsError if there is no generator, or they differ in size.
    """
    if not any(name.startswith("g_ema.") for name in tensors):
        raise WeightsError("It has no generator (g_ema).", "Fetch the checkpoint that was saved in training.")
    mean = tensors.get("latent_avg")
    generator = Generator(submodule_state(tensors, "g_ema"), mean)
    state = submodule_state(tensors, "d")
    discriminator = Discriminator(state) if state else PixelPyramid(generator.size)
    size, latent_size = generator.size, generator.latent_size
    if mean is not None and mean.numel() != latent_size:
        what = f"Its latent_avg has {mean.numel()} numbers, its generator's latents {latent_size}."
        raise WeightsError(what, ONE_TRAINING)
    if size != discriminator.size:
        what = f"Its generator makes {size} px, its discriminator judges {discriminator.size} px."
        raise WeightsError(what, ONE_TRAINING)
    return generator, discriminator


def build_parsing_net(category: Category, tensors: Mapping[str, Tensor], path: Path) -> ParsingNet:
    """The parsing network of a "parsing" file. Raises WeightsError if the category's mask is made of other classes."""
    if category.mask_rule is None:
        raise WeightsError(
            f"{path} is a parsing network; nothing says which of its classes {category.name} shows.",
            "Give the category's model.toml a [mask] with parser, classes and normalise, as car has one.",
        )
    net, segmenter = parsing_net(tensors), category.mask_rule.segmenter
    kind, count = type(net).__name__, PARSER_CLASSES[segmenter]
    if not segmenter.startswith(kind.lower()) or net.classes != count:
        raise WeightsError(
            f"{path} is a {kind} of {net.classes} classes; masks of {category.name} need {segmenter}, of {count}.",
            f"Name that one's file, or: g2s weights pull {category.name}",
        )
    return net


def _check_networks(tensors: Mapping[str, Tensor]) -> None:
    try:
        sizes = {
            MapNet.from_state(submodule_state(tensors, "netD"), bounded=False).size,
            MapNet.from_state(submodule_state(tensors, "netA"), bounded=True).size,
            *(CodeNet.from_state(submodule_state(tensors, name)).size for name in ("netV", "netL")),
        }
        if encoder := submodule_state(tensors, "netEnc"):
            sizes.add(OffsetEncoder.from_state(encoder).size)
        if sight := submodule_state(tensors, "netS"):
            sizes.add(DepthNet.from_state(sight).size)
    except ValueError as error:  # a layer's number that is none
        raise WeightsError("Its layers are not those of factor networks.", AGAIN) from error
    if len(sizes) > 1:
        raise WeightsError(f"Its networks are for pictures of {', '.join(map(str, sorted(sizes)))} px.", ONE_TRAINING)
    for name, (count, what) in OUTPUTS.items():
        state = submodule_state(tensors, name)
        layers = {int(key.split(".")[1]): len(value) for key, value in state.items() if value.dim() == 4}
        if (outputs := layers[max(layers)]) != count:
            raise WeightsError(f"Its {name} says {outputs} numbers; {what} is {count}.", AGAIN)


def _check_statistics(mean: Tensor, cov: Tensor) -> Part:
    parts: dict[int, Part] = {6: "views", 4: "lights"}
    count = mean.numel()
    if count not in parts or cov.shape != (count, count):
        raise WeightsError("Its statistics are neither of views (6 numbers) nor of lights (4).", "Check the file.")
    return parts[count]
