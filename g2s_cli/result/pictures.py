"""Images of a result under other lights and from other views, without the photo around it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from g2s_cli.errors import UsageError
from g2s_cli.machine import Machine
from g2s_cli.mesh.extract import Mesh
from g2s_cli.mesh.options import MeshOptions
from g2s_cli.mesh.render import rasterize_mesh, render_mesh
from g2s_cli.mesh.texture import Texture, relight_texture
from g2s_cli.result.gan_renderer import render_with_gan
from g2s_cli.result.schema import Result
from g2s_cli.result.surface import textured_mesh
from g2s_cli.result.wide import widen

Renderer = Literal["mesh", "gan"]
Pairs = Sequence[tuple[float, float]]  # positions of lights, or angles
Image = Float[Tensor, "3 h w"]
PICTURE_SIZES = (16, 2048)  # pixels a side of images of the mesh, from and to
MAX_STRENGTH = 4.0  # of a light
MAX_TURN_RAD = math.pi / 2 + 1e-6


def relight(
    result: Result,
    lights: Pairs,
    *,
    strength: float | None = None,
    ambient: float | None = None,
    renderer: Renderer = "mesh",
    size: int | None = None,
    device: str = "auto",
) -> list[Image]:
    """Images of the object under other lights.

    Args:
        result: The result.
        lights: Positions (x, y) in the aligned crop: x to the right, y up, (0, 0) at the camera, (1, 0) at 45° to the
            right.
        strength, ambient: Of each light and of light from all sides, as in light.json; by default 0.63 and 0.37 of the
            photo's sum of both, but the photo's own at the photo's own position.
        renderer: "mesh" renders the mesh with the photo's pixels; "gan" projects renderings through the generator.
        size: Pixels a side, for "mesh" only; by default those of the photo, at most 512.
        device: Device of the GAN.

    Returns:
        Images in [-1, 1], on white. `relight_each` yields them one by one.

    Raises:
        UsageError: A size, light or device cannot be used.
        WeightsError: The GAN is missing, or is not the result's.
    """
    return list(
        relight_each(result, lights, strength=strength, ambient=ambient, renderer=renderer, size=size, device=device)
    )


def rotate(
    result: Result,
    turns: Pairs | None = None,
    *,
    turns_deg: Pairs | None = None,
    renderer: Renderer = "mesh",
    size: int | None = None,
    device: str = "auto",
) -> list[Image]:
    """Images of the object, turned from the photo's view. `rotate_each` yields them one by one.

    Args:
        result: The result.
        turns: Angles (yaw, pitch) in radians, within ±π/2: yaw to the aligned crop's right, pitch upwards. The shape is
            good to about ±0.5.
        turns_deg: The same in degrees, instead of `turns`.
        renderer, size, device: As for `relight`, as are the images and the errors.
    """
    if (turns is None) == (turns_deg is None):
        raise UsageError("rotate takes turns or turns_deg.", "Give one of them.")
    if turns is None:
        turns = [(math.radians(yaw), math.radians(pitch)) for yaw, pitch in turns_deg or ()]
    return list(rotate_each(result, turns, renderer=renderer, size=size, device=device))


def picture(
    result: Result,
    *,
    yaw_deg: float = 0.0,
    pitch_deg: float = 0.0,
    light: tuple[float, float] | None = None,
    strength: float | None = None,
    ambient: float | None = None,
    size: int | None = None,
) -> Image:
    """An image of the object, turned and lit at once, in [-1, 1] on white.

    Args:
        result: The result.
        yaw_deg, pitch_deg: The turn from the photo's view, within ±90.
        light: Its position (x, y) in the image that is made. None: the photo's light, which turns with the object.
        strength, ambient: As for `relight`.
        size: Pixels a side; by default those of the photo, at most 512.

    Raises:
        UsageError: An angle, light or size cannot be used.
    """
    turn = math.radians(yaw_deg), math.radians(pitch_deg)
    check_turns([turn], size)
    check_pairs([light] if light else [], "light")
    check_strengths(strength, ambient)
    result, mesh, texture = picture_mesh(result)
    factors = result.factors.rotate(*turn)
    texels = texture.lit
    if light:
        lit = factors.relight(*light, strength=strength, ambient=ambient)
        texels = relight_texture(texture, lit, result.camera)
    return render_mesh(mesh, texels, factors.view, result.camera.resize(size or result.picture_size)).on_white


@lru_cache(maxsize=1)
def picture_mesh(result: Result) -> tuple[Result, Mesh, Texture]:
    """The result in its wide frame, its mesh and texture as pictures show them; kept for the next picture of it.

    Raises:
        ImageError: The photo in the result cannot be read.
    """
    wide = widen(result)
    return wide, *textured_mesh(wide, MeshOptions(), extend=True)


def relight_each(
    result: Result,
    lights: Pairs,
    *,
    strength: float | None = None,
    ambient: float | None = None,
    renderer: Renderer = "mesh",
    size: int | None = None,
    device: str = "auto",
) -> Iterator[Image]:
    """As `relight`, one image at a time. Arguments are checked before the first."""
    check_pairs(lights, "light", size)
    check_strengths(strength, ambient)
    if is_mesh := _is_mesh(renderer, size, device):
        result, mesh, texture = picture_mesh(result)
    variants = [result.factors.relight(x, y, strength=strength, ambient=ambient) for x, y in lights]
    if is_mesh:
        camera = result.camera.resize(size or result.picture_size)
        view = rasterize_mesh(mesh, texture.lit.shape[-1], result.factors.view, camera)
        lit = (relight_texture(texture, factors, result.camera) for factors in variants)
        return (view.sample_texture(texels).on_white for texels in lit)
    return render_with_gan(result, variants, Machine.named(device))


def rotate_each(
    result: Result, turns: Pairs, *, renderer: Renderer = "mesh", size: int | None = None, device: str = "auto"
) -> Iterator[Image]:
    """As `rotate`, one image at a time. Arguments are checked before the first."""
    check_turns(turns, size)
    if is_mesh := _is_mesh(renderer, size, device):
        result, mesh, texture = picture_mesh(result)
    variants = [result.factors.rotate(yaw, pitch) for yaw, pitch in turns]
    if is_mesh:
        camera = result.camera.resize(size or result.picture_size)
        return (render_mesh(mesh, texture.lit, factors.view, camera).on_white for factors in variants)
    return render_with_gan(result, variants, Machine.named(device))


def check_pairs(pairs: Pairs, name: str, size: int | None = None) -> None:
    """Raise UsageError for a size out of range, and for lights or turns that are not pairs of finite numbers."""
    least, most = PICTURE_SIZES
    if size is not None and not least <= size <= most:
        raise UsageError(f"--size {size} is out of range.", f"Give {least} to {most} pixels a side.")
    for pair in pairs:
        if len(pair) != 2 or not all(map(math.isfinite, pair)):
            raise UsageError(f"There is no {name} {pair}.", "Give pairs of finite numbers.")


def check_strengths(strength: float | None, ambient: float | None) -> None:
    """Raise UsageError for strengths out of range."""
    for option, value in (("--strength", strength), ("--ambient", ambient)):
        if value is not None and not 0 <= value <= MAX_STRENGTH:  # NaN is out of range, too
            raise UsageError(f"{option} {value:g} is out of range.", f"Give 0 to {MAX_STRENGTH:g}.")


def check_turns(turns: Pairs, size: int | None = None) -> None:
    """Raise UsageError as `check_pairs`, and for turns beyond a right angle."""
    check_pairs(turns, "turn", size)
    for turn in turns:
        if max(map(abs, turn)) > MAX_TURN_RAD:
            raise UsageError(f"There is no turn {turn}.", "Give radians, within ±π/2.")


def _is_mesh(renderer: Renderer, size: int | None, device: str) -> bool:
    """Whether the mesh is rendered, not the GAN. Raises UsageError for options that do not go together."""
    if device != "auto":
        Machine.named(device)  # raises for an unknown device, even where the mesh needs none
    if renderer not in ("mesh", "gan"):
        raise UsageError(f"There is no renderer {renderer!r}.", "Use --renderer mesh or --renderer gan.")
    if renderer == "gan" and size is not None:
        raise UsageError("What the GAN paints has the GAN's own size.", "Use --size with --renderer mesh.")
    return renderer == "mesh"
