"""The photo-geometric autoencoder: the four factor networks as one value, and Φ over batches (Fig. 3, Eq. 1)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from g2s_cli.estimators.gan2shape.prior import depth_from_raw, light_from_code, view_from_code
from g2s_cli.estimators.networks import CodeNet, MapNet
from g2s_cli.geometry.camera import Camera
from g2s_cli.geometry.normals import depth_to_normals
from g2s_cli.geometry.shading import diffuse_shading, shade, specular_shading
from g2s_cli.geometry.warp import grid_sample, hflip, symmetrize, view_grid


@dataclass(frozen=True)
class Canonical:
    """The object as it is before it is seen: depth (b h w) in scene units, albedo (b 3 h w) in [-1, 1]."""

    depth: Float[Tensor, "b h w"]
    albedo: Float[Tensor, "b 3 h w"]

    def mirrored(self) -> Canonical:
        """Its left half where its right half is: the same object, if it is symmetric."""
        return Canonical(hflip(self.depth), hflip(self.albedo))


@dataclass(frozen=True)
class Seen:
    """A batch of renderings: image (b 3 h w), where the relief is seen (b h w), and the diffuse shading."""

    image: Float[Tensor, "b 3 h w"]
    valid: Bool[Tensor, "b h w"]
    diffuse: Float[Tensor, "b h w"]


@dataclass(frozen=True)
class FactorNets:
    """D, A, V and L with what turns their outputs into factors.

    base: the category's mean shape in D's raw units, or None. mean_view, mean_light: added to what V and L
    say, in network units. symmetric: whether what D and A say is averaged with its mirror image, as our own
    jointly trained networks expect. gloss: how strong highlights are, of reflectance 1; 0 is the paper's matt object.
    dtype: arithmetic of the convolutions; geometry is always float32.
    """

    depth: MapNet
    albedo: MapNet
    view: CodeNet
    light: CodeNet
    camera: Camera
    base: Float[Tensor, "h w"] | None
    mean_view: Float[Tensor, 6]
    mean_light: Float[Tensor, 4]
    symmetric: bool = False
    specular: float = 0.0
    dtype: torch.dtype = torch.float32

    def parameters(self, *names: str) -> Iterator[nn.Parameter]:
        """Parameters of the networks named: "depth", "albedo", "view", "light"."""
        for name in names:
            yield from getattr(self, name).parameters()

    def to(self, device: torch.device, dtype: torch.dtype) -> FactorNets:
        """The same networks on a device, computing in `dtype`."""
        for net in (self.depth, self.albedo, self.view, self.light):
            net.to(device)
        return replace(
            self,
            base=None if self.base is None else self.base.to(device),
            mean_view=self.mean_view.to(device),
            mean_light=self.mean_light.to(device),
            dtype=dtype,
        )

    def canonical(self, image: Float[Tensor, "b 3 h w"]) -> Canonical:
        """Depth and albedo of what images show."""
        return Canonical(self.depth_of(image), self.albedo_of(image))

    def depth_of(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b h w"]:
        """Depth alone."""
        raw = self._run(self.depth, image)[:, 0]
        return depth_from_raw(symmetrize(raw) if self.symmetric else raw, self.base, self.camera)

    def albedo_of(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        """Albedo alone."""
        albedo = self._run(self.albedo, image)
        return symmetrize(albedo) if self.symmetric else albedo

    def view_of(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 6"]:
        """The view each image is seen from, radians and scene units."""
        return view_from_code(self.view_code(image))

    def light_of(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 4"]:
        """The light each image is lit by: ambient, diffuse, l_x, l_y."""
        return light_from_code(self.light_code(image))

    def view_code(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 6"]:
        """The same view in network units, as a category's statistics are."""
        return self._run(self.view, image) + self.mean_view

    def light_code(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 4"]:
        """The same light in network units."""
        return self._run(self.light, image) + self.mean_light

    def _run(self, net: Callable[[Tensor], Tensor], image: Tensor) -> Tensor:
        with torch.autocast(image.device.type, self.dtype, enabled=self.dtype != torch.float32):
            return net(image).float()


@dataclass(frozen=True)
class Unpainted:
    """A canonical relief under lights and from views, before it has colours: all of Φ that albedo has no part in.

    diffuse: its shading (b h w). highlights: what is added to its colours, where all of them are (b h w), if it shines.
    grid: where each pixel of the views looks at it. valid: where it is seen.
    """

    light: Float[Tensor, "b 4"]
    diffuse: Float[Tensor, "b h w"]
    highlights: Float[Tensor, "b h w"] | None
    grid: Float[Tensor, "b h w 2"]
    valid: Bool[Tensor, "b h w"]

    def painted(self, albedo: Float[Tensor, "_ 3 h w"]) -> Seen:
        """With colours, of one object for all or of each one's own."""
        texture = shade(albedo.expand(len(self.light), -1, -1, -1), self.diffuse, self.light)
        if self.highlights is not None:
            texture = texture + 2 * self.highlights.unsqueeze(1)  # of colours from -1 to 1
        return Seen(grid_sample(texture, self.grid), self.valid, self.diffuse)


def unpainted(
    depth: Float[Tensor, "_ h w"],
    view: Float[Tensor, "b 6"],
    light: Float[Tensor, "b 4"],
    camera: Camera,
    specular: float = 0.0,
) -> Unpainted:
    """Turn and light a relief. One may serve many views."""
    batch = len(view)
    normal = depth_to_normals(depth, camera).expand(batch, -1, -1, -1)
    highlights = specular * specular_shading(normal, light, view) if specular else None
    grid, valid = view_grid(depth.expand(batch, -1, -1), view, camera)
    return Unpainted(light, diffuse_shading(normal, light), highlights, grid, valid)


def see(
    canonical: Canonical, view: Float[Tensor, "b 6"], light: Float[Tensor, "b 4"], camera: Camera, specular: float = 0.0
) -> Seen:
    """Φ(d, a, v, l): light the canonical object and see it from the views. One object may serve many views."""
    return unpainted(canonical.depth, view, light, camera, specular).painted(canonical.albedo)
