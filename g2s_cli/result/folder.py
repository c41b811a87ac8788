"""The result folder: its names, its schema, writing and careful reading back. Files only, no method."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8, UInt16
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor
from torch.nn.functional import avg_pool2d

from g2s_cli.atomic_folder import check_target, replace_folder
from g2s_cli.errors import G2SError, UsageError
from g2s_cli.geometry.camera import Camera, rotation
from g2s_cli.geometry.factors import Factors
from g2s_cli.geometry.placement import Placement
from g2s_cli.geometry.render import canonical_mask, on_white, photo_depth, render, warped_mask
from g2s_cli.geometry.resample import middle
from g2s_cli.geometry.shading import user_from_light
from g2s_cli.geometry.warp import mirrored
from g2s_cli.mesh.export import BODY_FILES, SURFACE_FILES, Detail, write_meshes
from g2s_cli.mesh.extract import Mesh, camera_pose, relief_mesh, to_bytes
from g2s_cli.mesh.refine import Outline, refine, widened
from g2s_cli.mesh.render import Look, look
from g2s_cli.mesh.silhouette import outlined
from g2s_cli.mesh.texture import Texture, as_image, normal_texture, texture_of

SCHEMA = 2
CUT_PX = 5  # how wide the edge of a cut-out picture is blurred, canonical pixels
STATE, REPORT, ALIGNED, PAGE = "state.safetensors", "report.json", "aligned.png", "view.html"
# What every result has beside its meshes and the photo's own file.
MAPS = ("input.png", "inverted.png", "mask.png", "depth.npy", "depth.png", "normal.png", "albedo.png")
LARGE = ("depth_large.png", "normal_large.png", "albedo_large.png")  # the same of the mesh, over reconstruction.png
ALWAYS = (*MAPS, *LARGE, "reconstruction.png", "camera.json", "light.json", STATE, REPORT, ALIGNED)
# Pictures of `g2s rotate` and `g2s relight`; and all that g2s writes into a result folder, as regular expressions.
FRAMES = r"(in_place_)?\d{3,}\.png|(rotate|relight|in_place)\.gif"
NAMES = "|".join(map(re.escape, (*ALWAYS, *SURFACE_FILES, *BODY_FILES, PAGE)))
OURS = rf"{NAMES}|original(\.[^/]*)?|(rotate|relight)/({FRAMES})"
LEAST_READ, MOST_READ = 8, 4096  # pixels a side that a folder's crop may have; g2s writes from twice to half of it
AGAIN = "Reconstruct the photo again."
# What a mesh is made of unless said otherwise: points of its grid and pixels of its texture a side, at most.
MESH_SIZE, TEXTURE_SIZE = 320, 2048
PICTURE_SIZE = 512  # pixels a side of pictures, at most
ENCODER = "offset_net."
APART = "apart"
# depth.png holds (FARTHEST - depth) / DEPTH_SPAN of its range: the benchmark's convention.
FARTHEST, DEPTH_SPAN = 1.1, 0.2


@dataclass(frozen=True)
class Result:
    """All that a run found out about one photo, on the CPU.

    photo, inverted: what the relief covers of the aligned crop and of G(w), in [-1, 1]. aligned: the whole crop at
    the photo's own resolution. placement: where that lies in the upright photo. original: the photo's file, byte for
    byte. mask: the object in the photo's view, at the working size. factors: depth, albedo, view and light. latent: w.
    offset_net: the state dict of the offset encoder. report: JSON-able facts about the run. frame_share: how much of
    each side of the aligned crop the relief covers, in its middle.
    """

    category: str
    photo: Float[Tensor, "3 s s"]
    aligned: UInt8[np.ndarray, "n n 3"]
    placement: Placement
    original: bytes
    inverted: Float[Tensor, "3 s s"]
    mask: Float[Tensor, "h w"]
    factors: Factors
    latent: Float[Tensor, " d"]
    offset_net: dict[str, Tensor]
    camera: Camera
    report: dict[str, Any]
    frame_share: float = 1.0

    @property
    def framed(self) -> UInt8[np.ndarray, "m m 3"]:
        """What the relief covers of the aligned crop."""
        kept = middle(len(self.aligned), self.frame_share)
        return np.ascontiguousarray(self.aligned[kept, kept])

    def save(self, folder: Path | str, *, overwrite: bool = False, detail: Detail | None = None) -> None:
        """Write the result folder: see `write_result`."""
        write_result(self, Path(folder), overwrite=overwrite, detail=detail)


def write_result(result: Result, folder: Path, *, overwrite: bool = False, detail: Detail | None = None) -> None:
    """Write the result folder in one move, its meshes as fine as asked. What g2s did not write into it stays.

    Raises UsageError as `target.check_target`, G2SError if the disk refuses, or as `meshes.write_meshes`.
    """
    check_target(folder, STATE, overwrite=overwrite)
    with replace_folder(folder, OURS, overwrite=overwrite) as building:
        _write_files(result, building)
        mesh, texture = surface(result, detail := detail or Detail())
        write_meshes(building, mesh, texture, detail)
        seen = look(mesh, len(texture.lit[0]), result.factors.view, result.camera.resized(picture_size(result)))
        save_image(building / "reconstruction.png", seen.painted(texture.lit).on_white)
        _write_large(building, result, seen, texture)


def rewrite_meshes(result: Result, folder: Path, detail: Detail) -> list[Path]:
    """Make a result folder's meshes anew; returns their paths. Nothing is touched before all of them are there.

    The report says what they are now, and a body for printing that they do not have goes. Raises G2SError if the disk
    refuses, or as `meshes.write_meshes`.
    """
    try:
        with tempfile.TemporaryDirectory(prefix=".meshes-", dir=folder) as building:
            written = write_meshes(Path(building), *surface(result, detail), detail)
            told = Path(building) / REPORT
            _write_json(told, result.report | {"meshes": asdict(detail)})
            told.replace(folder / REPORT)
            placed = [path.replace(folder / path.name) for path in written]
            for path in {folder / name for name in BODY_FILES} - set(placed):
                path.unlink(missing_ok=True)
            return placed
    except OSError as error:
        raise G2SError(
            f"{folder} cannot be written: {error.strerror or error}.", "Free space, or make it writable."
        ) from error


def read_result(folder: Path | str) -> Result:
    """A result folder as it was written.

    Raises UsageError if it is none, and G2SError if another schema wrote it or its state is damaged.
    """
    folder = Path(folder)
    path = folder / STATE
    if not path.is_file():
        raise UsageError(f"{folder} is not a g2s result folder.", "Make one with: g2s reconstruct PHOTO -o FOLDER")
    with _reading(path):
        tensors, facts = _read_state(path)
        if facts["schema"] != str(SCHEMA):
            raise G2SError(
                f"{folder} was written by another version of g2s (schema {facts['schema']}, not {SCHEMA}).", AGAIN
            )
        camera = Camera(**json.loads(facts["camera"]))
        _check_shapes(tensors, camera.size)
        placement, share = Placement(**json.loads(facts["placement"])), _read_share(facts)
        category = facts["category"]
    with _reading(folder / REPORT):
        report = json.loads((folder / REPORT).read_text())
        if not isinstance(report, dict):
            raise TypeError(f"{REPORT} {type(report)}")
    with _reading(folder / ALIGNED):
        aligned = _read_aligned(folder / ALIGNED)
    with _reading(photo := original_file(folder, report)):
        original = photo.read_bytes()
    return Result(
        category=category,
        photo=tensors["photo"],
        aligned=aligned,
        placement=placement,
        original=original,
        inverted=tensors["inverted"],
        mask=tensors["mask"],
        factors=Factors(tensors["depth"], tensors["albedo"], tensors["view"], tensors["light"], tensors.get(APART)),
        latent=tensors["w"],
        offset_net={k.removeprefix(ENCODER): v for k, v in tensors.items() if k.startswith(ENCODER)},
        camera=camera,
        report=report,
        frame_share=share,
    )


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Say of a result's file that it is gone, may not be read, or is damaged. Raises G2SError."""
    try:
        yield
    except FileNotFoundError as error:
        raise G2SError(f"{path.parent} is not whole: {path.name} is gone.", AGAIN) from error
    except PermissionError as error:
        raise G2SError(f"{path} may not be read.", f'Allow it: chmod u+r "{path}"') from error
    except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
        raise G2SError(f"{path.parent} is damaged: its {path.name} cannot be read back.", AGAIN) from error


