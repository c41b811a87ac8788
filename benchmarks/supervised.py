"""The supervised upper bound of table 1: a network with D's layers and width that is taught the true depth of renders.

Unlike D it says the depth that the photo shows, in the photo's own view, and it is given the true mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import normalize
from torch.optim.lr_scheduler import CosineAnnealingLR

from g2s_cli.config import Category
from g2s_cli.estimators.feedforward import camera_of
from g2s_cli.estimators.networks import MapNet, default_width
from g2s_cli.evaluation.benchmark import depth_metrics
from g2s_cli.evaluation.ground_truth import DepthPair, read_ground_truth
from g2s_cli.gan.losses import masked_mean
from g2s_cli.geometry.camera import Camera
from g2s_cli.geometry.center_crop import CenterCrop
from g2s_cli.geometry.metrics import erode
from g2s_cli.geometry.normals import depth_to_normals
from g2s_cli.machine import Machine
from g2s_cli.photo.align import CropOptions
from g2s_cli.photo.load import open_photo
from g2s_cli.progress import Progress
from g2s_cli.weights.tensors import load_tensors, submodule_state

BATCH = 32
RATE = 1e-3


@dataclass(frozen=True)
class Lessons:
    """Photos less their background (n 3 s s), their true depth in scene units and true masks (n s s)."""

    image: Tensor
    depth: Tensor
    mask: Tensor

    def pick(self, index: Tensor) -> Lessons:
        return Lessons(self.image[index], self.depth[index], self.mask[index])

    def flipped(self, which: Tensor) -> Lessons:
        """Some of them mirrored left to right. which: (n,), bool."""
        flip = which[:, None, None]
        return Lessons(
            torch.where(flip[:, None], self.image.flip(-1), self.image),
            torch.where(flip, self.depth.flip(-1), self.depth),
            torch.where(flip, self.mask.flip(-1), self.mask),
        )

    def to(self, device: torch.device) -> Lessons:
        return Lessons(self.image.to(device), self.depth.to(device), self.mask.to(device))


def read_lessons(pairs: Sequence[DepthPair], category: Category) -> Lessons:
    """What pairs of a photo and its depth teach. Raises G2SError for those that cannot be read."""
    center_crop = CenterCrop(category.frame_share, category.working_size)
    crop_options = CropOptions(align=False)
    truths = [read_ground_truth(pair.depth, category.frame_share, category.working_size) for pair in pairs]
    photos = [
        center_crop(open_photo(pair.photo, category.image_size, crop_options=crop_options).image[None])[0]
        for pair in pairs
    ]
    mask = torch.stack([truth.mask for truth in truths])
    return Lessons(torch.stack(photos) * mask[:, None], torch.stack([truth.depth for truth in truths]), mask)


def width_of_depth_net(category: Category, networks: Path | None) -> int:
    """How wide the category's own D is at its first layer; the authors' width where it has none."""
    if networks is None:
        return default_width(category.working_size)
    return len(submodule_state(load_tensors(networks), "netD")["network.0.weight"])


def predicted(net: MapNet, image: Tensor, camera: Camera, machine: Machine) -> Tensor:
    """Depth (b h w) of images."""
    with torch.autocast(image.device.type, machine.dtype, enabled=machine.dtype != torch.float32):
        raw = net(image)[:, 0].float()
    return (camera.far + camera.near) / 2 + (camera.far - camera.near) / 2 * torch.tanh(raw)


def lesson_loss(depth: Tensor, truth: Lessons, camera: Camera) -> Tensor:
    """L1 of depth in scene units plus one less the cosine between normals; both in the mask alone."""
    away = (depth - truth.depth).abs()
    told, true = (normalize(depth_to_normals(shape, camera), dim=-1) for shape in (depth, truth.depth))
    inside = erode(truth.mask)  # a normal takes a pixel of depth on every side
    askew = 1 - (told * true).sum(dim=-1)
    return masked_mean(away[:, None], truth.mask[:, None].float()) + masked_mean(
        askew[:, None], inside[:, None].float()
    )


def taught(
    lessons: Lessons, category: Category, width: int, updates: int, machine: Machine, seed: int, progress: Progress
) -> MapNet:
    """A network after so many updates of BATCH renders each, half of them mirrored."""
    torch.manual_seed(seed)  # fresh networks draw their weights from the global generator
    rng = torch.Generator().manual_seed(seed)
    net = MapNet(category.working_size, 1, width, bounded=False).to(machine.device)
    camera = camera_of(category)
    optimizer = torch.optim.Adam(net.parameters(), lr=RATE, fused=True)
    schedule = CosineAnnealingLR(optimizer, max(1, updates))
    progress.begin("supervised", updates)
    for done in range(updates):
        index = torch.randint(len(lessons.image), (BATCH,), generator=rng)
        batch = lessons.pick(index).flipped(torch.rand(BATCH, generator=rng) < 0.5).to(machine.device)
        optimizer.zero_grad()
        loss = lesson_loss(predicted(net, batch.image, camera, machine), batch, camera)
        loss.backward()
        optimizer.step()
        schedule.step()
        progress.advance(done + 1, loss.item())
    return net


@torch.no_grad()
def marks(net: MapNet, pairs: Sequence[DepthPair], category: Category, machine: Machine) -> list[dict[str, float]]:
    """What the network scores on every photo."""
    lessons, camera = read_lessons(pairs, category), camera_of(category)
    depth = torch.cat(
        [predicted(net, some.to(machine.device), camera, machine).cpu() for some in lessons.image.split(BATCH)]
    )
    truths = [read_ground_truth(pair.depth, category.frame_share, category.working_size) for pair in pairs]
    return [depth_metrics(one, truth.mask, truth, camera) for one, truth in zip(depth, truths, strict=True)]
