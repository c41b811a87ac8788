"""Foreign checkpoints, recognised by their tensors' names and read without running code that they carry.

Read are StyleGAN2 in the rosinality layout or as NVIDIA's pickle, GAN2Shape's networks, its statistics of views or
lights, and parsing networks. The networks read their sizes off the tensors.
"""

from __future__ import annotations

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
from g2s_cli.gan.stylegan2 import Generator
from g2s_cli.segmentation.parsing_net import NETWORKS_BY_PREFIX, ParsingNet, parsing_net
from g2s_cli.segmentation.person_net import PersonNet
from g2s_cli.weights.nvidia import read_nvidia
from g2s_cli.weights.tensors import load_tensors, submodule_state

LEGACY_TORCH = bytes.fromhex("80028a0a6cfc9c46f9206aa850192e")  # magic number of torch's format before zip archives
# Torch stores tensors uncompressed: unpacking adds only zip's own bookkeeping.
UNPACKED_RATIO, UNPACKED_EXTRA_BYTES = 1.1, 1_000_000
MAX_SHARING = 4  # names per stored number, on average: tied layers share numbers, decompression bombs do more
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
    if path.suffix == SUFFIX:
        return load_tensors(path)
    with path.open("rb") as file:
        start = file.read(len(LEGACY_TORCH))
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
    if heads & NETWORKS_BY_PREFIX.keys():
        parsing_net(tensors)
        return "parsing"
    raise WeightsError(
        "Its names are those of no StyleGAN2, GAN2Shape networks, view or light statistics, BiSeNet, PSPNet or person "
        "network.",
        "A StyleGAN2 must be in the rosinality layout (g_ema, d) or NVIDIA's pickle.",
    )


def build_gan(tensors: Mapping[str, Tensor]) -> tuple[Generator, Discriminator]:
    """The generator and the discriminator of a "gan" file. Raises WeightsError if one is missing or they differ."""
    for prefix, what in (("g_ema", "generator"), ("d", "discriminator")):
        if not any(name.startswith(f"{prefix}.") for name in tensors):
            remedy = "g2s needs both: fetch the checkpoint that was saved in training."
            raise WeightsError(f"It has no {what} ({prefix}).", remedy)
    mean = tensors.get("latent_avg")
    generator = Generator(submodule_state(tensors, "g_ema"), mean)
    discriminator = Discriminator(submodule_state(tensors, "d"))
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
