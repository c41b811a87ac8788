"""Write a result folder, and rewrite its meshes."""

from __future__ import annotations

import io
import json
import re
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from filecmp import cmp
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8, UInt16
from PIL import Image
from safetensors.torch import save
from torch import Tensor

from g2s_cli.atomic_folder import check_target, replace_folder
from g2s_cli.errors import UsageError
from g2s_cli.files import convert_write_errors
from g2s_cli.geometry.camera import rotation_matrix
from g2s_cli.geometry.factors import Factors
from g2s_cli.geometry.image import to_uint8
from g2s_cli.geometry.render import photo_depth, render
from g2s_cli.geometry.shading import position_from_light
from g2s_cli.mesh.export import PNG_LEVEL, write_meshes
from g2s_cli.mesh.extract import Mesh, camera_pose
from g2s_cli.mesh.options import BODY_FILES, SURFACE_FILES, MeshOptions
from g2s_cli.mesh.render import rasterize_mesh
from g2s_cli.mesh.texture import Texture, normal_map
from g2s_cli.progress import Progress, SilentProgress, Stopwatch, add_seconds, rounded_seconds
from g2s_cli.result.page import render_page
from g2s_cli.result.schema import (
    ALIGNED,
    MATTE,
    OFFSET_PREFIX,
    OWNED_PATHS,
    PAGE,
    REPORT,
    RESIDUAL_KEY,
    SCHEMA,
    STATE,
    Result,
    original_path,
)
from g2s_cli.result.surface import textured_mesh
from g2s_cli.result.wide import widen

# depth.png encodes (FAR - depth) / DEPTH_RANGE: the benchmark's convention.
FAR, DEPTH_RANGE = 1.1, 0.2


def write_result(
    result: Result,
    folder: Path,
    *,
    overwrite: bool = False,
    detail: MeshOptions | None = None,
    progress: Progress | None = None,
    started_s: float | None = None,
    with_page: bool = False,
) -> dict[str, Any]:
    """Write a result folder atomically. Files in it that g2s did not write stay.

    Args:
        started_s: when the command began, on the clock of `time.perf_counter`; the report's total is counted from then.
        with_page: Write the page of `g2s view`, too. It prints no commands.

    Returns:
        The report, with the seconds of the mesh and of writing.

    Raises:
        UsageError: As `atomic_folder.check_target`.
        G2SError: The disk refuses, or as `mesh.export.write_meshes`.
    """
    check_target(folder, STATE, overwrite=overwrite)
    detail, clock = detail or MeshOptions(), Stopwatch(progress or SilentProgress(), "write")
    # Threads, for most of it is compression and tensors, which let go of the interpreter's lock.
    with replace_folder(folder, OWNED_PATHS, overwrite=overwrite) as temporary, ThreadPoolExecutor() as pool:
        clock.begin("mesh", 1)
        writing: list[Future[Any]] = [pool.submit(_write_small_files, result, temporary)]
        wide = widen(result, detail.extent, detail.texture_size)
        mesh, texture = textured_mesh(wide, detail)
        clock.advance(1, 0.0)
        clock.begin("write", 1)
        _write_json(temporary / "camera.json", _camera_facts(result, wide))
        writing.append(pool.submit(write_meshes, temporary, mesh, texture, detail))
        if with_page:
            writing.append(pool.submit(_write_page, temporary / PAGE, wide, mesh, texture, detail))
        _write_large_maps(temporary, wide, mesh, texture)
        for task in writing:
            task.result()
        clock.advance(1, 0.0)
        report = result.report
        if "seconds" in report:
            report = report | {"seconds": _seconds(report, clock, started_s)}
        _write_json(temporary / REPORT, report)
    return report


def _seconds(report: dict[str, Any], clock: Stopwatch, started_s: float | None) -> dict[str, float]:
    """Seconds of each step of the reconstruction and of writing, and in all."""
    steps = {step: value for step, value in report.get("seconds", {}).items() if step != "total"}
    return rounded_seconds(
        add_seconds(steps, clock.seconds()), None if started_s is None else time.perf_counter() - started_s
    )


