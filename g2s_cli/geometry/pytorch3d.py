"""The rasterizer of PyTorch3D behind the interface of ours."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from g2s_cli.errors import UsageError
from g2s_cli.geometry.camera import Camera


@torch.no_grad()
def rasterize(
    vertices: Float[Tensor, "b n 3"], faces: Int[Tensor, "t 3"], camera: Camera
) -> tuple[Int[Tensor, "b h w"], Float[Tensor, "b h w"]]:
    """As `rasterizer.rasterize`, by PyTorch3D's `MeshRasterizer`. Of equally near triangles any may be named.

    Raises:
        UsageError: PyTorch3D is not installed.
    """
    try:
        from pytorch3d.renderer import MeshRasterizer, PerspectiveCameras, RasterizationSettings  # noqa: PLC0415
        from pytorch3d.structures import Meshes  # noqa: PLC0415
    except ImportError as error:
        what = f"The rasterizer pytorch3d cannot be used: {error}."
        raise UsageError(what, "Install PyTorch3D, or leave --rasterizer out.") from error
    batch, size = len(vertices), camera.size
    # PyTorch3D has +x left and +y up, and counts pixels from their corners.
    meshes = Meshes(vertices.float() * vertices.new_tensor((-1, -1, 1)).float(), faces.expand(batch, -1, -1))
    cameras = PerspectiveCameras(
        focal_length=camera.focal,
        principal_point=((camera.centre + 0.5, camera.centre + 0.5),),
        in_ndc=False,
        image_size=((size, size),),
        device=vertices.device,
    )
    settings = RasterizationSettings(image_size=size, bin_size=None if vertices.is_cuda else 0)
    fragments = MeshRasterizer(cameras, settings)(meshes)
    face, depth = fragments.pix_to_face[..., 0], fragments.zbuf[..., 0].to(vertices.dtype)
    hit = face >= 0  # numbered through the batch
    return torch.where(hit, face % len(faces), -1), torch.where(hit, depth, torch.inf)
