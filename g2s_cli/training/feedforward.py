"""Training the feed-forward networks D, A, V, L and a mean shape on a GAN's random images, without labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from g2s_cli.config import Category
from g2s_cli.estimators.base import MaskedImages
from g2s_cli.estimators.factor_codes import raw_from_depth
from g2s_cli.estimators.feedforward import FactorNets, camera_of
from g2s_cli.estimators.gan2shape.prior import ellipsoid
from g2s_cli.estimators.morphable import Correspondences, find_correspondences
from g2s_cli.estimators.networks import CodeNet, MapNet
from g2s_cli.estimators.registration import ShapeTemplate
from g2s_cli.geometry.center_crop import CenterCrop
from g2s_cli.geometry.resample import tent_blur
from g2s_cli.geometry.warp import symmetrize
from g2s_cli.loading import Gan
from g2s_cli.seeding import seeded_generator, seeded_weights
from g2s_cli.training.feedforward_losses import (
    Losses,
    canonical_of,
    reconstruction_losses,
    render_labelled,
    view_light_loss,
)
from g2s_cli.training.latent_editing import LatentEditor, ObjectSampler, References
from g2s_cli.training.trainer import Trainer, cosine_schedule, descend

BATCH = 16  # images an update
LR, BASE_LR, MIN_LR = 3e-4, 2e-3, 0.03  # of the networks and of the mean shape; the last is a share of both
WARM_UP = 200  # updates
BETAS = (0.9, 0.99)
MAP_WIDTH, BOTTLENECK, VIEW_WIDTH, LIGHT_WIDTH = 32, 128, 32, 16
DEPTH_INIT = 0.1  # scale of D's initial last layer: the mean shape learns first
ELLIPSOID_NEAR = 0.95  # of the initial mean shape (docs/experiments/ellipsoid.md)
REGRESS_EVERY = 500  # updates between two latent editors
SHARPENING = 0.5  # of the template: a mean of predictions is blurred


@dataclass(frozen=True)
class Phase:
    """A part of the training, with an optimiser of its own.

    Attributes:
        labelled: whether V and L also learn from labelled renderings. These have no background; images then have none.
        views: of each object, by latent editing; one canonical object is rendered for all of them.
        coarse_weight: of `reconstruction_losses`.
    """

    name: str
    updates: int
    labelled: bool
    views: int
    coarse_weight: float


# Reconstruction alone cannot tell a small turn of a deep shape from a large turn of a flat one. Labelled renderings fix
# the scale of views, and several views of an object leave one depth (docs/experiments/joint-training.md).
PHASES = (
    Phase("reconstruct", 3100, labelled=False, views=1, coarse_weight=0.0),
    Phase("labelled views", 2600, labelled=True, views=1, coarse_weight=0.0),
    Phase("multi-view", 6000, labelled=True, views=4, coarse_weight=0.5),
)


def phases(updates: int) -> tuple[Phase, ...]:
    """The phases with other numbers of updates; updates: of the last, the others in proportion."""
    share = updates / PHASES[-1].updates
    return tuple(replace(phase, updates=max(1, round(phase.updates * share))) for phase in PHASES)


@dataclass(frozen=True)
class TrainedNetworks:
    """Networks with the GAN they were trained on and its template. tensors: of their file."""

    tensors: dict[str, Tensor]
    nets: FactorNets
    sampler: ObjectSampler
    template: ShapeTemplate

    @classmethod
    def of(cls, tensors: dict[str, Tensor], nets: FactorNets, category: Category, gan: Gan) -> TrainedNetworks:
        """Networks read from a file with `mean_depth` and `directions`."""
        device = gan.generator.latent_avg.device
        depth, directions = (tensors[name].float().to(device) for name in ("mean_depth", "directions"))
        template = ShapeTemplate(depth, gan.generator.latent_avg, directions, gan.segmenter)
        return cls(tensors, nets, sampler_of(gan, category), template)

    def correspond(self, objects: MaskedImages, latents: Float[Tensor, "b d"]) -> Correspondences:
        """Correspondences of objects with the template. objects: 0 outside their masks."""
        layers, render = self.sampler.gan.generator.layers, self.sampler.objects
        return find_correspondences(objects, latents, self.template, self.nets, layers, render)


def sampler_of(gan: Gan, category: Category) -> ObjectSampler:
    """Images of the GAN in the category's centre crop."""
    return ObjectSampler(gan, CenterCrop(category.frame_share, category.working_size))


def new_networks(category: Category, references: References, dtype: torch.dtype, seed: int) -> FactorNets:
    """Untrained networks; the mean shape is half an ellipsoid on the references' mean mask."""
    size, camera = category.working_size, camera_of(category)
    with seeded_weights(seed):
        depth = MapNet(size, 1, MAP_WIDTH, BOTTLENECK, bounded=False)
        albedo = MapNet(size, 3, MAP_WIDTH, BOTTLENECK, bounded=True)
        view, light = CodeNet(size, 6, VIEW_WIDTH), CodeNet(size, 4, LIGHT_WIDTH)
    with torch.no_grad():
        list(depth.parameters())[-1].mul_(DEPTH_INIT)
    shape = ellipsoid(references.masks.mean(dim=0)[0].cpu(), replace(category.ellipsoid, near=ELLIPSOID_NEAR))
    means = torch.zeros(6), torch.zeros(4)
    nets = FactorNets(depth, albedo, view, light, camera, raw_from_depth(shape, camera), *means, symmetric=True)
    return nets.to(references.images.device, dtype)


