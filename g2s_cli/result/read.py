"""Read a result folder and check what it holds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from g2s_cli.errors import G2SError, UsageError
from g2s_cli.geometry.camera import Camera
from g2s_cli.geometry.factors import Factors
from g2s_cli.geometry.placement import Placement
from g2s_cli.photo.crop import Matte
from g2s_cli.result.schema import (
    ALIGNED,
    MATTE,
    OFFSET_PREFIX,
    REPORT,
    RESIDUAL_KEY,
    SCHEMA,
    STATE,
    Result,
    original_path,
)

MIN_ALIGNED_SIZE, MAX_ALIGNED_SIZE = 8, 4096  # pixels a side; g2s writes from twice to half of it
RECONSTRUCT_AGAIN = "Reconstruct the photo again."


def read_result(folder: Path | str) -> Result:
    """Read a result folder.

    Raises:
        UsageError: The folder holds no result.
        G2SError: It is of another schema, incomplete or damaged.
    """
    folder = Path(folder)
    path = folder / STATE
    if not path.is_file():
        raise UsageError(f"{folder} is not a g2s result folder.", "Make one with: g2s reconstruct PHOTO -o FOLDER")
    with _convert_read_errors(path):
        tensors, metadata = _read_state(path)
        if (schema := metadata["schema"]) != str(SCHEMA):
            what = f"{folder} was written by another version of g2s (schema {schema}, not {SCHEMA})."
            raise G2SError(what, RECONSTRUCT_AGAIN)
        camera, placement = Camera(**json.loads(metadata["camera"])), Placement(**json.loads(metadata["placement"]))
        category, frame_share = metadata["category"], float(metadata["frame_share"])
        if not 0 < frame_share <= 1:
            raise ValueError(f"frame_share {frame_share}")
        span = float(metadata.get("matte_span", 0))
        _check_tensors(tensors, camera.size)
    with _convert_read_errors(folder / REPORT):
        report = json.loads((folder / REPORT).read_text())
        if not isinstance(report, dict):
            raise TypeError(f"{REPORT} {type(report)}")
    with _convert_read_errors(folder / ALIGNED):
        aligned = _read_square(folder / ALIGNED, "RGB")
    with _convert_read_errors(folder / MATTE):
        matte = Matte(_read_square(folder / MATTE, "L"), span) if span else None
    with _convert_read_errors(photo := original_path(folder, report)):
        original = photo.read_bytes()
    depth, albedo, view, light = (tensors[name] for name in ("depth", "albedo", "view", "light"))
    return Result(
        category=category,
        photo=tensors["photo"],
        aligned=aligned,
        placement=placement,
        original=original,
        inverted=tensors["inverted"],
        mask=tensors["mask"],
        factors=Factors(depth, albedo, view, light, tensors.get(RESIDUAL_KEY)),
        latent=tensors["w"],
        offset_net={k.removeprefix(OFFSET_PREFIX): v for k, v in tensors.items() if k.startswith(OFFSET_PREFIX)},
        camera=camera,
        report=report,
        frame_share=frame_share,
        matte=matte,
    )


@contextmanager
def _convert_read_errors(path: Path) -> Iterator[None]:
    """Raise G2SError for a file of a result that is missing, not readable or damaged."""
    try:
        yield
    except FileNotFoundError as error:
        raise G2SError(f"{path.parent} is incomplete: {path.name} is missing.", RECONSTRUCT_AGAIN) from error
    except PermissionError as error:
        raise G2SError(f"{path} may not be read.", f'Allow it: chmod u+r "{path}"') from error
    except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
        raise G2SError(f"{path.parent} is damaged: its {path.name} cannot be read.", RECONSTRUCT_AGAIN) from error


def _read_state(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file. `safe_open` fails on paths that are not UTF-8."""
    data = path.read_bytes()
    tensors = load(data)  # checks the header, too
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return tensors, header.get("__metadata__") or {}


def _read_square(path: Path, mode: str) -> UInt8[np.ndarray, "n n *c"]:
    with Image.open(path, formats=("PNG",)) as image:
        if image.width != image.height or not MIN_ALIGNED_SIZE <= image.width <= MAX_ALIGNED_SIZE:
            raise ValueError(f"{path} {image.size}")
        return np.array(image.convert(mode))


def _check_tensors(tensors: dict[str, Tensor], size: int) -> None:
    """Raise KeyError or ValueError unless every tensor of a result is there, finite, and of the right shape."""
    photo_size = tensors["photo"].shape[-1]
    shapes = {
        "photo": (3, photo_size, photo_size),
        "inverted": (3, photo_size, photo_size),
        "mask": (size, size),
        "depth": (size, size),
        "albedo": (3, size, size),
        "view": (6,),
        "light": (4,),
        "w": (tensors["w"].numel(),),
    } | ({RESIDUAL_KEY: (size, size)} if RESIDUAL_KEY in tensors else {})
    for name, shape in shapes.items():
        tensor = tensors[name]
        if tensor.shape != shape or not tensor.is_floating_point() or not tensor.isfinite().all():
            raise ValueError(f"{name} {tuple(tensor.shape)}")
