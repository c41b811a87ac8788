"""A result in a desktop window, by Open3D: to turn and to light by hand, with the keys of the page."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from numpy import ndarray

from g2s_cli.errors import G2SError, import_extra
from g2s_cli.geometry.image import to_uint8
from g2s_cli.geometry.shading import position_from_light
from g2s_cli.mesh.back import back_surface
from g2s_cli.mesh.export import back_colours
from g2s_cli.mesh.extract import Mesh, camera_pose
from g2s_cli.mesh.options import MeshOptions
from g2s_cli.mesh.texture import relight_texture
from g2s_cli.result.schema import Result
from g2s_cli.result.surface import textured_mesh
from g2s_cli.result.wide import widen

DISPLAYS = ("DISPLAY", "WAYLAND_DISPLAY")  # environment variables
SIZE_PX = 800  # of the window, a side
TURN_STEP_DEG, LIGHT_STEP, ZOOM_STEP = 3.0, 0.1, 1.1
LEFT, RIGHT, UP, DOWN, PLUS, MINUS, HOME = 263, 262, 265, 264, 61, 45, 268  # GLFW's key codes
FRAME_S = 1 / 60
RELEASE, SHIFT = 0, 1  # its actions and modifiers


@dataclass(frozen=True)
class Pose:
    """What the keys change. light: its distance from the photo's own, right and up."""

    yaw_deg: float = 0.0
    pitch_deg: float = 0.0
    light: tuple[float, float] = (0.0, 0.0)
    zoom: float = 1.0


class ResultWindow:
    """A window that shows a result.

    Raises:
        G2SError: Open3D is not installed, there is no display, or as `textured_mesh`.
    """

    def __init__(self, result: Result, detail: MeshOptions | None = None) -> None:
        self._open3d, detail = import_extra("open3d", "g2s view --window"), detail or MeshOptions()
        self.result, self.pose = widen(result, detail.extent, detail.texture_size), Pose()
        self.mesh, self.texture = textured_mesh(self.result, detail, extend=True)
        self._window = self._open3d.visualization.VisualizerWithKeyCallback()
        self._open3d.utility.set_verbosity_level(self._open3d.utility.VerbosityLevel.Error)
        title = f"g2s: {result.report.get('photo', '')}"
        # Without a display GLFW may open a window that nobody sees.
        has_display = sys.platform != "linux" or any(os.environ.get(name) for name in DISPLAYS)
        if not (has_display and self._window.create_window(title, SIZE_PX, SIZE_PX)):
            raise G2SError("No window can be opened here.", "Leave --window out: the page needs a browser alone.")
        self._front, self._back = _front(self._open3d, self.mesh), _back(self._open3d, self.mesh)
        self._paint(self.texture.lit)
        for geometry in filter(None, (self._front, self._back)):
            self._window.add_geometry(geometry)
        self._window.get_render_option().light_on = False  # the texture is lit already
        self._window.get_render_option().mesh_show_back_face = True
        for key in (LEFT, RIGHT, UP, DOWN, PLUS, MINUS, HOME):
            self._window.register_key_action_callback(key, self._on_key(key))
        self.show(self.pose)

    def run(self) -> None:
        """Show the window until the user closes it. Ctrl-C ends it, too, as Open3D's own loop would not let it."""
        try:
            while self._window.poll_events():
                self._window.update_renderer()
                time.sleep(FRAME_S)
        finally:
            self._window.destroy_window()

    def show(self, pose: Pose) -> None:
        """Turn, light and zoom."""
        if pose.light != self.pose.light:
            x, y = position_from_light(self.result.factors.light, self.result.factors.view)
            lit = self.result.factors.relight(x + pose.light[0], y + pose.light[1])
            self._paint(relight_texture(self.texture, lit, self.result.camera))
            for geometry in filter(None, (self._front, self._back)):
                self._window.update_geometry(geometry)
        self.pose = pose
        factors = self.result.factors.rotate(math.radians(pose.yaw_deg), math.radians(pose.pitch_deg))
        camera = self.result.camera.resize(SIZE_PX)
        parameters = self._open3d.camera.PinholeCameraParameters()
        focal = camera.focal * pose.zoom
        parameters.intrinsic.set_intrinsics(SIZE_PX, SIZE_PX, focal, focal, camera.centre, camera.centre)
        parameters.extrinsic = np.diag((1.0, -1.0, -1.0, 1.0)) @ camera_pose(factors, self.result.camera)
        self._window.get_view_control().convert_from_pinhole_camera_parameters(parameters, allow_arbitrary=True)

    def picture(self) -> UInt8[ndarray, "h w 3"]:
        """What the window shows."""
        self._window.poll_events()
        self._window.update_renderer()
        shown = np.asarray(self._window.capture_screen_float_buffer(do_render=True))
        return (shown * 255).round().astype(np.uint8)

    def _paint(self, lit: Float[Any, "3 t t"]) -> None:
        image = np.ascontiguousarray(to_uint8(lit)[::-1])  # Open3D counts rows from below, as texture coordinates do
        self._front.textures = [self._open3d.geometry.Image(image)]
        if self._back is not None:
            colours = back_colours(self.mesh, np.asarray(self._back.vertices), lit)
            self._back.vertex_colors = self._open3d.utility.Vector3dVector(colours / 255)

    def _on_key(self, key: int) -> Callable[[Any, int, int], bool]:
        def act(_: Any, action: int, modifiers: int) -> bool:
            if action != RELEASE:
                self.show(after_key(self.pose, key, shift=bool(modifiers & SHIFT)))
            return True

        return act


def after_key(pose: Pose, key: int, *, shift: bool) -> Pose:
    """The pose after a key."""
    if key == HOME:
        return Pose()
    if key in (PLUS, MINUS):
        return replace(pose, zoom=pose.zoom * (ZOOM_STEP if key == PLUS else 1 / ZOOM_STEP))
    right, up = {LEFT: (-1, 0), RIGHT: (1, 0), UP: (0, 1), DOWN: (0, -1)}[key]
    if shift:
        return replace(pose, light=(pose.light[0] + LIGHT_STEP * right, pose.light[1] + LIGHT_STEP * up))
    return replace(
        pose,
        yaw_deg=max(-90.0, min(90.0, pose.yaw_deg + TURN_STEP_DEG * right)),
        pitch_deg=max(-90.0, min(90.0, pose.pitch_deg + TURN_STEP_DEG * up)),
    )


def _front(open3d: ModuleType, mesh: Mesh) -> Any:
    """The textured surface as Open3D's mesh."""
    front = _open3d_mesh(open3d, mesh.vertices, mesh.faces)
    front.triangle_uvs = open3d.utility.Vector2dVector(mesh.uv[mesh.faces.ravel()])
    front.triangle_material_ids = open3d.utility.IntVector(np.zeros(len(mesh.faces), np.int32))
    return front


def _back(open3d: ModuleType, mesh: Mesh) -> Any:
    """The back of a whole head; None for other meshes."""
    if not mesh.back:
        return None
    return _open3d_mesh(open3d, *back_surface(mesh))


def _open3d_mesh(open3d: ModuleType, vertices: Float[ndarray, "n 3"], faces: ndarray) -> Any:
    triangles = open3d.utility.Vector3iVector(faces.astype(np.int32))
    return open3d.geometry.TriangleMesh(open3d.utility.Vector3dVector(vertices), triangles)
