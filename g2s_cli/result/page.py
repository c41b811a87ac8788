"""A result as one HTML file, in which a browser turns and relights the object by the same equation as `g2s relight`.

The file contains all its data and fetches nothing. Its template is page.html.
"""

from __future__ import annotations

import base64
import io
import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int8
from numpy import ndarray
from PIL import Image

from g2s_cli.errors import UsageError
from g2s_cli.files import atomic_write
from g2s_cli.geometry.shading import MIN_LIGHT_Z, position_from_light
from g2s_cli.mesh.export import MeshOptions
from g2s_cli.mesh.extract import Mesh, camera_pose
from g2s_cli.mesh.texture import MIN_SHADING, Texture, smooth_normals
from g2s_cli.result.schema import Result
from g2s_cli.result.surface import textured_mesh
from g2s_cli.result.wide import widen

PLACEHOLDER = "{{scene}}"  # in page.html
JPEG_QUALITY = 92
MAX_SIGNED_BYTE = 127  # which WebGL reads as 1


def write_page(result: Result, path: Path, detail: MeshOptions | None = None, *, overwrite: bool = False) -> None:
    """Write the page.

    Raises:
        UsageError: Another file has this path, and may not be overwritten. The same page is none.
        G2SError: The disk refuses, or as `render_page`.
    """
    page = render_page(result, detail).encode()
    if not overwrite and path.is_file():
        if path.read_bytes() == page:
            return
        raise UsageError(f"{path} exists and would change.", "Add --overwrite to replace it, or name another with -o.")
    with atomic_write(path, "Free space, make the folder writable, or name another with -o.") as temporary:
        temporary.write_bytes(page)


def render_page(result: Result, detail: MeshOptions | None = None) -> str:
    """The page as HTML, with a mesh and texture of these sizes. Raises as `textured_mesh`."""
    detail = detail or MeshOptions()
    result = widen(result, detail.extent, detail.texture_size)
    mesh, texture = textured_mesh(result, detail, extend=True)
    # Only "<" could end the script element that holds the scene.
    scene = json.dumps(scene_data(result, mesh, texture)).replace("<", "\\u003c")
    return files("g2s_cli.result").joinpath("page.html").read_text("utf-8").replace(PLACEHOLDER, scene)


def scene_data(result: Result, mesh: Mesh, texture: Texture) -> dict[str, Any]:
    """The data of the page, JSON-able. Arrays are little-endian in base 64.

    positions: vertices in mesh axes, float32.
    smooth_normals, mesh_normals: of the networks' depth map, which are shaded, and of the mesh; int8, 4 a vertex.
    reflectance: image of the square roots of reflectance / max_reflectance, for finer steps in the dark.
    margin: width of the extrapolated border of the texture, as a share of its side.
    texture_camera: focal length, centre and size in pixels, and pivot, of the camera whose image the texture is.
    pose: 3 x 4, from mesh axes to the photo's camera.
    magnification: converts x / -z before that camera to half sides of the photo's frame.
    light: its position and strengths; min_shading as in `project_texture`; min_z as in `light_from_position`.
    """
    camera, texture_camera = result.camera, mesh.camera.resize(texture.albedo.shape[-1])
    x, y = position_from_light(result.factors.light, result.factors.view)
    ambient, diffuse = result.factors.light[:2].tolist()
    reflectance = (texture.albedo / 2 + 0.5).clamp(min=0).permute(1, 2, 0).numpy()
    max_reflectance = max(1.0, float(reflectance.max()))  # a highlight may be several times as bright as white
    return {
        "title": str(result.report.get("photo", "")),
        "positions": _base64(mesh.vertices.astype("<f4")),
        "smooth_normals": _base64(_as_int8(smooth_normals(mesh, result.factors, camera))),
        "mesh_normals": _base64(_as_int8(mesh.normals)),
        "faces": _base64(mesh.faces.astype("<u4")),
        "reflectance": _jpeg_url(np.sqrt(reflectance / max_reflectance)),
        "max_reflectance": max_reflectance,
        "margin": (1 - camera.size / camera.with_margin().size) / 2,
        "texture_camera": [texture_camera.focal, texture_camera.centre, texture_camera.size, texture_camera.pivot],
        "pose": camera_pose(result.factors, camera)[:3].tolist(),
        "magnification": 2 * camera.focal / camera.size,
        "light": {
            "x": x,
            "y": y,
            "ambient": ambient,
            "diffuse": diffuse,
            "min_shading": MIN_SHADING,
            "min_z": MIN_LIGHT_Z,
        },
    }


def _as_int8(normals: Float[ndarray, "n 3"]) -> Int8[ndarray, "n 4"]:
    """Unit vectors as signed bytes, padded to 4 for alignment."""
    return np.pad((normals * MAX_SIGNED_BYTE).round(), ((0, 0), (0, 1))).astype(np.int8)


def _base64(values: ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode("ascii")


def _jpeg_url(values: Float[ndarray, "t t 3"]) -> str:
    """An image of values in [0, 1] as a data URL."""
    file = io.BytesIO()
    Image.fromarray((values * 255).round().astype(np.uint8)).save(file, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"
