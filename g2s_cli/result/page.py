"""A result as one HTML file, in which a browser turns and relights the object by the same equation as `g2s relight`.

The file contains all its data and fetches nothing. Its template is page.html, its script page.js and page_downloads.js.
"""

from __future__ import annotations

import base64
import io
import json
import math
import zlib
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int8, Num
from numpy import ndarray
from PIL import Image

from g2s_cli.errors import UsageError
from g2s_cli.files import atomic_write
from g2s_cli.geometry.image import to_uint8
from g2s_cli.geometry.shading import MIN_LIGHT_Z, MIN_SHADING, position_from_light
from g2s_cli.mesh.extract import Mesh, camera_pose
from g2s_cli.mesh.options import MeshOptions
from g2s_cli.mesh.render import render_mesh
from g2s_cli.mesh.texture import Texture, smooth_normals
from g2s_cli.result.schema import Result
from g2s_cli.result.surface import textured_mesh
from g2s_cli.result.wide import photo_on_white, widen

SCRIPTS = ("page.js", "page_downloads.js")
MAX_PHOTO_PX = 1024  # a side, of the photo that the layers are compared with
MAX_TEXTURE_CHARACTERS = 3_500_000  # as a data URL
JPEG_QUALITIES = (92, 85, 75, 60)  # of the texture: the first that keeps to that
MAX_SIGNED_BYTE, MAX_SHORT = 127, 65535
# The film of browsers without WebGL 2.
TURNTABLE_DEG, TURNTABLE_FRAMES, TURNTABLE_PX, TURNTABLE_MS = 25.0, 7, 256, 250


def write_page(
    result: Result,
    path: Path,
    detail: MeshOptions | None = None,
    *,
    folder: Path | None = None,
    overwrite: bool = False,
) -> None:
    """Write the page of a result.

    Args:
        result: The result.
        path: The file.
        detail: Sizes of the mesh and its texture.
        folder: As for `render_page`.
        overwrite: Another file may be replaced. The same page is none.

    Raises:
        UsageError: Another file has this path, and may not be overwritten.
        G2SError: The disk refuses, or as `textured_mesh`.
    """
    detail = detail or MeshOptions()
    wide = widen(result, detail.extent, detail.texture_size)
    page = render_page(wide, *textured_mesh(wide, detail, extend=True), folder).encode()
    if not overwrite and path.is_file():
        if path.read_bytes() == page:
            return
        raise UsageError(f"{path} exists and would change.", "Add --overwrite to replace it, or name another with -o.")
    with atomic_write(path, "Free space, make the folder writable, or name another with -o.") as temporary:
        temporary.write_bytes(page)


def render_page(result: Result, mesh: Mesh, texture: Texture, folder: Path | None = None) -> str:
    """The page as HTML.

    Args:
        result: The result in the frame that its mesh was made in; see `result.wide`.
        mesh, texture: Of `textured_mesh`.
        folder: The result's, whose name stands in the commands that the page prints. None: it prints none.
    """
    scene = scene_data(result, mesh, texture) | {"folder": folder and folder.resolve().name}
    html, *scripts = (files("g2s_cli.result").joinpath(name).read_text("utf-8") for name in ("page.html", *SCRIPTS))
    # Only "<" could end the script element that holds the scene.
    text = json.dumps(scene).replace("<", "\\u003c")
    return html.replace("{{script}}", "\n".join(scripts)).replace("{{scene}}", text)