def _read_state(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and metadata of a safetensors file. Its library opens no file whose path is not UTF-8."""
    data = path.read_bytes()
    tensors = load(data)  # checks the header, too
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return tensors, header.get("__metadata__") or {}


def _read_share(facts: dict[str, str]) -> float:
    share = float(facts["frame_share"])
    if not 0 < share <= 1:
        raise ValueError(f"frame_share {share}")
    return share


def _read_aligned(path: Path) -> UInt8[np.ndarray, "n n 3"]:
    with Image.open(path, formats=("PNG",)) as picture:
        if picture.width != picture.height or not LEAST_READ <= picture.width <= MOST_READ:
            raise ValueError(f"{path} {picture.size}")
        return np.array(picture.convert("RGB"))


def _check_shapes(tensors: dict[str, Tensor], size: int) -> None:
    """Raise KeyError or ValueError, naming the tensor, unless all that a reconstruction needs is there and finite."""
    gan = tensors["photo"].shape[-1]
    shapes = {
        "photo": (3, gan, gan),
        "inverted": (3, gan, gan),
        "mask": (size, size),
        "depth": (size, size),
        "albedo": (3, size, size),
        "view": (6,),
        "light": (4,),
        "w": (tensors["w"].numel(),),
    } | ({APART: (size, size)} if APART in tensors else {})
    for name, shape in shapes.items():
        tensor = tensors[name]
        if tensor.shape != shape or not tensor.is_floating_point() or not tensor.isfinite().all():
            raise ValueError(f"{name} {tuple(tensor.shape)}")


def original_file(folder: Path, report: dict[str, Any]) -> Path:
    """Where a result keeps the photo it was made from, with the ending that the photo had."""
    return folder / f"original{Path(report.get('photo', '')).suffix.lower()}"


def missing_files(folder: Path, report: dict[str, Any]) -> list[str]:
    """Which files of a result are gone. report: its own."""
    meshes = report.get("meshes") or {}
    names = [*ALWAYS, original_file(folder, report).name, *SURFACE_FILES, *(BODY_FILES if meshes.get("body") else ())]
    return [name for name in names if not (folder / name).is_file()]


def surface(result: Result, detail: Detail, *, beyond: bool = False) -> tuple[Mesh, Texture]:
    """The object's surface at the photo's own resolution, or as fine as asked.

    beyond: for pictures an object that the photo cuts off above or below goes on there; a mesh ends. Raises as
    `Detail.check`.
    """
    detail.check()
    photo = as_image(result.framed)
    shown = max(photo.shape[-1], result.camera.size)
    worth = round(shown * widened(result.camera).size / result.camera.size)
    outline = Outline(outlined(result.mask, photo), has_equal_halves(result))
    # The outline is smooth between the photo's pixels, too.
    mesh_size = detail.mesh_size or min(2 * worth, MESH_SIZE)
    mesh = relief_mesh(refine(result.factors, outline, result.camera, mesh_size, beyond=beyond))
    size = detail.texture_size or min(worth, TEXTURE_SIZE)
    return mesh, texture_of(photo, result.factors, outline, result.camera, mesh, size)


def picture_size(result: Result) -> int:
    """Pixels a side of pictures whose size nobody named: the photo's, but no more than a screen shows at a glance."""
    return max(result.camera.size, min(len(result.framed), PICTURE_SIZE))


def has_equal_halves(result: Result) -> bool:
    """Whether the run took left and right to be alike."""
    return result.report.get("symmetry", "off") != "off"


def object_mask(result: Result) -> Float[Tensor, "h w"]:
    """What of the canonical relief is object. If its halves were taken to be alike, what one side shows the other has.

    Otherwise the far cheek of a turned head ends ragged, where it disappears behind the photo's horizon.
    """
    mask = canonical_mask(result.mask, result.factors, result.camera)
    return torch.maximum(mask, mirrored(mask)) if has_equal_halves(result) else mask


def picture(result: Result, factors: Factors) -> Float[Tensor, "3 h w"]:
    """The object under some factors of its own (another view, another light), cut out and laid on white.

    The cut is softened by a few pixels first: where the relief is steep, a hard one would turn ragged.
    """
    return on_white(render(factors, result.camera).image, cut_out(result, factors))


def cut_out(result: Result, factors: Factors) -> Float[Tensor, "h w"]:
    """Where the object is under some factors, from 0 to 1 across a soft edge."""
    soft = avg_pool2d(object_mask(result)[None, None], CUT_PX, 1, CUT_PX // 2, count_include_pad=False)[0, 0]
    return ((warped_mask(soft, factors, result.camera) - 0.25) * 2).clamp(0, 1)


def save_image(path: Path, image: Float[Tensor, "3 h w"]) -> None:
    """Write an image in [-1, 1] as 8-bit PNG."""
    Image.fromarray(to_bytes(image)).save(path)


def _write_files(result: Result, folder: Path) -> None:
    seen = render(result.factors, result.camera)
    shown = (result.mask >= 0.5) & seen.valid
    save_image(folder / "input.png", result.photo)
    Image.fromarray(result.aligned).save(folder / ALIGNED)
    original_file(folder, result.report).write_bytes(result.original)
    save_image(folder / "inverted.png", result.inverted)
    Image.fromarray((result.mask * 255).round().byte().numpy()).save(folder / "mask.png")
    depth = photo_depth(seen, result.factors, result.mask, result.camera).float().numpy()
    np.save(folder / "depth.npy", depth)
    Image.fromarray(depth_code(depth)).save(folder / "depth.png")
    _write_normal(folder / "normal.png", seen.normal.permute(2, 0, 1), shown)
    save_image(folder / "albedo.png", seen.albedo)
    _write_json(folder / "camera.json", _camera_facts(result))
    _write_json(folder / "light.json", _light_facts(result.factors))
    _write_json(folder / REPORT, result.report)
    _write_state(folder / STATE, result)


def depth_code(depth: Float[np.ndarray, "*shape"]) -> UInt16[np.ndarray, "*shape"]:
    """Depth as depth.png holds it: 16 bits over (0.9, 1.1), the nearer the brighter; NaN, nothing there, is 0."""
    code = ((FARTHEST - depth) / DEPTH_SPAN * 65535).round().clip(1, 65535)
    return np.nan_to_num(code, nan=0.0).astype(np.uint16)


def _write_normal(path: Path, normal: Float[Tensor, "3 h w"], shown: Bool[Tensor, "h w"]) -> None:
    """Unit normals in the photo's frame as normal.png holds them: outward, in OpenGL axes, black where nothing is."""
    # The internal normal is minus the outward one, and y and z turn over.
    outward = normal * normal.new_tensor((-1.0, 1.0, 1.0))[:, None, None]
    save_image(path, torch.where(shown, outward, -1.0))


def _write_large(folder: Path, result: Result, seen: Look, texture: Texture) -> None:
    """Depth, normals and albedo of the mesh, pixel for pixel over reconstruction.png. seen: as that shows it."""
    there = seen.depth.isfinite()
    depth = torch.where(there, seen.depth, torch.nan)
    Image.fromarray(depth_code(depth.numpy())).save(folder / "depth_large.png")
    canonical = seen.painted(normal_texture(result.factors, result.camera, len(texture.lit[0]))).image
    normal = torch.einsum("ij,jhw->ihw", rotation(result.factors.view[None])[0], canonical)
    normal = normal / normal.norm(dim=0).clamp(min=1e-6)
    _write_normal(folder / "normal_large.png", normal, there)
    save_image(folder / "albedo_large.png", seen.painted(texture.albedo.clamp(-1, 1)).on_white)


def _camera_facts(result: Result) -> dict[str, Any]:
    camera = result.camera
    opengl = camera_pose(result.factors, camera)
    opencv = np.diag((1.0, -1.0, -1.0, 1.0)) @ opengl
    large = camera.resized(picture_size(result))
    return {
        "size_px": camera.size,
        "fov_deg": camera.fov_deg,
        "focal_px": camera.focal,
        "centre_px": [camera.centre, camera.centre],
        "large": {"size_px": large.size, "focal_px": large.focal, "centre_px": [large.centre, large.centre]},
        "world_to_camera_opengl": opengl.tolist(),
        "world_to_camera_opencv": opencv.tolist(),
        "convention": {
            "pixels": "column = centre + focal X / Z, row = centre + focal Y / Z in the OpenCV frame; pixel centres "
            "lie at whole numbers, and fov_deg reaches from the first pixel's centre to the last one's",
            "world": "the axes of mesh.glb and mesh.obj: +Y up, the object faces +Z",
            "opengl": "the camera looks along -Z, +X right, +Y up",
            "opencv": "the camera looks along +Z, +X right, +Y down",
        },
    }


def _light_facts(factors: Factors) -> dict[str, Any]:
    x, y = user_from_light(factors.light, factors.view)
    return {
        "x": x,
        "y": y,
        "ambient": factors.light[0].item(),
        "diffuse": factors.light[1].item(),
        "convention": "Where the light stands as seen in input.png, the aligned crop: x to the right, y up, 0,0 at the "
        "camera. In the whole photo the crop lies turned clockwise by alignment.turn_deg of report.json.",
    }


def _write_json(path: Path, facts: dict[str, Any]) -> None:
    path.write_text(json.dumps(facts, indent=2) + "\n")


def _write_state(path: Path, result: Result) -> None:
    factors = result.factors
    tensors = {
        "w": result.latent,
        "depth": factors.depth,
        "albedo": factors.albedo,
        "view": factors.view,
        "light": factors.light,
        "mask": result.mask,
        "photo": result.photo,
        "inverted": result.inverted,
    } | {ENCODER + name: tensor for name, tensor in result.offset_net.items()}
    tensors |= {} if factors.apart is None else {APART: factors.apart}
    metadata = {"schema": str(SCHEMA), "category": result.category, "camera": json.dumps(asdict(result.camera))}
    metadata["placement"] = json.dumps(asdict(result.placement))
    metadata["frame_share"] = str(result.frame_share)
    # safetensors refuses tensors that share memory, which views of one state dict may; and a file that it writes itself
    # nobody but its owner may read.
    apart = {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()}
    path.write_bytes(save(apart, metadata))
