"""The conventions of space for the whole project, and the camera that implements them.

Axes: x right, y down, z away from the camera, a pinhole at the origin. Lengths are in scene units: the object is about
1 away. Depth is z, not the distance along the ray. Only meshes (`mesh.extract`) have +Y up and the object facing +Z.

Pixels: square images; the centre of pixel (column i, row j) is at (i, j), so the image spans -0.5 to size - 0.5. The
principal point is (size - 1) / 2; the field of view reaches from the first pixel's centre to the last one's (Eq. 4).
Sampling grids (`geometry.warp`) run from -1 at the first pixel's centre to 1 at the last one's: align_corners=True.

Views: six numbers, rotations (x, y, z) in radians and a translation in scene units. The object turns about the pivot
c = (0, 0, 1): X' = R (X - c) + c + t with R = R_z R_y R_x carries canonical points X to the photo's frame (Eq. 5).

User angles: degrees at the command line. Positive yaw turns the face to the photo's right, positive pitch turns it up.
With y down and z away, a positive rotation about y carries the near side of the object to -x, and one about x carries
it to +y (down). So yaw and pitch are the negatives of the rotations about y and x.

Normals point away from the viewer, as the authors' do: n_z > 0 where the surface faces the camera. So does the
direction of a light, l = (l_x, l_y, 1) / |.|, in the canonical frame: the light travels along l, and n·l > 0 where it
falls. l_x > 0 is a light from the photo's left. User lights are positions (x, y) in the photo: x right, y up, (0, 0) at
the camera; `shading.light_from_position` converts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

MIN_FOV_DEG, MAX_FOV_DEG = 0.1, 120.0  # of cameras that come from files


@dataclass(frozen=True)
class Camera:
    """A pinhole camera of square images; the defaults are the paper's. near, far: the range of canonical depth."""

    size: int  # pixels a side
    fov_deg: float = 10.0  # full field of view, between the centres of the outermost pixels
    near: float = 0.9
    far: float = 1.1
    pivot: float = 1.0  # depth of the point that the object turns about

    @property
    def focal(self) -> float:
        """Focal length in pixels (Eq. 4)."""
        return self.centre / math.tan(math.radians(self.fov_deg) / 2)

    @property
    def centre(self) -> float:
        """Principal point in pixels, the same in x and y (Eq. 4)."""
        return (self.size - 1) / 2

    @property
    def margin_px(self) -> int:
        """Pixels by which pictures continue the canonical surface beyond each side of the canonical frame."""
        return self.size // 8

    def resize(self, size: int) -> Camera:
        """The camera of the same image at `size` pixels: its pixel i lies at (i + 0.5) / size * self.size - 0.5."""
        return self._with_focal(size, self.focal * size / self.size)

    def with_margin(self) -> Camera:
        """The camera of the same image with `margin_px` more pixels on each side."""
        return self.widen(self.margin_px)

    def widen(self, margin_px: int) -> Camera:
        """The camera of the same image with this many more pixels on each side."""
        return self._with_focal(self.size + 2 * margin_px, self.focal)

    def _with_focal(self, size: int, focal_px: float) -> Camera:
        return replace(self, size=size, fov_deg=2 * math.degrees(math.atan((size - 1) / 2 / focal_px)))

    def rays(self, like: Tensor, margin: int = 0) -> Float[Tensor, "h w 3"]:
        """Ray directions K⁻¹(i, j, 1) of the pixel centres (z = 1) and of `margin` more pixels on each side.

        like: a tensor with the dtype and device of the result.
        """
        index = torch.arange(-margin, self.size + margin, device=like.device, dtype=like.dtype)
        ticks = (index - self.centre) / self.focal
        y, x = torch.meshgrid(ticks, ticks, indexing="ij")
        return torch.stack((x, y, torch.ones_like(x)), dim=-1)


def unproject_points(depth: Float[Tensor, "b h w"], camera: Camera, margin: int = 0) -> Float[Tensor, "b h w 3"]:
    """Lift a depth map to points in its own frame: P = d K⁻¹ p (paper A.2.1). margin: pixels beyond the camera's."""
    return depth.unsqueeze(-1) * camera.rays(depth, margin)


def project_points(points: Float[Tensor, "*b 3"], camera: Camera) -> Float[Tensor, "*b 2"]:
    """Project points of the camera's frame to pixel coordinates (i, j)."""
    return points[..., :2] / points[..., 2:] * camera.focal + camera.centre


def rotation_matrix(view: Float[Tensor, "b 6"]) -> Float[Tensor, "b 3 3"]:
    """R = R_z R_y R_x of each view."""
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
    """Transform canonical points to the photo's frame: R (X - c) + c + t."""
    pivot = points.new_tensor((0.0, 0.0, camera.pivot))
    rotated = torch.einsum("bij,bhwj->bhwi", rotation_matrix(view), points - pivot)
    return rotated + (pivot + view[:, None, None, 3:])


def view_to_canonical(
    points: Float[Tensor, "b h w 3"], view: Float[Tensor, "b 6"], camera: Camera
) -> Float[Tensor, "b h w 3"]:
    """Transform points of the photo's frame to the canonical one: Rᵀ (X' - c - t) + c."""
    pivot = points.new_tensor((0.0, 0.0, camera.pivot))
    centred = points - (pivot + view[:, None, None, 3:])
    return torch.einsum("bji,bhwj->bhwi", rotation_matrix(view), centred) + pivot


def rotate_view(view: Float[Tensor, 6], yaw_rad: float, pitch_rad: float) -> Float[Tensor, 6]:
    """Rotate the object about the pivot as the photo shows it, yaw to the right and pitch upwards.

    Returns:
        The view of R' = R_y(-yaw) R_x(-pitch) R, its rotation about y within ±90°, with the same translation.
    """
    extra = rotation_matrix(view.new_tensor([[-pitch_rad, -yaw_rad, 0, 0, 0, 0]]))[0]
    rotated = extra @ rotation_matrix(view[None])[0]
    angles = torch.stack(
        (
            torch.atan2(rotated[2, 1], rotated[2, 2]),
            torch.asin((-rotated[2, 0]).clamp(-1, 1)),
            torch.atan2(rotated[1, 0], rotated[0, 0]),
        )
    )
    return torch.cat((angles, view[3:]))