def scene_data(result: Result, mesh: Mesh, texture: Texture) -> dict[str, Any]:
    """The data of the page, JSON-able. Arrays are deltas of little-endian numbers, deflated, in base 64.

    positions: vertices in mesh axes, uint16 from one corner of `box` to the other.
    smooth_normals, mesh_normals: of the networks' depth map, which are shaded, and of the mesh; int8.
    grid: vertices a side of the grid that the mesh was cut from.
    reflectance: image of the square roots of reflectance / max_reflectance, for finer steps in the dark.
    photo, matte: images of the photo's frame, whole and with the object alone.
    turntable: a film.
    margin: width of the extrapolated border of the texture, as a share of its side.
    texture_camera: focal length, centre and size in pixels, and pivot, of the camera whose image the texture is.
    pose: 3 x 4, from mesh axes to the photo's camera.
    magnification: converts x / -z before that camera to half sides of the photo's frame.
    moved_light: strengths of a light in another place.
    light: its position and strengths; min_shading as in `project_texture`; min_z as in `light_from_position`.
    """
    camera, texture_camera = result.camera, mesh.camera.resize(texture.albedo.shape[-1])
    x, y = position_from_light(result.factors.light, result.factors.view)
    ambient, diffuse = result.factors.light[:2].tolist()
    moved_ambient, moved_diffuse = result.factors.relight(x + 1, y).light[:2].tolist()
    reflectance = (texture.albedo / 2 + 0.5).clamp(min=0).permute(1, 2, 0).numpy()
    max_reflectance = max(1.0, float(reflectance.max()))  # a highlight may be several times as bright as white
    least, most = mesh.vertices.min(axis=0), mesh.vertices.max(axis=0)
    photo = _photo(result)
    return {
        "title": str(result.report.get("photo", "")),
        "box": [least.tolist(), most.tolist()],
        "positions": _deflate(((mesh.vertices - least) / (most - least) * MAX_SHORT).round().astype("<u2").T),
        "smooth_normals": _deflate(_as_int8(smooth_normals(mesh, result.factors, camera)).T),
        "mesh_normals": _deflate(_as_int8(mesh.normals).T),
        "faces": _deflate(mesh.faces.astype("<u4")),
        "grid": mesh.camera.size,
        "reflectance": texture_url(np.sqrt(reflectance / max_reflectance)),
        "max_reflectance": max_reflectance,
        "photo": _image_url(photo, "JPEG", quality=88),
        "matte": _image_url(_cut_out(photo, result), "JPEG", quality=88),
        "turntable": _turntable_url(result, mesh, texture),
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
        "moved_light": {"ambient": moved_ambient, "diffuse": moved_diffuse},
    }


def _photo(result: Result) -> Image.Image:
    """The photo's frame, small enough for a page."""
    photo = Image.fromarray(photo_on_white(result))
    photo.thumbnail((MAX_PHOTO_PX, MAX_PHOTO_PX), Image.Resampling.LANCZOS)
    return photo


def _cut_out(photo: Image.Image, result: Result) -> Image.Image:
    """The photo's object on grey."""
    alpha = result.mask if result.outline is None else result.outline
    matte = Image.fromarray((alpha.clamp(0, 1) * 255).round().byte().numpy())
    return Image.composite(photo, Image.new("RGB", photo.size, "grey"), matte.resize(photo.size))


def _turntable_url(result: Result, mesh: Mesh, texture: Texture) -> str:
    """An animated WebP: the object turns from side to side and back."""
    ends = math.radians(TURNTABLE_DEG)
    camera = result.camera.resize(TURNTABLE_PX)
    views = [result.factors.rotate(yaw, 0.0).view for yaw in np.linspace(-ends, ends, TURNTABLE_FRAMES).tolist()]
    frames = [Image.fromarray(to_uint8(render_mesh(mesh, texture.lit, view, camera).on_white)) for view in views]
    first, *others = frames + frames[-2:0:-1]
    return _image_url(first, "WEBP", save_all=True, append_images=others, duration=TURNTABLE_MS, loop=0, quality=85)


def _as_int8(normals: Float[ndarray, "n 3"]) -> Int8[ndarray, "n 3"]:
    """Unit vectors as signed bytes."""
    return (normals * MAX_SIGNED_BYTE).round().astype(np.int8)


def _deflate(values: Num[ndarray, "n m"]) -> str:
    flat = values.ravel()
    return _base64(zlib.compress(np.diff(flat, prepend=flat[:1] * 0).astype(flat.dtype).tobytes(), 9))


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def texture_url(values: Float[ndarray, "t t 3"]) -> str:
    """An image of values in [0, 1] as a data URL, whose quality depends on its size."""
    image = Image.fromarray((values * 255).round().astype(np.uint8))
    for quality in JPEG_QUALITIES:
        url = _image_url(image, "JPEG", quality=quality, subsampling=0)
        if len(url) <= MAX_TEXTURE_CHARACTERS:
            break
    return url


def _image_url(image: Image.Image, kind: str, **options: Any) -> str:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return f"data:image/{kind.lower()};base64,{_base64(file.getvalue())}"
