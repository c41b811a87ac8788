"""A result as a page: one HTML file that any browser turns, and lights by the same equation as `g2s relight`.

Everything is in the file; it fetches nothing. page.html is what it looks like and does.
"""

from __future__ import annotations

import base64
import io
import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from PIL import Image

from g2s_cli.files import atomic_write
from g2s_cli.geometry.shading import MIN_LIGHT_Z, position_from_light
from g2s_cli.mesh.export import MeshOptions
from g2s_cli.mesh.extract import Mesh, camera_pose
from g2s_cli.mesh.texture import MIN_SHADING, Texture, smooth_normals
from g2s_cli.result.schema import PAGE, Result
from g2s_cli.result.surface import textured_mesh

PLACE = "{{scene}}"  # in page.html
JPEG_QUALITY = 92
MOST_BYTE = 127  # what WebGL reads as 1 in a signed byte


def write_page(result: Result, folder: Path, detail: MeshOptions | None = None) -> Path:
    """Write the page into a result folder, whole or not at all; its path. Raises G2SError if the disk refuses."""
    page = page_of(result, detail)
    with atomic_write(folder / PAGE, "Free space, or make the folder writable.") as temporary:
        temporary.write_text(page, "utf-8")
    return folder / PAGE


def page_of(result: Result, detail: MeshOptions | None = None) -> str:
    """The page, as HTML. detail: how fine its mesh and texture are. Raises G2SError as `result.surface`."""
    mesh, texture = textured_mesh(result, detail or MeshOptions(), extend=True)
    # In a script element nothing but "<" can end it.
    scene = json.dumps(scene_of(result, mesh, texture)).replace("<", "\\u003c")
    return files("g2s_cli.result").joinpath("page.html").read_text("utf-8").replace(PLACE, scene)


def scene_of(result: Result, mesh: Mesh, texture: Texture) -> dict[str, Any]:
    """What the page shows, JSON-able; arrays are little-endian and in base 64.

    positions: float32, mesh axes. broad_normals: of the networks' relief, which light falls on; fine_normals: of the
    mesh; both signed bytes, four a vertex of which the last says nothing. faces: uint32. reflectance: a picture of
    roots of shares of `brightest`, which leaves the dark its steps; margin: the share of its side that lies beyond the
    networks' frame at each end. texture_camera: whose picture it is: focal length, centre and size in pixels, pivot.
    pose: mesh to the photo's camera, 3 x 4. magnification: half sides of the photo's frame that x / -z is worth before
    that camera. light's least: what the photo's shading counts as at the least, see `texture_of`; its horizon: see
    `light_from_user`.
    """
    camera, seen_by = result.camera, mesh.camera.resize(texture.albedo.shape[-1])
    x, y = position_from_light(result.factors.light, result.factors.view)
    ambient, diffuse = result.factors.light[:2].tolist()
    reflectance = (texture.albedo / 2 + 0.5).clamp(min=0).permute(1, 2, 0).numpy()
    brightest = max(1.0, float(reflectance.max()))  # a highlight's may be several times 1
    return {
        "title": str(result.report.get("photo", "")),
        "positions": _coded(mesh.vertices.astype("<f4")),
        "broad_normals": _coded(_as_bytes(smooth_normals(mesh, result.factors, camera))),
        "fine_normals": _coded(_as_bytes(mesh.normals)),
        "faces": _coded(mesh.faces.astype("<u4")),
        "reflectance": _picture(np.sqrt(reflectance / brightest)),
        "brightest": brightest,
        "margin": (1 - camera.size / camera.with_margin().size) / 2,
        "texture_camera": [seen_by.focal, seen_by.centre, seen_by.size, seen_by.pivot],
        "pose": camera_pose(result.factors, camera)[:3].tolist(),
        "magnification": 2 * camera.focal / camera.size,
        "light": {
            "x": x,
            "y": y,
            "ambient": ambient,
            "diffuse": diffuse,
            "least": MIN_SHADING,
            "horizon": MIN_LIGHT_Z,
        },
    }


def _as_bytes(directions: Float[ndarray, "n 3"]) -> ndarray:
    """Unit vectors as signed bytes, four to each: graphics cards want them aligned."""
    return np.pad((directions * MOST_BYTE).round(), ((0, 0), (0, 1))).astype(np.int8)


def _coded(values: ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode("ascii")


def _picture(shares: Float[ndarray, "t t 3"]) -> str:
    """A picture of values in [0, 1], as a data URL."""
    held = io.BytesIO()
    Image.fromarray((shares * 255).round().astype(np.uint8)).save(held, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    return f"data:image/jpeg;base64,{base64.b64encode(held.getvalue()).decode('ascii')}"
