"""Training the depth network on synthetic pairs of image and depth."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from g2s_cli.estimators.depth_net import DepthNet
from g2s_cli.estimators.morphable import DECAY as FIT_DECAY
from g2s_cli.estimators.morphable import ITERATIONS as FIT_ITERATIONS
from g2s_cli.estimators.morphable import fit_coefficients, initial_coefficients
from g2s_cli.estimators.morphable_model import MorphableModel
from g2s_cli.geometry.rasterizer import VIEW_FAR, has_surface
from g2s_cli.geometry.warp import hflip
from g2s_cli.progress import Progress
from g2s_cli.seeding import seeded_generator, seeded_weights
from g2s_cli.training.morphable import Observations
from g2s_cli.training.pair_file import PairFile
from g2s_cli.training.synthetic import FittedObjects, Pairs, decompose, recombine
from g2s_cli.training.trainer import Trainer, cosine_schedule, descend

WIDTH, BOTTLENECK = 32, 256
DETAIL_SIZE, DETAIL_WIDTH = 128, 32  # networks for images of this size or more have a level of detail
ITERATIONS, BATCH = 6000, 32
LR, WEIGHT_DECAY, BETAS, WARM_UP = 1e-3, 0.02, (0.9, 0.98), 50
CLIP_NORM = 1.0
FILE_SHARE = 0.5  # of a batch from the file of pairs, if there is one
DEPTH_SCALE = 0.004  # scene units where the loss turns from quadratic to linear
GRADIENT_WEIGHT, COARSE_SIZE = 9.0, 64  # of depth's slopes from pixel to pixel, at that size; its cube for finer ones
# Augmentation: share of batches that are moved; standard deviations of rotation (radians), log scale, shift (halves of
# the side), log brightness, log colour, noise (of images in [-1, 1]).
MOVED, ROTATION, SCALE, SHIFT = 0.6, 0.12, 0.05, 0.07
BRIGHTNESS, COLOUR, NOISE = 0.1, 0.05, 0.02

DepthPredictor = Callable[[Tensor, Tensor], Tensor]  # images and masks → depth less one


def fit_objects(
    model: MorphableModel, photos: Observations, masks: Sequence[Float[Tensor, "_ 1 h w"]], progress: Progress
) -> FittedObjects:
    """The factors of photos: fit the morphable model, decompose. masks: of each part."""
    progress.begin("morphable fit", len(photos.parts))
    parts = []
    for number, (part, mask) in enumerate(zip(photos.parts, masks, strict=True), start=1):
        coeffs = fit_coefficients(
            model, part, photos.camera, initial_coefficients(model, part), FIT_ITERATIONS, FIT_DECAY
        )
        parts.append(decompose(model, part, coeffs, mask, photos.camera))
        progress.advance(number, part.weights.mean().item())
    return FittedObjects.concatenate(parts)


def training_batch(
    objects: FittedObjects,
    render: Callable[[FittedObjects], Pairs],
    seed: int,
    number: int,
    file: PairFile | None = None,
) -> Pairs:
    """The augmented synthetic pairs of an update; they depend on the seed and its number alone.

    file: of further pairs, which `FILE_SHARE` of them come from.
    """
    rng = seeded_generator(seed, "depth network", number)
    from_file = round(FILE_SHARE * BATCH) if file else 0
    pairs = render(recombine(objects, BATCH - from_file, rng))
    if file:
        pairs = Pairs.concatenate((pairs, file.draw(from_file, rng).to(pairs.image.device)))
    return augment(pairs, rng)


def new_depth_net(size: int, device: torch.device, seed: int) -> DepthNet:
    """An untrained network for square images of `size` px."""
    detail = DETAIL_WIDTH if size >= DETAIL_SIZE else 0
    with seeded_weights(seed):
        return DepthNet(size // 2 if detail else size, WIDTH, BOTTLENECK, detail).to(device)


def train_depth_net(
    net: DepthNet, batch: Callable[[int], Pairs], updates: int, trainer: Trainer, dtype: torch.dtype = torch.float32
) -> None:
    """Train the network.

    Args:
        batch: the synthetic pairs of an update.
        dtype: arithmetic of the convolutions.

    Raises:
        G2SError: the loss is not finite.
    """
    adam = torch.optim.AdamW(net.parameters(), lr=LR, betas=BETAS, weight_decay=WEIGHT_DECAY)

    def step(update: int) -> dict[str, float]:
        return {"loss": descend(adam, [depth_loss(net, batch(update), dtype)], trainer.group, clip_norm=CLIP_NORM)}

    schedule = cosine_schedule(updates, WARM_UP)
    trainer.phase("depth network", updates, step, optimizer=adam, schedule=schedule, images=BATCH)


@torch.no_grad()
def augment(pairs: Pairs, rng: torch.Generator) -> Pairs:
    """Rotate in the image plane, scale, shift and flip pairs; change brightness and colour, and add noise."""
    count, device = len(pairs.image), pairs.image.device

    def noise(*shape: int) -> Tensor:
        return torch.randn(count, *shape, generator=rng)

    moved = (torch.rand(count, generator=rng) < MOVED).float()
    angle, scale = moved * ROTATION * noise(), (moved * SCALE * noise()).exp()
    cos, sin, shift = angle.cos() / scale, angle.sin() / scale, moved[:, None] * SHIFT * noise(2)
    rows = (torch.stack((cos, -sin, shift[:, 0]), dim=1), torch.stack((sin, cos, shift[:, 1]), dim=1))
    grid = affine_grid(torch.stack(rows, dim=1), list(pairs.image.shape), align_corners=False).to(device)
    valid = has_surface(pairs.depth).to(pairs.mask.dtype).unsqueeze(1)
    maps = torch.cat((pairs.image * pairs.mask, pairs.mask, (pairs.depth - 1).unsqueeze(1) * valid, valid), dim=1)
    maps = grid_sample(maps, grid, align_corners=False)
    mask, valid = ((maps[:, index : index + 1] > 0.5).to(maps.dtype) for index in (3, 5))
    relative = maps[:, 4] / maps[:, 5].clamp(min=0.5) * scale.to(device)[:, None, None]  # depth scales with size
    depth = torch.where(valid[:, 0] > 0, 1 + relative, VIEW_FAR)
    gain = (BRIGHTNESS * noise(1, 1, 1) + COLOUR * noise(3, 1, 1)).exp().to(device)
    image = ((maps[:, :3] + 1) * gain - 1).clamp(-1, 1) + NOISE * noise(*pairs.image.shape[1:]).to(device)
    flip = (torch.rand(count, generator=rng) < 0.5).to(device)
    flipped = (
        torch.where(flip.view(-1, *[1] * (each.ndim - 1)), hflip(each), each) for each in (image * mask, mask, depth)
    )
    return Pairs(*flipped)


def depth_loss(net: DepthPredictor, pairs: Pairs, dtype: torch.dtype = torch.float32) -> Float[Tensor, ""]:
    """A robust distance of depth, up to its mean over each object, and of its slopes."""
    with torch.autocast(pairs.image.device.type, dtype, enabled=dtype != torch.float32):
        predicted = net(pairs.image, pairs.mask)
    weights = pairs.mask[:, 0] * has_surface(pairs.depth)
    error = predicted - (pairs.depth - 1)
    count = weights.sum(dim=(1, 2), keepdim=True).clamp(min=1)
    error = (error - (error * weights).sum(dim=(1, 2), keepdim=True) / count) / DEPTH_SCALE
    loss = _weighted_mean((1 + error.square()).sqrt() - 1, weights)
    slope_weight = GRADIENT_WEIGHT * max(1.0, error.shape[-1] / COARSE_SIZE) ** 3
    for dim in (1, 2):
        last = weights.shape[dim] - 1
        both = weights.narrow(dim, 1, last) * weights.narrow(dim, 0, last)
        loss = loss + _weighted_mean((1 + slope_weight * error.diff(dim=dim).square()).sqrt() - 1, both)
    return loss


def _weighted_mean(maps: Float[Tensor, "b h w"], weights: Float[Tensor, "b h w"]) -> Float[Tensor, ""]:
    return (maps * weights).sum() / weights.sum().clamp(min=1)
