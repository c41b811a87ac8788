"""Pictures of a result under other lights and from other sides."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from g2s_cli.errors import UsageError
from g2s_cli.geometry.factors import Factors
from g2s_cli.loading import Machine
from g2s_cli.mesh.export import MeshOptions
from g2s_cli.mesh.render import rasterize_mesh, render_mesh
from g2s_cli.mesh.texture import relight_texture
from g2s_cli.result.gan_renderer import render_with_gan
from g2s_cli.result.schema import Result
from g2s_cli.result.surface import textured_mesh

Renderer = Literal["mesh", "gan"]  # rendered from the mesh, or projected through the generator
PICTURE_SIZES = (16, 2048)  # pixels a side of pictures of the mesh, from and to


def relight(
    result: Result,
    lights: Sequence[tuple[float, float]],
    *,
    by: Renderer = "mesh",
    size: int | None = None,
    device: str = "auto",
) -> list[Float[Tensor, "3 h w"]]:
    """Pictures of the object under other lights, in [-1, 1] on white.

    lights: each (x, y) as the aligned crop shows it: x to the right, y up, (0, 0) at the camera; (1, 0) stands 45° to
    the right. by: "mesh" renders the shape with the photo's own pixels at `size` pixels a side (the photo's, 512 at
    most), "gan" projects renderings through the GAN at its size. device: for the GAN. Raises UsageError for sizes,
    lights and devices that cannot be used, WeightsError where the GAN is missing or another. `relight_each` of
    `g2s_cli.result.pictures` gives one picture at a time.
    """
    return list(relight_each(result, lights, by=by, size=size, device=device))


def rotate(
    result: Result,
    turns: Sequence[tuple[float, float]],
    *,
    by: Renderer = "mesh",
    size: int | None = None,
    device: str = "auto",
) -> list[Float[Tensor, "3 h w"]]:
    """Pictures of the object turned from where the photo saw it, in [-1, 1] on white.

    turns: each (yaw, pitch) in radians, within ±π/2: yaw to the aligned crop's right, pitch upwards. The shape is good
    to about 0.5 to each side. All else as for `relight`; `rotate_each` gives one picture at a time.
    """
    return list(rotate_each(result, turns, by=by, size=size, device=device))


def relight_each(
    result: Result,
    lights: Sequence[tuple[float, float]],
    *,
    by: Renderer = "mesh",
    size: int | None = None,
    device: str = "auto",
) -> Iterator[Float[Tensor, "3 h w"]]:
    """The object under other lights, each (x, y) as the aligned crop shows it: x to the right, y up, 0,0 at the camera.

    A picture is made when it is asked for. by: rendered from the shape and the photo's own pixels, at `size` pixels a
    side, or projected through the GAN at its size. Raises UsageError at once for a size that goes with the GAN, for
    sizes and lights that cannot be shown, and for a device that is not here, needed or not.
    """
    check_shown(lights, "light", size)
    variants = [result.factors.relight(x, y) for x, y in lights]
    _check_device(device)
    if by != "mesh":
        return _by_gan(result, variants, by, size, device)
    mesh, texture = textured_mesh(result, MeshOptions(), extend=True)
    camera = result.camera.resize(size or result.picture_size)
    seen = rasterize_mesh(mesh, texture.lit.shape[-1], result.factors.view, camera)
    return (seen.sample_texture(relight_texture(texture, factors, result.camera)).on_white for factors in variants)


def rotate_each(
    result: Result,
    turns: Sequence[tuple[float, float]],
    *,
    by: Renderer = "mesh",
    size: int | None = None,
    device: str = "auto",
) -> Iterator[Float[Tensor, "3 h w"]]:
    """The object turned by (yaw, pitch) radians from the photo's view: yaw to the aligned crop's right, pitch upwards.

    by, size, errors: as for `relight_each`.
    """
    check_turns(turns, size)
    variants = [result.factors.rotate(yaw, pitch) for yaw, pitch in turns]
    _check_device(device)
    if by != "mesh":
        return _by_gan(result, variants, by, size, device)
    mesh, texture = textured_mesh(result, MeshOptions(), extend=True)
    camera = result.camera.resize(size or result.picture_size)
    return (render_mesh(mesh, texture.lit, factors.view, camera).on_white for factors in variants)


def check_shown(places: Sequence[tuple[float, float]], what: str, size: int | None) -> None:
    """Raise UsageError for a size out of range, and for what is no pair of finite numbers."""
    least, most = PICTURE_SIZES
    if size is not None and not least <= size <= most:
        raise UsageError(f"--size {size} is out of range.", f"Give {least} to {most} pixels a side.")
    for place in places:
        if len(place) != 2 or not all(map(math.isfinite, place)):
            raise UsageError(f"There is no {what} {place}.", "Give pairs of finite numbers.")


def check_turns(turns: Sequence[tuple[float, float]], size: int | None) -> None:
    """Raise UsageError as `check_shown`, and for what lies beyond a right angle."""
    check_shown(turns, "turn", size)
    for turned in turns:
        if max(map(abs, turned)) > math.pi / 2 + 1e-6:
            raise UsageError(f"There is no turn {turned}.", "Give radians, within ±π/2.")


def _check_device(name: str) -> None:
    """Raise UsageError for a device that is not here. What is always here is not woken up for it."""
    if name != "auto":
        Machine.named(name)


def _by_gan(
    result: Result, variants: Sequence[Factors], by: Renderer, size: int | None, device: str
) -> Iterator[Float[Tensor, "3 h w"]]:
    """The pictures of the GAN, which has a size of its own."""
    if by != "gan":
        raise UsageError(f"There is no way {by!r} to show a result.", "Use --by mesh or --by gan.")
    if size is not None:
        raise UsageError("What the GAN paints has the GAN's own size.", "Use --size with --by mesh.")
    return render_with_gan(result, variants, Machine.named(device))