class FeedForwardTraining:
    """The networks in training, their mean shape, and the latent editor of the networks as they were."""

    def __init__(
        self, nets: FactorNets, sampler: ObjectSampler, references: References, category: Category, seed: int
    ) -> None:
        if nets.mean_depth is None:
            raise ValueError("networks without a mean shape")
        self.mean_depth = nn.Parameter(nets.mean_depth.clone())
        self.initial, self.sampler, self.references = nets, sampler, references
        self.lights, self.seed = category.lights, seed
        self.editor: LatentEditor | None = None

    @property
    def nets(self) -> FactorNets:
        """The networks with the mean shape as it is now, made symmetric."""
        return replace(self.initial, mean_depth=symmetrize(self.mean_depth))

    @property
    def modules(self) -> dict[str, nn.Module]:
        """The networks by their names in files."""
        nets = self.initial
        return {"netD": nets.depth, "netA": nets.albedo, "netV": nets.view, "netL": nets.light}

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The networks in half precision, and the mean shape, as a category's file has them."""
        named = {f"{name}.{key}": each for name, net in self.modules.items() for key, each in net.state_dict().items()}
        mean_depth = symmetrize(self.mean_depth.detach()).cpu()
        return {name: tensor.half().cpu() for name, tensor in named.items()} | {"base": mean_depth}

    def state_dict(self) -> dict[str, Any]:
        """All that an update changes, beside the optimiser."""
        state: dict[str, Any] = {name: net.state_dict() for name, net in self.modules.items()}
        return state | {"base": self.mean_depth.data, "editor": vars(self.editor) if self.editor else {}}

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        """Restore `state_dict`."""
        for name, net in self.modules.items():
            net.load_state_dict(state[name])
        self.mean_depth.data.copy_(state["base"])
        editor = {name: tensor.to(self.mean_depth.device) for name, tensor in state["editor"].items()}
        self.editor = LatentEditor(**editor) if editor else None

    def run(self, trainer: Trainer, todo: Sequence[Phase]) -> None:
        """Do the phases, and correct the mean shape in the end."""
        for phase in todo:
            weights = [parameter for net in self.modules.values() for parameter in net.parameters()]
            groups = [{"params": weights, "lr": LR}, {"params": [self.mean_depth], "lr": BASE_LR}]
            adam = torch.optim.Adam(groups, betas=BETAS, fused=True)

            def step(update: int, phase: Phase = phase, adam: torch.optim.Adam = adam) -> dict[str, float | Tensor]:
                losses = self.losses(phase, update)
                loss = descend(adam, [sum(losses.values(), start=self.mean_depth.new_zeros(()))], trainer.group)
                return {"loss": loss} | {name: term.detach() for name, term in losses.items()}

            schedule = cosine_schedule(phase.updates, WARM_UP, MIN_LR)
            trainer.phase(phase.name, phase.updates, step, optimizer=adam, schedule=schedule, images=BATCH)
        trainer.once("center", self.center_mean_shape)

    def losses(self, phase: Phase, update: int) -> Losses:
        """The terms of an update's loss."""
        nets = self.nets
        if phase.views > 1 and update % REGRESS_EVERY == 0:
            self.editor = LatentEditor.of(nets, self.references)
        rng = seeded_generator(self.seed, phase.name, update)
        images = self._images(phase, rng)
        canonical = canonical_of(nets, images, phase.views)
        view, light = nets.view_of(images.image), nets.light_of(images.image)
        losses = reconstruction_losses(canonical, view, light, images, nets.camera, phase.coarse_weight)
        if not phase.labelled:
            return losses
        labelled = render_labelled(canonical, view, images.mask, nets.camera, self.lights, rng)
        return losses | view_light_loss(nets, labelled)

    @torch.no_grad()
    def center_mean_shape(self) -> None:
        """Shift the mean shape until D's mean depth of the references is its mean depth of the mean object's views.

        Predictions for many objects are blurred where these differ, at the step from chin to neck above all
        (docs/experiments/shape-augmentation.md). The GAN turns the mean object without changing it.
        """
        nets = self.nets

        def mean_raw(objects: References) -> Float[Tensor, "h w"]:
            depth = objects.predict(nets.depth_of)
            return symmetrize(raw_from_depth(depth, nets.camera).mean(dim=0))

        latents = LatentEditor.of(nets, self.references).template_latents()
        template = self.sampler.objects(latents)
        shift = mean_raw(References(latents, template.image, template.mask)) - mean_raw(self.references)
        self.mean_depth.data.copy_(symmetrize(self.mean_depth.data) + shift - shift.mean())

    def _images(self, phase: Phase, rng: torch.Generator) -> MaskedImages:
        latents = self.sampler.latents(BATCH // phase.views, rng)
        if phase.views > 1 and self.editor is not None:
            latents = self.editor.random_views(latents, phase.views, rng).flatten(0, 1)
        return self.sampler.objects(latents) if phase.labelled else self.sampler.images(latents)


@torch.no_grad()
def mean_template(nets: FactorNets, editor: LatentEditor, sampler: ObjectSampler) -> ShapeTemplate:
    """The GAN's mean object, with the sharpened mean of D's depth of it from many views."""
    depth = nets.depth_of(sampler.objects(editor.template_latents()).image).mean(dim=0)
    gan = sampler.gan
    return ShapeTemplate(unsharp_mask(depth), gan.generator.latent_avg, editor.directions, gan.segmenter)


def unsharp_mask(depth: Float[Tensor, "h w"]) -> Float[Tensor, "h w"]:
    """Depth with sharper edges."""
    return depth + SHARPENING * (depth - tent_blur(depth[None, None], 1)[0, 0])
