"""The photo-geometric autoencoder (paper Fig. 3, Eq. 1): networks D, A, V, L, and Φ over batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import interpolate

from g2s_cli.config import Category
from g2s_cli.estimators.base import DepthEstimate, Observation
from g2s_cli.estimators.factor_codes import depth_from_raw, light_from_code, resize_depth, view_from_code
from g2s_cli.estimators.networks import CodeNet, MapNet, default_width
from g2s_cli.geometry.camera import Camera
from g2s_cli.geometry.factors import Factors
from g2s_cli.geometry.normals import depth_to_normals
from g2s_cli.geometry.rasterizer import has_surface
from g2s_cli.geometry.render import render_depth_with_margin
from g2s_cli.geometry.resample import resize_bspline
from g2s_cli.geometry.shading import diffuse_shading, shade
from g2s_cli.geometry.warp import grid_sample, hflip, symmetrize, view_grid
from g2s_cli.progress import Progress


@dataclass(frozen=True)
class Canonical:
    """An object in its own frame: depth (b h w) in scene units, albedo (b 3 h w) in [-1, 1]."""

    depth: Float[Tensor, "b h w"]
    albedo: Float[Tensor, "b 3 h w"]

    def hflip(self) -> Canonical:
        """The object with its left and right halves swapped."""
        return Canonical(hflip(self.depth), hflip(self.albedo))


@dataclass(frozen=True)
class RenderedBatch:
    """Renderings: images (b 3 h w), where the object is visible (b h w), and the canonical diffuse shading (b h w)."""

    image: Float[Tensor, "b 3 h w"]
    valid: Bool[Tensor, "b h w"]
    diffuse: Float[Tensor, "b h w"]


@dataclass(frozen=True)
class NetworkMeans:
    """What is added to the outputs of V (6) and L (4), in network units: the category's mean view and light."""

    view: Float[Tensor, 6]
    light: Float[Tensor, 4]


