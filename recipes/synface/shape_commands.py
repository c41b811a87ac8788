"""python -m recipes.synface shapes, refine, sight: the morphable model and the depth network, for trained networks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from safetensors.torch import load_file
from torch import Tensor

from g2s_cli.console import output
from g2s_cli.errors import UsageError
from g2s_cli.estimators.morphable_model import PARTS
from g2s_cli.files import sha256_of
from g2s_cli.loading import Weights, load_gan, with_gan_size
from g2s_cli.machine import Machine
from g2s_cli.progress import Progress
from g2s_cli.run_folder import open_run_folder
from g2s_cli.seeding import seeded_generator
from g2s_cli.training.dataset import ImageDataset
from g2s_cli.training.depth_network import ITERATIONS
from g2s_cli.training.feedforward import TrainedNetworks
from g2s_cli.training.latent_editing import LatentEditor, References
from g2s_cli.training.morphable_from_photos import CHUNK, PHOTOS
from g2s_cli.training.networks import (
    learn_morphable_model,
    learn_morphable_model_from_photos,
    load_networks,
    train_depth_network,
)
from g2s_cli.weights.categories import load_category
from g2s_cli.weights.importers import build_gan, read_checkpoint
from g2s_cli.weights.tensors import TRAINED_WITH, converted_sha256, read_metadata, write_weights
from recipes.synface.networks import CATEGORY, Device, GanFile, Seed, Work, weights_toml

VERB = "recipes.synface"

NetworksFile = Annotated[Path, typer.Argument(metavar="NETWORKS", help="A file of `networks`.")]
Out = Annotated[Path, typer.Option("--out", "-o", help="*.safetensors.")]
ImagesFile = Annotated[Path, typer.Argument(metavar="PICTURES", help="A .npy file of `render`.")]
Photos = Annotated[int, typer.Option("--photos", min=CHUNK, help="Number of images to learn from, the first ones.")]

Learn = Callable[[TrainedNetworks, Path, Progress], dict[str, Tensor]]


@dataclass(frozen=True)
class Files:
    """The files of a command: what it reads, what it writes, and its folder for checkpoints."""

    gan: Path
    networks: Path
    out: Path
    folder: Path

    @classmethod
    def of(cls, gan: Path, networks: Path, out: Path, work: Path | None) -> Files:
        """The files, with the folder's default beside the output. Raises UsageError if the output is an input."""
        if out.resolve() == networks.resolve():
            raise UsageError(f"{out} is an input, too.", "Name another file: --out.")
        return cls(gan, networks, out, work or out.with_name(f"{out.stem}-run"))


def shapes_command(
    gan: GanFile,
    networks: NetworksFile,
    out: Out = Path("networks-shapes.safetensors"),
    work: Work = None,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Learn the morphable model from a GAN's random faces, as `networks` does at its end. Killed, it goes on.

    What `refine` has learnt from photos is lost. Prints the lines of model.toml that go with the file.
    """

    def learn(trained: TrainedNetworks, folder: Path, progress: Progress) -> dict[str, Tensor]:
        references = References.sample(trained.sampler, seeded_generator(seed, "references"))
        return learn_morphable_model(trained, LatentEditor.of(trained.nets, references), seed, folder, progress)

    _write("shapes", learn, Files.of(gan, networks, out, work), {"seed": seed}, device)


def refine_command(
    gan: GanFile,
    networks: NetworksFile,
    pictures: ImagesFile,
    out: Out = Path("networks-refined.safetensors"),
    photos: Photos = PHOTOS,
    work: Work = None,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Learn the morphable model on from photos, with the details of its mean. Killed, it goes on.

    Prints the lines of model.toml that go with the file.
    """
    images = _photos(pictures, photos, gan, networks)

    def learn(trained: TrainedNetworks, folder: Path, progress: Progress) -> dict[str, Tensor]:
        return learn_morphable_model_from_photos(trained, images, photos, seed, folder, progress)

    facts = {"seed": seed, "photos": photos, "of": sha256_of(pictures)}
    _write("refine", learn, Files.of(gan, networks, out, work), facts, device)


def sight_command(
    gan: GanFile,
    networks: NetworksFile,
    pictures: ImagesFile,
    out: Out = Path("networks-sight.safetensors"),
    photos: Photos = PHOTOS,
    updates: Annotated[int, typer.Option("--updates", min=1, help="Of the network.")] = ITERATIONS,
    work: Work = None,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Train the depth network on photos that the morphable model has separated and recombined. Killed, it goes on.

    Prints the lines of model.toml that go with the file.
    """
    images = _photos(pictures, photos, gan, networks)

    def learn(trained: TrainedNetworks, folder: Path, progress: Progress) -> dict[str, Tensor]:
        return train_depth_network(trained, images, photos, updates, seed, folder, progress)

    facts: dict[str, object] = {"seed": seed, "photos": photos, "updates": updates, "of": sha256_of(pictures)}
    _write("sight", learn, Files.of(gan, networks, out, work), facts, device)


def _photos(pictures: Path, count: int, gan: Path, networks: Path) -> ImageDataset:
    """Images of the GAN's size, for networks with a morphable model. Raises G2SError."""
    images = ImageDataset.of(pictures)
    if len(images) < count:
        raise UsageError(f"{pictures} holds {len(images)} images, not {count}.", "Render more, or give --photos.")
    missing = sorted({f"shape.{name}" for name in PARTS} - read_checkpoint(networks)[1].keys())
    if missing:
        raise UsageError(f"{networks} has no morphable model: it lacks {', '.join(missing)}.", "Run `shapes` first.")
    size = build_gan(read_checkpoint(gan)[1])[0].size
    if images.size != size:
        what = f"{pictures} holds images of {images.size} px, and the GAN makes {size} px."
        raise UsageError(what, "Render them in that size.")
    return images


def _write(verb: str, learn: Learn, files: Files, settings: dict[str, object], device: str) -> None:
    """Write networks with newly learnt tensors. Raises G2SError."""
    _, tensors = read_checkpoint(files.gan)
    read_checkpoint(files.networks)  # which refuses damaged and foreign files
    trained_with, stated = converted_sha256(files.gan, tensors), read_metadata(files.networks).get(TRAINED_WITH)
    if stated != trained_with:
        raise UsageError(f"{files.networks} was trained with another GAN than {files.gan}.", "Name that one.")
    kept = load_file(files.networks)  # in its own precision: halves and bytes
    if not {"directions", "mean_depth"} <= kept.keys():
        raise UsageError(f"{files.networks} has no template.", "Name a file that `networks` of this recipe wrote.")
    facts = {"gan": trained_with, "networks": sha256_of(files.networks)} | settings
    with open_run_folder(files.folder, facts, f"{VERB} {verb}"), output.progress() as progress:
        machine = Machine.named(device)
        gan = load_gan(Weights({}, files.gan), machine)
        category = with_gan_size(load_category(CATEGORY), gan.generator)
        trained = TrainedNetworks.of(kept, load_networks(files.networks, category, machine), category, gan)
        learnt = learn(trained, files.folder, progress)
    write_weights(kept | learnt, files.out, trained_with)
    output.print(weights_toml(files.out, trained_with))
