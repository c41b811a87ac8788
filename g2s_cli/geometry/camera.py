"""The camera, and every convention of space that g2s has. Nothing about axes is decided anywhere else.

Inside: x right, y down, z away from the camera; a pinhole at the origin; pixel (column i, row j) has its
centre at integer coordinates (i, j); the object turns about the pivot (0, 0, 1) (paper A.2.1, Eq. 4-5).
A view is six numbers: rotations about x, y and z in radians, R = R_z R_y R_x, and a translation in scene
units; it carries canonical points X to the photo's camera: X' = R (X - c) + c + t with c the pivot.

For people: yaw is positive when the face turns towards the photo's right, pitch is positive when it looks
up. With y down and z away a positive rotation about y carries the near side of the head (z < 1) towards
-x, so yaw is minus that angle; a positive rotation about x carries the near side down in the picture
... towards +y, so pitch is minus that one too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Camera:
    """A pinhole camera for square images.

    size: pixels a side. fov_deg: full field of view, from the first pixel's centre to the last one's.
    near, far: the range of canonical depth, scene units. pivot: distance of the point the object turns
    about. The defaults are the paper's.
    """

    size: int
    fov_deg: float = 10.0
    near: float = 0.9
    far: float = 1.1
    pivot: float = 1.0

    @property
    def focal(self) -> float:
        """Focal length in pixels (Eq. 4)."""
        return self.centre / math.tan(math.radians(self.fov_deg) / 2)

    @property
    def centre(self) -> float:
        """The principal point, the same in both directions, in pixels (Eq. 4)."""
        return (self.size - 1) / 2

    @property
    def margin_px(self) -> int:
        """Pixels by which pictures continue the canonical surface beyond each side of the canonical frame."""
        return self.size // 8

    def resize(self, size: int) -> Camera:
        """The same picture in `size` pixels a side: its pixel i lies at (i + 0.5) / size * self.size - 0.5 here."""
        return self._with_focal(size, self.focal * size / self.size)

    def pad(self, margin_px: int) -> Camera:
        """The same pixels, and so many more on each side."""
        return self._with_focal(self.size + 2 * margin_px, self.focal)

    def with_margin(self) -> Camera:
        """This camera with `margin_px` more pixels on each side."""
        return self.pad(self.margin_px)

    def _with_focal(self, size: int, focal_px: float) -> Camera:
        fov_deg = 2 * math.degrees(math.atan((size - 1) / 2 / focal_px))
        return replace(self, size=size, fov_deg=fov_deg)

    def rays(self, like: Tensor, margin: int = 0) -> Float[Tensor, "h w 3"]:
        """Directions K⁻¹(i, j, 1) of the pixel centres, with z = 1, in the dtype and on the device of `like`.

        margin: how many pixels more there are on each side of the picture.
        """
        index = torch.arange(-margin, self.size + margin, device=like.device, dtype=like.dtype)
        ticks = (index - self.centre) / self.focal
        y, x = torch.meshgrid(ticks, ticks, indexing="ij")
        return torch.stack((x, y, torch.ones_like(x)), dim=-1)


def unproject_points(depth: Float[Tensor, "b h w"], camera: Camera, margin: int = 0) -> Float[Tensor, "b h w 3"]:
    """Lift a depth map to points of the frame it is given in: P = d K⁻¹ p (paper A.2.1)."""
    return depth.unsqueeze(-1) * camera.rays(depth, margin)


def project_points(points: Float[Tensor, "*b 3"], camera: Camera) -> Float[Tensor, "*b 2"]:
    """Pixel coordinates (i, j) of points in the camera's frame."""
    return points[..., :2] / points[..., 2:] * camera.focal + camera.centre


def rotation_matrix(view: Float[Tensor, "b 6"]) -> Float[Tensor, "b 3 3"]:
    """R = R_z R_y R_x from the first three numbers of each view."""
    (cx, cy, cz), (sx, sy, sz) = view[:, :3].cos().unbind(1), view[:, :3].sin().unbind(1)
    rows = (
        (cz * cy, cz * sy * sx - sz * cx, cz * sy * cx + sz * sx),
        (sz * cy, sz * sy * sx + cz * cx, sz * sy * cx - cz * sx),
        (-sy, cy * sx, cy * cx),
    )
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)


def canonical_to_view(
    points: Float[Tensor, "b h w 3"], view: Float[Tensor, "b 6"], camera: Camera
) -> Float[Tensor, "b h w 3"]:
    """Carry canonical points to the photo's frame: R (X - c) + c + t."""
    pivot = points.new_tensor((0.0, 0.0, camera.pivot))
    turned = torch.einsum("bij,bhwj->bhwi", rotation_matrix(view), points - pivot)
    return turned + (pivot + view[:, None, None, 3:])


def view_to_canonical(
    points: Float[Tensor, "b h w 3"], view: Float[Tensor, "b 6"], camera: Camera
) -> Float[Tensor, "b h w 3"]:
    """The inverse of `canonical_to_view`: Rᵀ (X' - c - t) + c."""
    pivot = points.new_tensor((0.0, 0.0, camera.pivot))
    moved = points - (pivot + view[:, None, None, 3:])
    return torch.einsum("bji,bhwj->bhwi", rotation_matrix(view), moved) + pivot


def rotate_view(view: Float[Tensor, 6], yaw_rad: float, pitch_rad: float) -> Float[Tensor, 6]:
    """The view after turning the object, as the photo shows it, about the pivot.

    yaw_rad: towards the photo's right; pitch_rad: upwards. The turn happens in the photo's camera frame,
    R' = R_y(-yaw) R_x(-pitch) R, and R' is read back as angles (R_z R_y R_x, |angle y| < 90°).
    """
    extra = rotation_matrix(view.new_tensor([[-pitch_rad, -yaw_rad, 0, 0, 0, 0]]))[0]
    turned = extra @ rotation_matrix(view[None])[0]
    angles = torch.stack(
        (
            torch.atan2(turned[2, 1], turned[2, 2]),
            torch.asin((-turned[2, 0]).clamp(-1, 1)),
            torch.atan2(turned[1, 0], turned[0, 0]),
        )
    )
    return torch.cat((angles, view[3:]))