@dataclass(frozen=True)
class ResultFiles:
    """The files of a result's folder in memory: their names and bytes, and what its report says."""

    files: dict[str, bytes]
    report: dict[str, Any]

    @classmethod
    def read(cls, folder: Path, report: dict[str, Any]) -> ResultFiles:
        """The files of a new result folder."""
        return cls({path.name: path.read_bytes() for path in folder.iterdir()}, report)

    def save(self, folder: Path, *, overwrite: bool = False) -> None:
        """Write the folder as `write_result` does."""
        check_target(folder, STATE, overwrite=overwrite)
        with replace_folder(folder, OWNED_PATHS, overwrite=overwrite) as temporary:
            for name, data in self.files.items():
                (temporary / name).write_bytes(data)
            _write_json(temporary / REPORT, self.report)


def rewrite_meshes(result: Result, folder: Path, detail: MeshOptions, *, overwrite: bool = False) -> list[Path]:
    """Replace the meshes of a result folder, and `meshes` in its report. Nothing changes before all are written.

    Files of a body for printing are deleted if `detail` has none.

    Returns:
        The paths of the new meshes and textures.

    Raises:
        UsageError: Files that are there would change or be deleted, and may not be overwritten.
        G2SError: The disk refuses, or as `mesh.export.write_meshes`.
    """
    with (
        convert_write_errors(folder, "Free space, make it writable, or name another folder with -o."),
        tempfile.TemporaryDirectory(prefix=".meshes-", dir=folder) as temporary,
    ):
        detail = replace(detail, extent=detail.extent or (result.report.get("meshes") or {}).get("extent"))
        written = _write_wide_meshes(result, Path(temporary), detail)
        surplus = {folder / name for name in BODY_FILES} - {folder / path.name for path in written}
        if not overwrite:
            _check_unchanged(folder, written, surplus)
        _write_json(report := Path(temporary) / REPORT, result.report | {"meshes": asdict(detail)})
        report.replace(folder / REPORT)
        paths = [path.replace(folder / path.name) for path in written]
        for path in surplus:
            path.unlink(missing_ok=True)
        return paths


def _check_unchanged(folder: Path, new: Iterable[Path], surplus: Iterable[Path]) -> None:
    """Raise UsageError if files of a folder differ from the new ones of their names, or are to be deleted."""
    changed = [path.name for path in new if (old := folder / path.name).exists() and not cmp(old, path, shallow=False)]
    changed += sorted(path.name for path in surplus if path.exists())
    if changed:
        what = f"{changed[0]} in {folder} would be replaced or deleted."
        raise UsageError(what, "Add --overwrite, or name another folder with -o.")


def export_meshes(result: Result, folder: Path, detail: MeshOptions, *, overwrite: bool = False) -> list[Path]:
    """Write the meshes of a result into a folder of their own. Files in it that g2s did not write stay.

    Returns:
        The paths of the meshes and textures.

    Raises:
        UsageError: The folder is another result's, or as `atomic_folder.check_target`.
        G2SError: The disk refuses, or as `mesh.export.write_meshes`.
    """
    if (folder / STATE).is_file():
        raise UsageError(f"{folder} is another result.", "Name another folder with -o.")
    check_target(folder, SURFACE_FILES[0], overwrite=overwrite)
    owned = "|".join(map(re.escape, (*SURFACE_FILES, *BODY_FILES)))
    with replace_folder(folder, owned, overwrite=overwrite) as temporary:
        written = _write_wide_meshes(result, temporary, detail)
    return [folder / path.name for path in written]


def _write_wide_meshes(result: Result, folder: Path, detail: MeshOptions) -> list[Path]:
    return write_meshes(folder, *textured_mesh(widen(result, detail.extent, detail.texture_size), detail), detail)


def _write_page(path: Path, result: Result, mesh: Mesh, texture: Texture, detail: MeshOptions) -> None:
    if result.outline is None:
        mesh, texture = textured_mesh(result, detail, extend=True)
    path.write_bytes(render_page(result, mesh, texture).encode())


def save_image(path: Path, image: Float[Tensor, "3 h w"]) -> None:
    """Write an image in [-1, 1] as 8-bit PNG."""
    _save_png(path, to_uint8(image))


def _save_png(path: Path, pixels: UInt8[np.ndarray, "h w *c"] | UInt16[np.ndarray, "h w"]) -> None:
    Image.fromarray(pixels).save(path, compress_level=PNG_LEVEL)


def encode_depth(depth: Float[np.ndarray, "*shape"]) -> UInt16[np.ndarray, "*shape"]:
    """The 16-bit code of depth.png: 1 at a depth of 1.1 and beyond, 65535 at 0.9; 0 for NaN (no surface)."""
    code = ((FAR - depth) / DEPTH_RANGE * 65535).round().clip(1, 65535)
    return np.nan_to_num(code, nan=0.0).astype(np.uint16)


