"""Read a result folder and check what it holds."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
from jaxtyping import UInt8
from PIL import Image
from safetensors.torch import load
from torch import Tensor

from g2s_cli.errors import G2SError, UsageError, shorten
from g2s_cli.files import read_json
from g2s_cli.geometry.camera import MAX_FOV_DEG, MIN_FOV_DEG, Camera
from g2s_cli.geometry.factors import Factors
from g2s_cli.geometry.placement import Placement
from g2s_cli.geometry.rasterizer import VIEW_FAR, VIEW_NEAR
from g2s_cli.mesh.options import Extent
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
from g2s_cli.value_types import check_type

MIN_ALIGNED_SIZE, MAX_ALIGNED_SIZE = 8, 4096  # pixels a side; g2s writes from twice to half of it
MAX_PHOTO_PX, MAX_SPAN = 1e6, 100.0  # of a photo's side, and of a matte in sides of the crop
MIN_SIDE_PX, MIN_FRAME_SHARE = 1.0, 0.01  # of a crop in its photo; of the centre crop's side in the crop's
# Of what is read of a report, where it is there; the rest is for people.
REPORT_TYPES: dict[str, Any] = {
    "photo": str,
    "photo_sha256": str,
    "gan_file": str | None,
    "symmetry": str,
    "weights": dict[str, str],
    "meshes": dict[str, Any] | None,
    "seconds": dict[str, float],
}
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
        raise _no_result(folder)
    with _convert_read_errors(path):
        tensors, metadata = _read_state(path)
        if (schema := metadata["schema"]) != str(SCHEMA):
            what = f"{folder} was written by another version of g2s (schema {shorten(schema, 20)}, not {SCHEMA})."
            raise G2SError(what, RECONSTRUCT_AGAIN)
        camera, placement = Camera(**json.loads(metadata["camera"])), Placement(**json.loads(metadata["placement"]))
        category, frame_share = metadata["category"], float(metadata["frame_share"])
        span = float(metadata.get("matte_span", 0))
        _check_places(camera, placement, frame_share, span)
        _check_tensors(tensors, camera.size)
    report = read_report(folder)
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


def read_report(folder: Path) -> dict[str, Any]:
    """The report of a result folder. Raises G2SError if it is missing or damaged."""
    with _convert_read_errors(folder / REPORT):
        report = read_json(folder / REPORT)
        check_type(report, dict[str, Any], REPORT)
        for name, kind in REPORT_TYPES.items():
            if name in report:
                check_type(report[name], kind, name)
        check_type((report.get("meshes") or {}).get("extent"), Extent | None, "extent")
    return cast("dict[str, Any]", report)


def find_results(folder: Path) -> list[Path]:
    """The folder if it is a result, else the results in it, sorted. Raises UsageError if there are none."""
    if (folder / STATE).is_file():
        return [folder]
    if found := sorted(path.parent for path in folder.glob(f"*/{STATE}")):
        return found
    raise UsageError(
        f"{folder} is no g2s result folder and holds none.", "Make one with: g2s reconstruct PHOTO -o FOLDER"
    )


@contextmanager
def _convert_read_errors(path: Path) -> Iterator[None]:
    """Raise G2SError for a file of a result that is missing, not readable or damaged."""
    try:
        yield
    except (G2SError, MemoryError):
        raise
    except FileNotFoundError as error:
        raise G2SError(f"{path.parent} is incomplete: {path.name} is missing.", RECONSTRUCT_AGAIN) from error
    except PermissionError as error:
        raise G2SError(f"{path} may not be read.", f'Allow it: chmod u+r "{path}"') from error
    except Exception as error:  # Pillow's decoders raise anything on damaged files
        raise G2SError(f"{path.parent} is damaged: its {path.name} cannot be read.", RECONSTRUCT_AGAIN) from error


def _no_result(folder: Path) -> UsageError:
    """The error about a path that is no result: a photo, or a folder of results."""
    what, photo = f"{folder} is not a g2s result folder.", folder if folder.is_file() else "PHOTO"
    for state in sorted(folder.glob(f"*/{STATE}"))[:1]:
        return UsageError(f"{what[:-1]}; it holds some.", f"Name one of them, such as {state.parent}.")
    return UsageError(what, f"Make one with: g2s reconstruct {photo} -o FOLDER")


def _read_state(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file. `safe_open` fails on paths that are not UTF-8."""
    data = path.read_bytes()
    tensors = load(data)  # checks the header, too
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    tensors = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}
    return tensors, header.get("__metadata__") or {}


def _read_square(path: Path, mode: str) -> UInt8[np.ndarray, "n n *c"]:
    with Image.open(path, formats=("PNG",)) as image:
        if image.width != image.height or not MIN_ALIGNED_SIZE <= image.width <= MAX_ALIGNED_SIZE:
            raise ValueError(f"{path} {image.size}")
        return np.array(image.convert(mode))


def _check_places(camera: Camera, placement: Placement, frame_share: float, span: float) -> None:
    """Raise TypeError or ValueError for values that no result has."""
    check_type(camera, Camera, "camera")
    check_type(placement, Placement, "placement")
    depths = (VIEW_NEAR, camera.near, camera.pivot, camera.far, VIEW_FAR)
    if list(depths) != sorted(depths) or camera.near == camera.far or not MIN_FOV_DEG <= camera.fov_deg <= MAX_FOV_DEG:
        raise ValueError(f"{camera}")
    numbers = (placement.x, placement.y, placement.side)
    if placement.side < MIN_SIDE_PX or max(map(abs, numbers)) > MAX_PHOTO_PX or abs(placement.turn_rad) > math.tau:
        raise ValueError(f"{placement}")
    if not (MIN_FRAME_SHARE <= frame_share <= 1 and (span == 0 or MIN_FRAME_SHARE <= span <= MAX_SPAN)):
        raise ValueError(f"frame_share {frame_share}, matte_span {span}")


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
