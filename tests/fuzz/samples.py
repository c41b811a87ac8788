"""Sound inputs of every kind, made once."""

from __future__ import annotations

import io
import json
import pickle
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fake_checkpoints
import numpy as np
import pytest
import torch
from conftest import made_up
from fake_checkpoints import nvidia
from PIL import Image, ImageDraw
from safetensors.torch import save

from g2s_cli.result.schema import Result
from g2s_cli.result.write import write_result
from g2s_cli.weights.cache import models_root
from g2s_cli.weights.model_toml import read_model_toml

DATA = Path(__file__).parents[1] / "data"
GAN_SIZE = 16


def encoded(image: Image.Image, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, **options)
    return stream.getvalue()


def photos() -> dict[str, bytes]:
    """A small portrait in every format and mode that g2s reads."""
    face = Image.open(DATA / "face.png").convert("RGB").resize((96, 96))
    alpha = Image.new("L", face.size)
    ImageDraw.Draw(alpha).ellipse((10, 5, 85, 90), fill=255)
    cutout, exif = face.copy(), Image.Exif()
    cutout.putalpha(alpha)
    exif[0x0112] = 6
    deep = Image.fromarray(np.asarray(face.convert("L")).astype(np.uint16) * 257)
    made = {
        "a.jpg": encoded(face, format="JPEG", exif=exif, icc_profile=b"x" * 200),
        "progressive.jpg": encoded(face, format="JPEG", progressive=True),
        "cmyk.jpg": encoded(face.convert("CMYK"), format="JPEG"),
        "grey.jpg": encoded(face.convert("L"), format="JPEG"),
        "a.png": encoded(face, format="PNG", exif=exif),
        "cutout.png": encoded(cutout, format="PNG"),
        "palette.png": encoded(face.quantize(16), format="PNG", transparency=3),
        "deep.png": encoded(deep, format="PNG"),
        "bits.png": encoded(face.convert("1"), format="PNG"),
        "a.webp": encoded(cutout, format="WEBP"),
        "a.tif": encoded(face, format="TIFF", save_all=True, append_images=[face.resize((16, 16))]),
        "lzw.tif": encoded(cutout, format="TIFF", compression="tiff_lzw"),
        "a.bmp": encoded(face, format="BMP"),
        "a.gif": encoded(face.quantize(64), format="GIF"),
        "a.ppm": encoded(face, format="PPM"),
    }
    with suppress(ImportError):
        import pillow_heif

        pillow_heif.register_heif_opener()
        made["a.heic"] = encoded(face, format="HEIF")
    return made


def masks() -> dict[str, bytes]:
    """Masks of a photo of 96 pixels a side, and pictures that are none."""
    disc = Image.new("L", (96, 96))
    ImageDraw.Draw(disc).ellipse((10, 5, 85, 90), fill=255)
    return {
        "mask.png": encoded(disc, format="PNG"),
        "bits.png": encoded(disc.convert("1"), format="PNG"),
        "mask.jpg": encoded(disc, format="JPEG"),
        "small.png": encoded(disc.resize((95, 96)), format="PNG"),
        "cutout.png": photos()["cutout.png"],
    }


def states() -> dict[str, dict[str, Any]]:
    """The parts of a category, as torch saves them."""
    return {
        "gan": fake_checkpoints.gan(GAN_SIZE),
        "networks": fake_checkpoints.networks(16),
        "views": fake_checkpoints.statistics(6),
        "parsing": fake_checkpoints.parsing(),
    }


def nvidia_pickle(state: dict[str, Any], **changes: Any) -> bytes:
    """A generator as NVIDIA pickles it."""
    with pytest.MonkeyPatch.context() as patch:
        nvidia.install_modules(patch)
        return pickle.dumps(nvidia.tiny(G_ema=nvidia.Net(state)) | changes, protocol=4)


@dataclass(frozen=True)
class Samples:
    """Sound inputs by name."""

    photos: dict[str, bytes]
    masks: dict[str, bytes]
    states: dict[str, dict[str, Any]]
    flat: dict[str, dict[str, torch.Tensor]]
    nvidia: dict[str, Any]
    category: dict[str, Any]
    result: Result
    folder: dict[str, bytes]
    release: dict[str, bytes]

    @classmethod
    def make(cls) -> Samples:
        """All of them."""
        result = made_up()
        with tempfile.TemporaryDirectory() as name:
            write_result(result, Path(name) / "out")
            folder = {path.name: path.read_bytes() for path in (Path(name) / "out").iterdir()}
        raw = states()
        flat = {part: flatten(state) for part, state in raw.items()}
        flat["latents"] = {"w": torch.randn(4, fake_checkpoints.LATENT)}
        own = read_model_toml(models_root() / "own")
        return cls(photos(), masks(), raw, flat, nvidia.generator(*nvidia.TINY), own, result, folder, release())


def flatten(state: dict[str, Any]) -> dict[str, torch.Tensor]:
    """The tensors of a checkpoint by dotted names."""
    flat: dict[str, torch.Tensor] = {}
    for name, value in state.items():
        if isinstance(value, torch.Tensor):
            flat[name] = value
        elif isinstance(value, dict):
            flat |= {f"{name}.{key}": tensor for key, tensor in flatten(value).items()}
    return {name: tensor for name, tensor in flat.items() if not name.startswith("g.")}


def release() -> dict[str, bytes]:
    """The authors' archive with small files of "car"."""
    from caches import members

    return fake_checkpoints.release(members("car"))


def safetensors(state: dict[str, torch.Tensor]) -> bytes:
    """A safetensors file of tensors, whatever their layout."""
    return save({name: tensor.contiguous().clone() for name, tensor in state.items()})


def as_json(value: Any) -> bytes:
    """A JSON document, with NaN where there is some."""
    return json.dumps(value, default=str).encode()