def _write_small_files(result: Result, folder: Path) -> None:
    """The photo, the state, the light, the maps at the working size, and the crops."""
    original_path(folder, result.report).write_bytes(result.original)
    _write_json(folder / "light.json", _light_facts(result.factors))
    _write_state(folder / STATE, result)
    rendering = render(result.factors, result.camera)
    visible = (result.mask >= 0.5) & rendering.valid
    depth = photo_depth(rendering, result.factors, result.mask, result.camera).float().numpy()
    save_image(folder / "input.png", result.photo)
    save_image(folder / "inverted.png", result.inverted)
    save_image(folder / "albedo.png", rendering.albedo)
    _write_normal(folder / "normal.png", rendering.normal.permute(2, 0, 1), visible)
    _save_png(folder / ALIGNED, result.aligned)
    if result.matte is not None:
        _save_png(folder / MATTE, result.matte.alpha)
    _save_png(folder / "mask.png", (result.mask * 255).round().byte().numpy())
    _save_png(folder / "depth.png", encode_depth(depth))
    np.save(array := io.BytesIO(), depth)  # its errors on a file do not say that the disk is full
    (folder / "depth.npy").write_bytes(array.getvalue())


def _write_large_maps(folder: Path, result: Result, mesh: Mesh, texture: Texture) -> None:
    """The mesh in the photo's view: its picture, and pixel for pixel its depth, normals and albedo."""
    camera = result.camera.resize(result.picture_size)
    view = rasterize_mesh(mesh, len(texture.lit[0]), result.factors.view, camera)
    save_image(folder / "reconstruction.png", view.sample_texture(texture.lit).on_white)
    visible = view.depth.isfinite()
    depth = torch.where(visible, view.depth, torch.nan)
    _save_png(folder / "depth_large.png", encode_depth(depth.numpy()))
    canonical = view.sample_texture(normal_map(result.factors, result.camera, len(texture.lit[0]))).image
    normal = torch.einsum("ij,jhw->ihw", rotation_matrix(result.factors.view[None])[0], canonical)
    _write_normal(folder / "normal_large.png", normal / normal.norm(dim=0).clamp(min=1e-6), visible)
    save_image(folder / "albedo_large.png", view.sample_texture(texture.albedo.clamp(-1, 1)).on_white)


def _write_normal(path: Path, normal: Float[Tensor, "3 h w"], visible: Bool[Tensor, "h w"]) -> None:
    """Outward unit normals in the photo's frame, OpenGL axes; black where no surface is."""
    # The internal normal is minus the outward one; y and z change their signs.
    outward = normal * normal.new_tensor((-1.0, 1.0, 1.0))[:, None, None]
    save_image(path, torch.where(visible, outward, -1.0))


def _camera_facts(result: Result, wide: Result) -> dict[str, Any]:
    """The cameras of the maps, and of reconstruction.png and the large maps, which may show more."""
    camera, large = result.camera, wide.camera.resize(wide.picture_size)
    opengl = camera_pose(result.factors, camera)
    opencv = np.diag((1.0, -1.0, -1.0, 1.0)) @ opengl
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
    x, y = position_from_light(factors.light, factors.view)
    return {
        "x": x,
        "y": y,
        "ambient": factors.light[0].item(),
        "diffuse": factors.light[1].item(),
        "convention": "Where the light stands as seen in input.png, the aligned crop: x to the right, y up, 0,0 at the "
        "camera. In the whole photo the crop lies turned clockwise by alignment.turn_deg of report.json. diffuse is "
        "--strength of g2s relight.",
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
    } | {OFFSET_PREFIX + name: tensor for name, tensor in result.offset_net.items()}
    if factors.depth_residual is not None:
        tensors[RESIDUAL_KEY] = factors.depth_residual
    metadata = {
        "schema": str(SCHEMA),
        "category": result.category,
        "camera": json.dumps(asdict(result.camera)),
        "placement": json.dumps(asdict(result.placement)),
        "frame_share": str(result.frame_share),
    } | ({"matte_span": str(result.matte.span)} if result.matte else {})
    # safetensors refuses tensors that share memory, which views of one state dict may. `save_file` would make the file
    # readable for its owner alone.
    copies = {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()}
    path.write_bytes(save(copies, metadata))
