"""Foreign checkpoints, read without running any code they carry, as flat tensors for safetensors files.

What a file is, is told by what is in it: a StyleGAN2 in the rosinality layout or NVIDIA's pickle, GAN2Shape's networks,
its statistics of views or lights, a parsing network. Architectures are read off the tensors by `g2s_cli.nets`.
"""

from __future__ import annotations

import hashlib
import zipfile
from argparse import Namespace
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors.torch import save, save_file
from torch import Tensor

from g2s_cli.errors import G2SError, WeightsError, attempt
from g2s_cli.estimators.depth_net import DepthNet
from g2s_cli.estimators.gan2shape.offset_encoder import OffsetEncoder
from g2s_cli.estimators.networks import CodeNet, MapNet
from g2s_cli.files import sha256_of
from g2s_cli.gan.discriminator import Discriminator
from g2s_cli.gan.stylegan2 import Generator
from g2s_cli.segmentation.parsing_net import NAMED_BY, ParsingNet, parsing_net
from g2s_cli.weights.catalog import PARSER_CLASSES, SUFFIX, Category, Part
from g2s_cli.weights.nvidia import read_nvidia
from g2s_cli.weights.pair import TRAINED_WITH
from g2s_cli.weights.store import ELSEWHERE, writing_weights
from g2s_cli.weights.tensors import load_tensors, part_of

METADATA = {"format": "g2s-weights-1"}

# How the old torch format begins: a pickle of its magic number.
LEGACY_TORCH = bytes.fromhex("80028a0a6cfc9c46f9206aa850192e")

# What unpacking may add to an archive: zip's own bookkeeping. Torch stores tensors as they are.
UNPACKED_SHARE, UNPACKED_BYTES = 1.1, 1_000_000
MOST_SHARED = 4  # how often, in the mean, names may share numbers: tied layers, but no bombs


def read_part(path: Path) -> tuple[Part, dict[str, Tensor]]:
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


@dataclass(frozen=True)
class LatentFile:
    """A file that holds a latent in W; row: which of several, from 0."""

    path: Path
    row: int | None = None

    @classmethod
    def named(cls, said: Path | str) -> LatentFile:
        """FILE or FILE:ROW. A file that is called so, colon and all, is meant itself."""
        file, _, row = str(said).rpartition(":")
        names_a_row = file and row.isdecimal() and isinstance(attempt(Path(said).stat), OSError)
        return cls(Path(file), int(row)) if names_a_row else cls(Path(said))


def read_latent(file: LatentFile, size: int) -> Float[Tensor, d]:
    """A latent in W: of a torch file with a tensor of shape d or 1 x d, or a dict that holds one as "latent".

    Or of what g2s writes: "w" in a result's state, one row of it in a sample's latents. Raises WeightsError, for W+ (a
    vector a layer) and another GAN's size in sentences of their own.
    """
    path = file.path
    try:
        if path.is_dir():
            remedy = f"Name its file of latents, such as {path / 'state.safetensors'}."
            raise WeightsError(f"{path} is a folder.", remedy)
        path.stat()
    except FileNotFoundError as error:
        raise WeightsError(f"There is no file {path}.", "Check the path.") from error
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror or error}.", "Check the file.") from error
    content = load_tensors(path) if path.suffix == ".safetensors" else _torch_load(path)
    rows = isinstance(content, Mapping) and "latent" not in content
    latent = content.get("w" if rows else "latent") if isinstance(content, Mapping) else content
    if not isinstance(latent, Tensor) or not latent.is_floating_point() or not _is_plain(latent):
        raise WeightsError(f"{path} holds no latent.", "Save the tensor itself, or a dict with the key 'latent'.")
    if rows and latent.dim() == 2:
        latent = _row_of(latent, file)
    elif file.row is not None:
        raise WeightsError(f"{path} holds no rows of latents.", f"Leave :{file.row} out.")
    latent = latent.float().squeeze(0) if latent.dim() == 2 and len(latent) == 1 else latent.float()
    if latent.dim() > 1:
        shape = " x ".join(map(str, latent.shape))
        raise WeightsError(
            f"{path} holds a latent of {shape}: W+, a vector a layer; g2s works in W, with one for all.",
            "Project the photo into W, or leave --latent out and let g2s do it.",
        )
    if latent.numel() != size:
        raise WeightsError(
            f"{path} holds a latent of {latent.numel()} numbers; this GAN's have {size}.", "Use its own GAN (--gan)."
        )
    if not torch.isfinite(latent).all():
        raise WeightsError(f"{path} has numbers that are not finite.", "Fetch the file again.")
    return latent


def _row_of(latents: Float[Tensor, "n d"], file: LatentFile) -> Float[Tensor, d]:
    if file.row is None and len(latents) == 1:
        return latents[0]
    if file.row is None or file.row >= len(latents):
        what = f"{file.path} holds {len(latents)} latents" + ("" if file.row is None else f", no row {file.row}")
        raise WeightsError(f"{what}.", f"Name the photo's, 0 to {len(latents) - 1}, as in {file.path}:0.")
    return latents[file.row]


