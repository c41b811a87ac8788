"""Training StyleGAN2: adversarially, and by reconstruction of real images through an encoder.

An update generates images once. The discriminator learns from them first; then the generator learns through the same
images and the updated discriminator, and through its reconstructions of real images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from g2s_cli.errors import UsageError
from g2s_cli.gan.stylegan2 import Generator
from g2s_cli.geometry.image import to_uint8
from g2s_cli.machine import Machine
from g2s_cli.progress import Progress
from g2s_cli.result.contact_sheet import contact_sheet
from g2s_cli.seeding import seeded_generator, seeded_weights
from g2s_cli.training.augment import adapted_probability, random_augmentation
from g2s_cli.training.checkpoint import load_checkpoint
from g2s_cli.training.dataset import ImageDataset
from g2s_cli.training.distributed import Group
from g2s_cli.training.encoder import Encoder
from g2s_cli.training.fid import random_images
from g2s_cli.training.gan_losses import (
    discriminator_loss,
    generator_loss,
    latent_loss,
    path_lengths,
    r1_penalty,
    reconstruction_loss,
)
from g2s_cli.training.gan_networks import (
    LATENT,
    GanState,
    detached,
    discriminator_of,
    gan_for,
    generator_of,
    parameters,
    trainable,
)
from g2s_cli.training.trainer import CHECKPOINT, Trainer, descend, linear_warm_up

SHEET = 32  # samples on a contact sheet
ADAPT_EVERY = 4  # updates between two changes of the probability of augmentation
Transformation = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class GanConfig:
    """How a GAN is trained.

    Attributes:
        batch: images an update, over all processes; a multiple of four for each.
        lr, generator_lr, encoder_lr: Adam's learning rates, the first the discriminator's.
        warm_up: updates in which the learning rates rise.
        r1, r1_every: weight of the R1 penalty, and updates between two.
        path, path_every: weight of path-length regularisation, 0 for none, and updates between two, on half a batch.
        rec_weight: weight of the reconstruction of real images, 0 for none.
        encoder_updates: first updates, in which the encoder alone learns.
        half_life: of the generator's moving average, in images.
        ada_target: of the overfitting heuristic that adapts the augmentation, 0 for no augmentation; 0.6 in the paper.
        ada_images: images in which the probability of augmentation can rise from 0 to 1.
    """

    batch: int = 32
    lr: float = 2e-3
    generator_lr: float = 2e-3
    warm_up: int = 100
    r1: float = 0.1
    r1_every: int = 16
    path: float = 0.0
    path_every: int = 8
    rec_weight: float = 0.0
    encoder_updates: int = 300
    encoder_lr: float = 1e-3
    half_life: int = 10_000
    ada_target: float = 0.0
    ada_images: int = 500_000
    seed: int = 0


class GanTraining:
    """The networks of a GAN in training, and one update of them.

    Attributes:
        average: the exponential moving average of the generator, which is the result.
        encoder: of images into W; None without reconstruction.
        path_length: moving mean of the path lengths.
        augment_p: probability of each transformation of the discriminator's images.
        optimizer: Adam over all three networks; an update steps it for one after the other.
    """

    def __init__(self, gan: GanState, config: GanConfig, images: ImageDataset, machine: Machine, group: Group) -> None:
        self.config, self.images, self.machine, self.group = config, images, machine, group
        self.average = {name: tensor.to(machine.device) for name, tensor in gan.generator.items()}
        self.generator = trainable(self.average)
        self.discriminator = trainable(gan.discriminator, machine.device)
        self.encoder: Encoder | None = None
        if config.rec_weight:
            with seeded_weights(config.seed):
                self.encoder = Encoder(generator_of(self.average).size).to(machine.device)
        self.path_length, self.augment_p = 0.0, 0.0
        self.optimizer = torch.optim.Adam(list(self._parameter_groups()), fused=True)

    def state_dict(self) -> dict[str, Any]:
        """All that an update changes, beside the optimiser."""
        return {
            "generator": detached(self.generator),
            "discriminator": detached(self.discriminator),
            "average": self.average,
            "encoder": self.encoder.state_dict() if self.encoder else {},
            "path_length": self.path_length,
            "augment_p": self.augment_p,
        }

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        """Restore `state_dict`."""
        for own, saved in ((self.generator, state["generator"]), (self.discriminator, state["discriminator"])):
            for name, tensor in own.items():
                tensor.data.copy_(saved[name])
        self.average = {name: tensor.to(self.machine.device) for name, tensor in state["average"].items()}
        if self.encoder:
            self.encoder.load_state_dict(state["encoder"])
        self.path_length, self.augment_p = state["path_length"], state["augment_p"]

    def step(self, update: int) -> dict[str, Tensor]:
        """One update of all networks, or of the encoder alone; the losses it has computed."""
        z, real = self.batch(update)
        if self.encoder and update < self.config.encoder_updates:
            generator = generator_of(detached(self.generator), self.machine.dtype)
            w = generator.mapping(z)
            encoder_loss, reconstruction = self._encoder_losses(self.encoder, generator, w, generator(w), real)
            self._descend(encoder_loss)
            return {"reconstruction": reconstruction.detach()}
        losses = self._adversarial_step(update, z, real)
        decay = 0.5 ** (self.config.batch / self.config.half_life)
        latest = detached(self.generator)
        self.average = {name: torch.lerp(latest[name], average, decay) for name, average in self.average.items()}
        return losses

    def batch(self, update: int) -> tuple[Float[Tensor, "b d"], Float[Tensor, "b 3 s s"]]:
        """This process's share of an update's latents and real images; every image comes once an epoch."""
        batch, start, count = self.config.batch, update * self.config.batch, len(self.images)
        mine = self._share
        rng = seeded_generator(self.config.seed, "step", update)
        z = torch.randn(batch, LATENT, generator=rng)[mine]
        flipped = torch.rand(batch, generator=rng)[mine] < 0.5
        epochs = range(start // count, (start + batch - 1) // count + 1)
        orders = [torch.randperm(count, generator=seeded_generator(self.config.seed, "epoch", one)) for one in epochs]
        real = self.images.take(torch.cat(orders)[start % count :][:batch][mine], flipped)
        return z.to(self.machine.device), real.to(self.machine.device)

    def _adversarial_step(
        self, update: int, z: Float[Tensor, "b d"], real: Float[Tensor, "b 3 s s"]
    ) -> dict[str, Tensor]:
        config, dtype = self.config, self.machine.dtype
        generator = generator_of(self.generator, dtype)
        w = generator.mapping(z)
        fake = generator(w)

        augment_fake, augment_real = self._augmentations(update)
        augmented = augment_real(real)
        discriminator = discriminator_of(self.discriminator, dtype)
        real_logits = discriminator(augmented)
        losses = {"discriminator": discriminator_loss(discriminator(augment_fake(fake.detach())), real_logits)}
        loss = losses["discriminator"]
        if update % config.r1_every == 0:
            losses["r1"] = r1_penalty(discriminator, augmented)
            loss = loss + losses["r1"] * (config.r1 / 2 * config.r1_every)
        self._descend(loss)

        # The updated discriminator, which does not learn from this.
        loss = generator_loss(discriminator_of(detached(self.discriminator), dtype)(augment_fake(fake)))
        losses = {"generator": loss} | losses
        if config.path and update % config.path_every == 0:
            losses["path"] = self._path_spread(update, z)
            loss = loss + losses["path"] * (config.path * config.path_every)
        if self.encoder:
            encoder_loss, losses["reconstruction"] = self._encoder_losses(self.encoder, generator, w, fake, real)
            loss = loss + encoder_loss
        self._descend(loss)
        if config.ada_target:
            losses |= self._adapt_augmentation(update, real_logits)
        return {name: value.detach() for name, value in losses.items()}

    @property
    def _share(self) -> slice:
        """This process's part of a batch."""
        share = self.config.batch // self.group.size
        return slice(self.group.rank * share, (self.group.rank + 1) * share)

    def _augmentations(self, update: int) -> tuple[Transformation, Transformation]:
        """Random transformations of this process's generated and real images."""
        if not self.augment_p:
            return torch.nn.Identity(), torch.nn.Identity()
        rng = seeded_generator(self.config.seed, "augment", update)
        fake, real = (random_augmentation(self.config.batch, self.augment_p, rng)[self._share] for _ in range(2))
        return fake, real

    def _adapt_augmentation(self, update: int, real_logits: Float[Tensor, "b 1"]) -> dict[str, Tensor]:
        """Adapt the probability of augmentation every fourth update; the overfitting heuristic and the probability."""
        if update % ADAPT_EVERY:
            return {}
        own = real_logits.detach().sign().mean().item()
        overfitting = mean(float(text) for text in self.group.all_gather(str(own)))
        step = self.config.batch * ADAPT_EVERY / self.config.ada_images
        self.augment_p = adapted_probability(self.augment_p, overfitting, self.config.ada_target, step)
        return {"overfitting": torch.tensor(overfitting), "augment_p": torch.tensor(self.augment_p)}

    def _encoder_losses(
        self,
        encoder: Encoder,
        generator: Generator,
        w: Float[Tensor, "b d"],
        fake: Float[Tensor, "b 3 s s"],
        real: Float[Tensor, "b 3 s s"],
    ) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """The loss of latents of generated images and of reconstructions of half of the real ones; the latter alone."""
        some = real[: len(real) // 2]
        reconstruction = reconstruction_loss(generator(encoder(some, generator.compute_dtype)), some)
        predicted = encoder(fake.detach(), generator.compute_dtype)
        return latent_loss(predicted, w.detach()) + self.config.rec_weight * reconstruction, reconstruction

    def _path_spread(self, update: int, z: Float[Tensor, "b d"]) -> Float[Tensor, ""]:
        """Mean squared deviation of path lengths from their moving mean, in float32, on half the batch."""
        generator = generator_of(self.generator)
        w = generator.mapping(z[: max(1, len(z) // 2)])
        rng = seeded_generator(self.config.seed, "path", update)
        noise = torch.randn(len(w), 3, generator.size, generator.size, generator=rng)
        lengths = path_lengths(generator, w, noise.to(self.machine.device))
        average = lengths.mean().item()
        self.path_length = self.path_length + 0.01 * (average - self.path_length) if self.path_length else average
        return (lengths - self.path_length).square().mean()

    def _descend(self, loss: Float[Tensor, ""]) -> None:
        """Step the optimiser of those networks that the loss depends on."""
        descend(self.optimizer, [loss / self.group.size], self.group)

    def _parameter_groups(self) -> Iterator[dict[str, Any]]:
        """Adam's groups. Betas follow lazy regularisation: as if a regularised update were two (Karras et al. 2020)."""
        config = self.config
        path_every = config.path_every if config.path else 0
        for state, lr, every in (
            (self.generator, config.generator_lr, path_every),
            (self.discriminator, config.lr, config.r1_every),
        ):
            ratio = every / (every + 1) if every else 1.0
            yield {"params": parameters(state), "lr": lr, "betas": (0.0, 0.99**ratio)}
        if self.encoder:
            yield {"params": list(self.encoder.parameters()), "lr": config.encoder_lr, "betas": (0.9, 0.99)}


def train_gan(
    training: GanTraining, updates: int, folder: Path, progress: Progress, *, save_every_s: float = 300.0
) -> Trainer:
    """Train a GAN up to so many updates over all runs of a folder.

    A contact sheet of the average generator's images of the same latents comes with each checkpoint.

    Raises:
        UsageError: the folder was begun with another config.
        G2SError: the checkpoint is damaged, or a loss is not finite.
    """
    config = training.config

    def save_sheet() -> None:
        images = torch.cat(list(random_images(generator_of(training.average).cpu(), SHEET, seed=0)))
        sheet = contact_sheet([Image.fromarray(to_uint8(image)) for image in images], columns=8)
        sheet.save(folder / f"samples-{trainer.updates_of('train') * config.batch:08d}.png")

    trainer = Trainer(
        {"gan": training},
        folder / CHECKPOINT,
        training.group,
        progress,
        settings=asdict(config),
        save_every_s=save_every_s,
        on_save=save_sheet,
    )
    schedule = linear_warm_up(config.warm_up)
    trainer.phase("train", updates, training.step, optimizer=training.optimizer, schedule=schedule, images=config.batch)
    training.group.barrier()
    return trainer


def new_gan_training(
    checkpoint: Path | None, config: GanConfig, images: ImageDataset, machine: Machine, group: Group
) -> GanTraining:
    """A training from a GAN or from untrained networks. Raises UsageError for a batch that cannot be shared."""
    if config.batch % (4 * group.size):
        what = f"A batch of {config.batch} cannot be shared by {group.size} processes in multiples of four."
        raise UsageError(what, f"Use --batch {4 * group.size * max(1, config.batch // (4 * group.size))}.")
    return GanTraining(gan_for(checkpoint, images.size, config.seed), config, images, machine, group)


def trained_gan(folder: Path) -> GanState:
    """The average generator and the discriminator of a training's folder. Raises G2SError if it holds none."""
    with load_checkpoint(folder / CHECKPOINT, remedy=f"Delete {folder} and train again.") as content:
        state = content["state"]["gan"]
        return GanState(state["average"], state["discriminator"])
