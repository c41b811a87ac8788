"""Foreign checkpoints, read without running any code they carry, as flat tensors for safetensors files.

What a file is, is told by what is in it: a StyleGAN2 in the rosinality layout or NVIDIA's pickle, GAN2Shape's networks,
its statistics of views or lights, a parsing network. Architectures are read off the tensors by `g2s_cli.nets`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from g2s_cli.errors import G2SError, WeightsError
from g2s_cli.estimators.depth_net import SightNet
from g2s_cli.estimators.gan2shape.offset_encoder import OffsetEncoder
from g2s_cli.estimators.networks import CodeNet, MapNet
from g2s_cli.gan.discriminator import Discriminator
from g2s_cli.gan.stylegan2 import Generator
from g2s_cli.segmentation.parsing_net import NAMED_BY, ParsingNet, parsing_net
from g2s_cli.weights.catalog import PARSER_CLASSES, SUFFIX, Category, Part
from g2s_cli.weights.nvidia import read_nvidia
from g2s_cli.weights.tensors import load_tensors, submodule_state
from g2s_cli.weights.torch_file import is_plain, load_torch_file

# How the old torch format begins: a pickle of its magic number.
LEGACY_TORCH = bytes.fromhex("80028a0a6cfc9c46f9206aa850192e")

MOST_SHARED = 4  # how often, in the mean, names may share numbers: tied layers, but no bombs


def read_checkpoint(path: Path) -> tuple[Part, dict[str, Tensor]]:
    """What part of a category a file is, and its tensors under the names that g2s uses.

    Raises WeightsError if the file cannot be read safely, is none of the known kinds, or does not hold
    together: a generator that fits no discriminator, networks of unknown shape, numbers that are not finite.
    """
    try:
        tensors = _read(path)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror or error}.", "Check the file.") from error
    for name, tensor in tensors.items():
        if tensor.is_complex() or (tensor.is_floating_point() and tensor.itemsize == 1):
            raise _unread(path, name)
        if not torch.isfinite(tensor).all():
            raise WeightsError(f"{path} is damaged: {name} has numbers that are not finite.", "Fetch the file again.")
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
    return _flat(path, load_torch_file(path))


def _flat(path: Path, content: Any) -> dict[str, Tensor]:
    """Nested containers of tensors as dotted names; optimisers, arguments and other company left out."""
    if not isinstance(content, Mapping):
        raise WeightsError(f"{path} holds no named weights.", "Name a checkpoint of a GAN, of networks or statistics.")
    if isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    flat: dict[str, Tensor] = {}
    for name, value in content.items():
        if isinstance(value, Mapping) and name not in {"g", "g_optim", "d_optim", "optimizer"}:
            inner = {key.removeprefix("module."): tensor for key, tensor in value.items() if isinstance(key, str)}
            flat |= {f"{name}.{key}": tensor for key, tensor in inner.items() if isinstance(tensor, Tensor)}
        elif isinstance(value, Tensor) and isinstance(name, str):
            flat[name.removeprefix("module.")] = value
    for name, tensor in flat.items():
        if not is_plain(tensor):
            raise _unread(path, name)
        if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            raise WeightsError(f"{path} claims more numbers for {name} than it holds.", "Fetch the file again.")
    # Many names for the same numbers are one number in the file, but not in what is made of it.
    if sum(tensor.numel() * tensor.element_size() for tensor in flat.values()) > MOST_SHARED * path.stat().st_size:
        raise WeightsError(f"{path} claims more numbers than it holds.", "Fetch the file again.")
    return flat


def _unread(path: Path, name: str) -> WeightsError:
    return WeightsError(
        f"{path} holds {name} in a form that g2s does not read.", "Save it as a plain tensor of floats."
    )


def _part_of(tensors: Mapping[str, Tensor]) -> Part:
    """Which part of a category tensors are, by their names, after checking that they hold together."""
    heads = {name.split(".")[0] for name in tensors}
    if heads & {"g_ema", "d"}:
        build_gan(tensors)
        return "gan"
    if "netD" in heads:
        _check_networks(tensors)
        return "networks"
    if heads == {"mean", "cov"}:
        return _check_statistics(tensors["mean"], tensors["cov"])
    if heads & NAMED_BY.keys():
        parsing_net(tensors)
        return "parsing"
    raise WeightsError(
        "Its names are those of no StyleGAN2, GAN2Shape networks, view or light statistics, BiSeNet or PSPNet.",
        "A StyleGAN2 must be in the rosinality layout (g_ema, d) or NVIDIA's pickle.",
    )


def build_gan(tensors: Mapping[str, Tensor]) -> tuple[Generator, Discriminator]:
    """A generator and a discriminator of one size, made of tensors. Raises WeightsError."""
    for prefix, what in (("g_ema", "generator"), ("d", "discriminator")):
        if not any(name.startswith(f"{prefix}.") for name in tensors):
            raise WeightsError(
                f"It has no {what} ({prefix}).", "g2s needs both: fetch the checkpoint that was saved in training."
            )
    mean = tensors.get("latent_avg")
    generator = Generator(submodule_state(tensors, "g_ema"), mean)
    if mean is not None and mean.numel() != generator.latent_size:
        raise WeightsError(
            f"Its latent_avg has {mean.numel()} numbers, its generator's latents {generator.latent_size}.",
            "Take both from one training.",
        )
    discriminator = Discriminator(submodule_state(tensors, "d"))
    if generator.size != discriminator.size:
        raise WeightsError(
            f"Its generator makes {generator.size} px, its discriminator judges {discriminator.size} px.",
            "Take both from one training.",
        )
    return generator, discriminator


def build_parsing_net(category: Category, tensors: Mapping[str, Tensor], path: Path) -> ParsingNet:
    """The parsing network of a file, if the category's masks are made of its classes. Raises WeightsError."""
    if category.mask is None:
        raise WeightsError(
            f"{path} is a parsing network; nothing says which of its classes {category.name} shows.",
            "Give the category's model.toml a [mask] with parser, classes and normalise, as car has one.",
        )
    net, segmenter = parsing_net(tensors), category.mask.segmenter
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
            CodeNet.from_state(submodule_state(tensors, "netV")).size,
            CodeNet.from_state(submodule_state(tensors, "netL")).size,
        }
        if encoder := submodule_state(tensors, "netEnc"):
            sizes.add(OffsetEncoder.from_state(encoder).size)
        if sight := submodule_state(tensors, "netS"):
            sizes.add(SightNet.from_state(sight).size)
    except ValueError as error:  # a layer's number that is none
        raise WeightsError("Its layers are not those of factor networks.", "Fetch the file again.") from error
    if len(sizes) > 1:
        said = ", ".join(map(str, sorted(sizes)))
        raise WeightsError(f"Its networks are for pictures of {said} px.", "Take all from one training.")
    for name, count, what in (
        ("netD", 1, "depth"),
        ("netA", 3, "colours"),
        ("netV", 6, "a view"),
        ("netL", 4, "light"),
    ):
        layers = {
            int(key.split(".")[1]): len(value)
            for key, value in submodule_state(tensors, name).items()
            if value.dim() == 4
        }
        found = layers[max(layers)]
        if found != count:
            raise WeightsError(f"Its {name} says {found} numbers; {what} is {count}.", "Fetch the file again.")


def _check_statistics(mean: Tensor, cov: Tensor) -> Part:
    parts: dict[int, Part] = {6: "views", 4: "lights"}
    count = mean.numel()
    if count not in parts or cov.shape != (count, count):
        raise WeightsError("Its statistics are neither of views (6 numbers) nor of lights (4).", "Check the file.")
    return parts[count]