def write_weights(tensors: Mapping[str, Tensor], path: Path, trained_with: str = "", remedy: str = ELSEWHERE) -> None:
    """Write tensors as a safetensors file in one move.

    The same tensors are the same bytes, whoever writes them and when, so that a file's SHA-256 says which GAN it is;
    metadata of more than one entry would be written in an order of chance. trained_with: of networks, the SHA-256 of
    their GAN's file. Raises WeightsError with this remedy if the disk refuses.
    """
    with writing_weights(path, remedy) as temporary:
        save_weights(tensors, temporary, trained_with)


def save_weights(tensors: Mapping[str, Tensor], path: Path, trained_with: str = "") -> None:
    """As `write_weights`, straight to a path. Raises whatever safetensors does."""
    save_file(_apart(tensors), path, {TRAINED_WITH: trained_with} if trained_with else METADATA)


def sha256_as_kept(path: Path, tensors: Mapping[str, Tensor]) -> str:
    """The SHA-256 that a file has in the cache: its own, or if it must be converted, that of its tensors written."""
    if path.suffix == SUFFIX:
        return sha256_of(path)
    return hashlib.sha256(save(_apart(tensors), METADATA)).hexdigest()


def _apart(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors that share no memory, as safetensors wants them."""
    return {name: tensor.contiguous().clone() for name, tensor in tensors.items()}


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise WeightsError(f"There is no file {path}.", "Check the path.")
    if path.suffix == SUFFIX:
        return load_tensors(path)
    with path.open("rb") as file:
        start = file.read(len(LEGACY_TORCH))
    if start[:1] == b"\x80" and start != LEGACY_TORCH:
        return read_nvidia(path)
    return _flat(path, _torch_load(path))


def _torch_load(path: Path) -> Any:
    """A torch file's tensors and plain containers. Raises WeightsError if it holds, or claims, anything more."""
    again = "Fetch the file again."
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                unpacked = sum(entry.file_size for entry in archive.infolist())
                if unpacked > UNPACKED_SHARE * path.stat().st_size + UNPACKED_BYTES:
                    raise WeightsError(f"{path} claims {unpacked} bytes of content, more than it holds.", again)
                if damaged := archive.testzip():
                    raise WeightsError(f"{path} is damaged: the checksum of {damaged} is wrong.", again)
        with torch.serialization.safe_globals([Namespace]):  # rosinality's trainer saves its arguments
            return torch.load(path, map_location="cpu", weights_only=True)
    except WeightsError:
        raise
    except FileNotFoundError as error:
        raise WeightsError(f"There is no file {path}.", "Check the path.") from error
    except Exception as error:  # torch's unpickler, fed another file's bytes, lets through whatever goes wrong inside
        raise WeightsError(f"{path} cannot be read as a torch checkpoint of plain tensors.", again) from error


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
        if not _is_plain(tensor):
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


def _is_plain(tensor: Tensor) -> bool:
    """Whether a tensor's numbers are in memory, each by itself: not sparse, quantised or of the meta device."""
    return tensor.layout == torch.strided and tensor.device.type == "cpu" and not tensor.is_quantized


def _part_of(tensors: Mapping[str, Tensor]) -> Part:
    """Which part of a category tensors are, by their names, after checking that they hold together."""
    heads = {name.split(".")[0] for name in tensors}
    if heads & {"g_ema", "d"}:
        check_gan(tensors)
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


def check_gan(tensors: Mapping[str, Tensor]) -> tuple[Generator, Discriminator]:
    """A generator and a discriminator of one size, made of tensors. Raises WeightsError."""
    for prefix, what in (("g_ema", "generator"), ("d", "discriminator")):
        if not any(name.startswith(f"{prefix}.") for name in tensors):
            raise WeightsError(
                f"It has no {what} ({prefix}).", "g2s needs both: fetch the checkpoint that was saved in training."
            )
    mean = tensors.get("latent_avg")
    generator = Generator(part_of(tensors, "g_ema"), mean)
    if mean is not None and mean.numel() != generator.latent_size:
        raise WeightsError(
            f"Its latent_avg has {mean.numel()} numbers, its generator's latents {generator.latent_size}.",
            "Take both from one training.",
        )
    discriminator = Discriminator(part_of(tensors, "d"))
    if generator.size != discriminator.size:
        raise WeightsError(
            f"Its generator makes {generator.size} px, its discriminator judges {discriminator.size} px.",
            "Take both from one training.",
        )
    return generator, discriminator


def parsing_net_for(category: Category, tensors: Mapping[str, Tensor], path: Path) -> ParsingNet:
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
            MapNet.from_state(part_of(tensors, "netD"), bounded=False).size,
            MapNet.from_state(part_of(tensors, "netA"), bounded=True).size,
            CodeNet.from_state(part_of(tensors, "netV")).size,
            CodeNet.from_state(part_of(tensors, "netL")).size,
        }
        if encoder := part_of(tensors, "netEnc"):
            sizes.add(OffsetEncoder.from_state(encoder).size)
        if sight := part_of(tensors, "netS"):
            sizes.add(DepthNet.from_state(sight).size)
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
            int(key.split(".")[1]): len(value) for key, value in part_of(tensors, name).items() if value.dim() == 4
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