@dataclass(frozen=True)
class FactorNets:
    """D, A, V and L, and what turns their outputs into factors.

    Attributes:
        depth, albedo, view, light: the heads D, A, V, L.
        camera: of the working size.
        mean_depth: canonical depth that D's output is a residual of, in D's raw units; None for the authors' networks.
        mean_view, mean_light: added to the outputs of V and L, in network units.
        symmetric: whether depth and albedo are averaged with their mirror images.
        dtype: arithmetic of the convolutions; geometry is float32.
    """

    depth: MapNet
    albedo: MapNet
    view: CodeNet
    light: CodeNet
    camera: Camera
    mean_depth: Float[Tensor, "h w"] | None
    mean_view: Float[Tensor, 6]
    mean_light: Float[Tensor, 4]
    symmetric: bool = False
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
            mean_depth=None if self.mean_depth is None else self.mean_depth.to(device),
            mean_view=self.mean_view.to(device),
            mean_light=self.mean_light.to(device),
            dtype=dtype,
        )

    def canonical(self, image: Float[Tensor, "b 3 h w"]) -> Canonical:
        """Depth and albedo of images."""
        return Canonical(self.depth_of(image), self.albedo_of(image))

    def depth_of(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b h w"]:
        """Canonical depth of images, scene units."""
        raw = self._run(self.depth, image)[:, 0]
        depth = depth_from_raw(symmetrize(raw) if self.symmetric else raw, self.mean_depth, self.camera)
        return resize_depth(depth, image.shape[-1])

    def albedo_of(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        """Canonical albedo of images, in [-1, 1]."""
        albedo = resize_bspline(self._run(self.albedo, image), image.shape[-1])
        return symmetrize(albedo) if self.symmetric else albedo

    def view_of(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 6"]:
        """Views of images: rotations in radians, translations in scene units."""
        return view_from_code(self.view_code(image))

    def light_of(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 4"]:
        """Lights of images: ambient, diffuse, l_x, l_y."""
        return light_from_code(self.light_code(image))

    def view_code(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 6"]:
        """Views in network units, as a category's statistics are."""
        return self._run(self.view, image) + self.mean_view

    def light_code(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 4"]:
        """Lights in network units."""
        return self._run(self.light, image) + self.mean_light

    @torch.no_grad()
    def factors_of(self, image: Float[Tensor, "3 h w"]) -> Factors:
        """All four factors of one image."""
        batch = image[None]
        canonical = self.canonical(batch)
        return Factors(canonical.depth[0], canonical.albedo[0], self.view_of(batch)[0], self.light_of(batch)[0])

    def _run(self, net: MapNet | CodeNet, image: Float[Tensor, "b 3 h w"]) -> Tensor:
        """A network's output for images of any size."""
        if image.shape[-1] != net.size:
            image = interpolate(image, size=(net.size, net.size), mode="area")
        with torch.autocast(image.device.type, self.dtype, enabled=self.dtype != torch.float32):
            return net(image).float()


@dataclass(frozen=True)
class FeedForward:
    """D, A, V and L in one forward pass: canonical depth, albedo, view and light."""

    nets: FactorNets

    def estimate(self, observation: Observation, progress: Progress) -> DepthEstimate:
        """The networks' factors of a photo, and the depth they render to."""
        progress.begin("feed-forward networks", 1)
        estimate = estimate_of(self.nets.factors_of(observation.image), self.nets.camera)
        progress.advance(1, 0.0)
        return estimate


@torch.no_grad()
def estimate_of(factors: Factors, camera: Camera) -> DepthEstimate:
    """The estimate that canonical factors make of the photo's depth."""
    depth = render_depth_with_margin(factors.depth[None], factors.view[None], camera)[0]
    return DepthEstimate(depth, has_surface(depth).float(), factors)


@dataclass(frozen=True)
class ShadedGeometry:
    """Canonical depth under lights and from views, before it has albedo: the part of Φ that albedo has no share in.

    Attributes:
        light: of each rendering.
        diffuse: canonical diffuse shading.
        grid: where each pixel of the renderings looks up the canonical maps.
        valid: where the object is visible.
    """

    light: Float[Tensor, "b 4"]
    diffuse: Float[Tensor, "b h w"]
    grid: Float[Tensor, "b h w 2"]
    valid: Bool[Tensor, "b h w"]

    def with_albedo(self, albedo: Float[Tensor, "_ 3 h w"]) -> RenderedBatch:
        """Renderings with one albedo for all or one each."""
        texture = shade(albedo.expand(len(self.light), -1, -1, -1), self.diffuse, self.light)
        return RenderedBatch(grid_sample(texture, self.grid), self.valid, self.diffuse)


def shade_geometry(
    depth: Float[Tensor, "_ h w"], view: Float[Tensor, "b 6"], light: Float[Tensor, "b 4"], camera: Camera
) -> ShadedGeometry:
    """Shade a canonical depth and see it from views; one depth serves many views."""
    batch = len(view)
    normal = depth_to_normals(depth, camera).expand(batch, -1, -1, -1)
    grid, valid = view_grid(depth.expand(batch, -1, -1), view, camera)
    return ShadedGeometry(light, diffuse_shading(normal, light), grid, valid)


def render_batch(
    canonical: Canonical, view: Float[Tensor, "b 6"], light: Float[Tensor, "b 4"], camera: Camera
) -> RenderedBatch:
    """Φ(d, a, v, l) of Eq. 1: one canonical object serves many views and lights."""
    return shade_geometry(canonical.depth, view, light, camera).with_albedo(canonical.albedo)


def camera_of(category: Category) -> Camera:
    """The category's camera at its working size."""
    return Camera(category.working_size, category.fov_deg, category.near, category.far)


def trained_nets(tensors: Mapping[str, Tensor], category: Category, means: NetworkMeans) -> FactorNets:
    """The category's jointly trained networks, from the tensors of its file.

    Networks with a mean depth (tensor `base`) need no means; those of `g2s pretrain` state the means that they were
    trained with; the authors' use the category's.
    """
    own = "base" in tensors

    def part(name: str) -> dict[str, Tensor]:
        return {key.removeprefix(f"{name}."): value for key, value in tensors.items() if key.startswith(f"{name}.")}

    return FactorNets(
        depth=MapNet.from_state(part("netD"), bounded=False),
        albedo=MapNet.from_state(part("netA"), bounded=True),
        view=CodeNet.from_state(part("netV")),
        light=CodeNet.from_state(part("netL")),
        camera=camera_of(category),
        mean_depth=tensors.get("base"),
        mean_view=torch.zeros(6) if own else tensors.get("mean_view", means.view),
        mean_light=torch.zeros(4) if own else tensors.get("mean_light", means.light),
        symmetric=own,
    )


def fresh_nets(category: Category, means: NetworkMeans, width: int | None = None) -> FactorNets:
    """Untrained networks. width: of their first layers; None is the authors'."""
    size = category.working_size
    width = width or default_width(size)
    return FactorNets(
        depth=MapNet(size, 1, width, bounded=False),
        albedo=MapNet(size, 3, width, bounded=True),
        view=CodeNet(size, 6, width),
        light=CodeNet(size, 4, width),
        camera=camera_of(category),
        mean_depth=None,
        mean_view=means.view,
        mean_light=means.light,
    )
