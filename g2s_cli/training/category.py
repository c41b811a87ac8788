"""`g2s train`: from a GAN, or from photos alone, to a category, in stages. Each stage resumes where it was killed.

    photos ─ crops ─▶ gan ─▶ networks ─▶ morphable ─▶ photos ─▶ depth ─▶ category

The folder is the category: its files appear with the last stage. `work/` in it holds what the stages have made.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from g2s_cli import __version__
from g2s_cli.batch import find_photos
from g2s_cli.config import Category
from g2s_cli.errors import G2SError, ImageError, UsageError, shorten
from g2s_cli.estimators.feedforward import NetworkMeans, trained_nets
from g2s_cli.files import RESUME_REMEDY, atomic_write, read_json, sha256_of
from g2s_cli.geometry.image import to_uint8
from g2s_cli.loading import Gan, Weights, load_gan, with_gan_size
from g2s_cli.machine import Machine
from g2s_cli.photo.load import open_photo
from g2s_cli.progress import Progress, SilentProgress
from g2s_cli.training.dataset import ImageDataset
from g2s_cli.training.distributed import Group
from g2s_cli.training.feedforward import TrainedNetworks
from g2s_cli.training.fid import random_images
from g2s_cli.training.gan import GanConfig, new_gan_training, train_gan, trained_gan
from g2s_cli.training.gan_networks import as_checkpoint
from g2s_cli.training.networks import (
    StageRun,
    learn_morphable_model,
    learn_morphable_model_from_photos,
    train_depth_network,
    train_networks,
)
from g2s_cli.training.pair_file import PairFile
from g2s_cli.training.train_config import TrainConfig
from g2s_cli.value_types import check_type
from g2s_cli.weights.categories import load_category
from g2s_cli.weights.importers import read_checkpoint
from g2s_cli.weights.model_toml import README, derived_model_toml, set_file, write_model_toml
from g2s_cli.weights.tensors import load_tensors, quantize, submodule_state, write_weights

VERB = "g2s train"
WORK, STAGES_FILE, VIEWS = "work", "stages.json", "views.json"
GAN_FILE, NETWORKS_FILE = "gan.safetensors", "networks.safetensors"
BYTES = ("netA",)  # networks that are packed as int8: every photo's fit changes A

Figures = dict[str, Any]


@dataclass(frozen=True)
class CategoryTraining:
    """A category in the making.

    Attributes:
        gan_file: the GAN to begin with; None: it is trained on the photos.
        photos: a folder of photos or a .npy of crops; None: the GAN's random images serve as photos.
        begin: a GAN to begin the GAN's training with, of its size or half of it.
        folder: of the category.
        pairs: a file of pairs of image and depth, for the depth network.
    """

    config: TrainConfig
    gan_file: Path | None
    photos: Path | None
    begin: Path | None
    folder: Path
    seed: int
    machine: Machine
    progress: Progress
    group: Group = field(default_factory=Group)
    save_every_s: float = 300.0
    pairs: Path | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """What the result depends on beside the machine."""
        files = {"gan": self.gan_file, "photos": self.photos, "from": self.begin}
        named = {name: sha256_of(path) if path and path.is_file() else str(path or "") for name, path in files.items()}
        pairs = {"pairs": sha256_of(self.pairs)} if self.pairs else {}
        return asdict(self.config) | named | pairs | {"seed": self.seed}

    @property
    def work(self) -> Path:
        """The folder of the stages' own files."""
        return self.folder / WORK

    @property
    def done(self) -> dict[str, Figures]:
        """The figures of the stages that are done."""
        path = self.work / STAGES_FILE
        try:
            done = read_json(path) if path.is_file() else {}
            check_type(done, dict[str, dict[str, Any]], STAGES_FILE)
        except (OSError, TypeError, ValueError) as error:
            raise G2SError(f"{path} is damaged: {shorten(error)}.", "Delete it: the stages are done again.") from error
        return cast("dict[str, Figures]", done)

    @property
    def stages(self) -> dict[str, Callable[[], Figures]]:
        """The stages, in order."""
        if self.gan_file:
            first = {"gan": self.keep_gan, "crops": self.crop_photos}
        else:
            first = {"crops": self.crop_photos, "gan": self.train_gan}
        return {
            **first,
            "networks": self.train_networks,
            "morphable": self.learn_morphable_model,
            "photos": self.learn_from_photos,
            "depth": self.train_depth_network,
            "category": self.write_category,
        }

    def run(self, stage: str | None = None, until: str | None = None) -> dict[str, Figures]:
        """Do the stages that are not done yet, and return the figures of all that are.

        Args:
            stage: this one alone, again if it is done.
            until: the last one to do.

        Raises:
            UsageError: there is no such stage, or the stages before `stage` are not done.
            G2SError: a file is damaged, or the disk refuses.
        """
        names = list(self.stages)
        for name in (stage, until):
            if name is not None and name not in names:
                raise UsageError(f"There is no stage {name!r}.", f"Choose one of: {', '.join(names)}.")
        if stage and (missing := [name for name in names[: names.index(stage)] if name not in self.done]):
            raise UsageError(f"The stage {stage} needs {missing[0]}, which is not done.", f"Use --until {stage}.")
        last = names.index(stage or until or names[-1])
        to_do = [stage] if stage else [name for name in names[: last + 1] if name not in self.done]
        # The first process's list is everybody's: the others may read the file only when stages have been added to it.
        for name in json.loads(self.group.all_gather(json.dumps(to_do))[0]):
            self._do(name)
        return self.done

    def _do(self, name: str) -> None:
        begun = time.monotonic()
        # Several processes share the training of the GAN alone.
        figures = self.stages[name]() if self.group.is_main or name == "gan" else {}
        seconds = round(time.monotonic() - begun, 1)
        if self.group.is_main:
            with atomic_write(self.work / STAGES_FILE, RESUME_REMEDY) as temporary:
                temporary.write_text(json.dumps(self.done | {name: figures | {"seconds": seconds}}, indent=2) + "\n")
        self.group.barrier()

    def estimate(self) -> dict[str, float]:
        """Seconds that each stage will take here, from a run with a tiny budget in a temporary folder."""
        tiny = self.config.tiny()
        full_work, tiny_work = _work(self.config), _work(tiny)
        with TemporaryDirectory(prefix="g2s-") as folder:
            trial = replace(self, config=tiny, folder=Path(folder), progress=SilentProgress())
            trial.work.mkdir()
            seconds = {name: figures["seconds"] for name, figures in trial.run().items()}
        return {name: each * full_work.get(name, 1) / tiny_work.get(name, 1) for name, each in seconds.items()}

    @cached_property
    def gan(self) -> Gan:
        """The category's GAN. Raises WeightsError."""
        return load_gan(Weights({}, self.work / GAN_FILE), self.machine)

    @cached_property
    def category(self) -> Category:
        """The category that the new one is derived from, at the GAN's size."""
        return with_gan_size(load_category(self.config.like), self.gan.generator)

    def crop_photos(self) -> Figures:
        """Photos, or random images of the GAN, as crops of the GAN's size in one file."""
        path = self.work / "crops.npy"
        if self.photos is None:
            batches = random_images(self.gan.generator, self._photos_needed, self.seed)
            crops = np.stack([to_uint8(image) for images in batches for image in images])
            notes = {"source": "the GAN's random images"}
        elif self.photos.suffix == ".npy":
            crops, notes = ImageDataset.of(self.photos).data, {"source": self.photos.name}
        else:
            crops, notes = self._crop_folder(self.photos)
        size = self._crop_size
        if crops.shape[1] != size:
            what = f"The photos are {crops.shape[1]} px a side, and the GAN has {size} px."
            raise UsageError(what, f"Bring crops of {size} px, or a folder of photos.")
        if len(crops) < self._photos_needed:
            what = f"{self.photos} has {len(crops)} photos that can be used; the config asks for {self._photos_needed}."
            raise UsageError(what, "Bring more, or set `count` in [photos] and [depth] lower.")
        with atomic_write(path, RESUME_REMEDY) as temporary, temporary.open("wb") as file:
            np.save(file, crops)
        return {"crops": len(crops)} | notes

    @property
    def _crop_size(self) -> int:
        return self.gan.generator.size if self.gan_file else self.config.gan.size

    @property
    def _photos_needed(self) -> int:
        return max(self.config.photos.count, self.config.depth.count)

    def _crop_folder(self, folder: Path) -> tuple[np.ndarray, Figures]:
        """The crops of a folder's photos; those that cannot be used are named in the log."""
        like = load_category(self.config.like)
        paths, _ = find_photos([folder])
        crops, refused = [], []
        self.progress.begin("crop", len(paths), "")
        for number, path in enumerate(paths, start=1):
            try:
                crops.append(to_uint8(open_photo(path, self._crop_size, like.face_template).image))
            except ImageError as error:
                refused.append(str(error))
            self.progress.advance(number, 0.0)
        if not crops:
            raise UsageError(f"No photo of {folder} can be used: {refused[0]}", "Name another folder.")
        (self.work / "refused.txt").write_text("\n".join(refused))
        return np.stack(crops), {"refused": len(refused)}

    @property
    def _crops(self) -> ImageDataset:
        return ImageDataset.of(self.work / "crops.npy")

    def keep_gan(self) -> Figures:
        """The user's GAN, as the category's file."""
        if self.gan_file is None:
            raise TypeError("no GAN")
        part, tensors = read_checkpoint(self.gan_file)
        if part != "gan":
            raise UsageError(f"{self.gan_file} is no GAN but {part}.", "Name a StyleGAN2 checkpoint.")
        write_weights(tensors, self.work / GAN_FILE, remedy=RESUME_REMEDY)
        return {"size": self.gan.generator.size}

    def train_gan(self) -> Figures:
        """A StyleGAN2 of the photos."""
        stage = asdict(self.config.gan)
        updates = stage.pop("updates")
        del stage["size"]
        config = GanConfig(**stage | {"seed": self.seed})
        training = new_gan_training(self.begin, config, self._crops, self.machine, self.group)
        folder = self.work / "gan"
        trainer = train_gan(training, updates, folder, self.progress, save_every_s=self.save_every_s)
        if self.group.is_main:
            write_weights(as_checkpoint(trained_gan(folder)), self.work / GAN_FILE, remedy=RESUME_REMEDY)
        losses = trainer.losses["train"]
        return {"updates": len(losses), "generator_loss": round(_mean_of_last(losses), 4)}

    def train_networks(self) -> Figures:
        """D, A, V, L and the template, with latent directions of view and light."""
        stage = self.config.networks
        tensors, views = train_networks(
            self.category, self.gan, stage.updates, stage.references, self.machine, self._stage_run
        )
        self._write("networks", tensors)
        with atomic_write(self.work / VIEWS, RESUME_REMEDY) as temporary:
            temporary.write_text(json.dumps({"mean": views.mean, "covariance": views.covariance}))
        return {"r2": views.r2}

    def learn_morphable_model(self) -> Figures:
        """The morphable model of the GAN's random objects."""
        stage, references = self.config.morphable, self.config.networks.references
        trained = self._trained("networks")
        tensors = learn_morphable_model(trained, references, stage.objects, stage.rounds, self._stage_run)
        self._write("morphable", tensors)
        return {"basis": tensors["shape.factors"].shape[1]}

    def learn_from_photos(self) -> Figures:
        """The morphable model, learnt on from photos."""
        stage, trained = self.config.photos, self._trained("networks", "morphable")
        tensors = learn_morphable_model_from_photos(trained, self._crops, stage.count, stage.rounds, self._stage_run)
        self._write("photos", tensors)
        return {"log_albedo_variance": round(tensors["shape.variance"].float().mean().item(), 5)}

    def train_depth_network(self) -> Figures:
        """The depth network, on synthetic pairs of image and depth."""
        stage, trained = self.config.depth, self._trained("networks", "morphable", "photos")
        file = PairFile.open(self.pairs, self.category.working_size) if self.pairs else None
        tensors, loss = train_depth_network(trained, self._crops, stage.count, stage.updates, self._stage_run, file)
        self._write("depth", tensors)
        return {"loss": round(loss, 4)} | ({"pairs": len(file.data)} if file else {})

    def write_category(self) -> Figures:
        """The category's files: GAN, packed networks, model card, and model.toml at last."""
        networks: dict[str, Tensor] = {}
        for stage in ("networks", "morphable", "photos", "depth"):
            networks |= load_file(self.work / f"{stage}.safetensors")
        for name in BYTES:
            packed = quantize({f"{name}.{key}": each for key, each in submodule_state(networks, name).items()})
            networks = {key: each for key, each in networks.items() if not key.startswith(f"{name}.")} | packed
        gan = self.folder / GAN_FILE
        write_weights(load_file(self.work / GAN_FILE), gan, remedy=RESUME_REMEDY)
        write_weights(networks, self.folder / NETWORKS_FILE, sha256_of(gan), RESUME_REMEDY)
        data = self._description()
        set_file(data, "gan", GAN_FILE, sha256_of(gan))
        set_file(data, "networks", NETWORKS_FILE, sha256_of(self.folder / NETWORKS_FILE), sha256_of(gan))
        with atomic_write(self.folder / README, RESUME_REMEDY) as temporary:
            temporary.write_text(self._card(data), encoding="utf-8")
        write_model_toml(self.folder, data)
        return {}

    def _description(self) -> dict[str, Any]:
        """The content of model.toml without [weights]."""
        config = self.config
        data = derived_model_toml(load_category(config.like).folder)
        data |= {"title": config.title, "licence": config.licence}
        for table, values in config.category.items():
            data[table] = data.get(table, {}) | values if isinstance(values, dict) else values
        data["image"] |= {"image_size": self.category.image_size, "working_size": self.category.working_size}
        data["views"] = data["views"] | read_json(self.work / VIEWS)
        data["presets"] = data["presets"] | dict(config.presets)
        return data

    def _card(self, data: Mapping[str, Any]) -> str:
        """The model card."""
        rows = [
            f"| {name} | {figures.get('seconds', '')} | "
            f"{', '.join(f'{key} {value}' for key, value in figures.items() if key != 'seconds')} |"
            for name, figures in self.done.items()
        ]
        source = f"the GAN {self.gan_file.name}" if self.gan_file else "photos alone"
        labels = "No 3D label was used."
        if self.pairs:
            labels = f"The depth network was trained on the true depth of {self.pairs.name}, too."
        hashes = [f"- `{entry['file']}`: `{entry['sha256']}`" for entry in data["weights"].values()]
        return "\n".join(
            [
                f"# {self.config.title}\n",
                f"Made by g2s {__version__} (`g2s train`) from {source}, seed {self.seed}. {labels}\n",
                f"Licence: {self.config.licence}\n\n| stage | seconds | figures |\n|---|---|---|",
                *rows,
                "\nSHA-256:\n",
                *hashes,
                "",
            ]
        )

    @property
    def _stage_run(self) -> StageRun:
        return StageRun(self.work, self.seed, self.progress, self.save_every_s)

    def _write(self, stage: str, tensors: Mapping[str, Tensor]) -> None:
        write_weights(tensors, self.work / f"{stage}.safetensors", remedy=RESUME_REMEDY)

    def _trained(self, *stages: str) -> TrainedNetworks:
        """The networks of some stages. Raises WeightsError for a damaged file."""
        tensors: dict[str, Tensor] = {}
        for stage in stages:
            tensors |= load_tensors(self.work / f"{stage}.safetensors")
        zeros = NetworkMeans(torch.zeros(6), torch.zeros(4))  # our networks predict views and lights without an offset
        nets = trained_nets(tensors, self.category, zeros).to(self.machine.device, self.machine.dtype)
        return TrainedNetworks.of(tensors, nets, self.category, self.gan)


def _work(config: TrainConfig) -> dict[str, float]:
    """The amount of work of the stages, in units of each stage's own."""
    return {
        "gan": config.gan.updates * config.gan.batch,
        "networks": config.networks.updates,
        "morphable": config.morphable.objects * config.morphable.rounds,
        "photos": config.photos.count * config.photos.rounds,
        "depth": config.depth.count + config.depth.updates,
    }


def _mean_of_last(losses: list[float]) -> float:
    """The mean of the last tenth."""
    last = losses[-max(1, len(losses) // 10) :]
    return sum(last) / len(last)
