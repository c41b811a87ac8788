"""python -m recipes.synface shapes, refine: how faces differ from the mean one, for networks made before."""

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
from g2s_cli.estimators.feedforward import FactorNets
from g2s_cli.estimators.morphable_model import PARTS, read_morphable_model
from g2s_cli.estimators.registration import ShapeTemplate
from g2s_cli.files import sha256_of
from g2s_cli.geometry.center_crop import CenterCrop
from g2s_cli.loading import Weights, load_gan, with_gan_size
from g2s_cli.machine import Machine
from g2s_cli.progress import Progress
from g2s_cli.run_folder import open_run_folder
from g2s_cli.seeding import seeded_generator
from g2s_cli.training.dataset import ImageDataset
from g2s_cli.weights.categories import load_category
from g2s_cli.weights.importers import build_gan, read_checkpoint
from g2s_cli.weights.tensors import TRAINED_WITH, converted_sha256, quantize, read_metadata, write_weights
from recipes.synface.moving import Gallery, Moves, Source
from recipes.synface.networks import SHAPES, networks_of, weights_as_toml
from recipes.synface.refining import AT_ONCE, PHOTOS, finished, initial_coefficients, observed, refine
from recipes.synface.shapes import learn, of_tensors
from recipes.synface.sighting import ITERATIONS, Pupil, people_of, teach

VERB = "recipes.synface"
REFINED, SIGHT = "refined.pt", "sight.pt"

GanFile = Annotated[Path, typer.Argument(metavar="GAN", help="The GAN's file.")]
NetworksFile = Annotated[Path, typer.Argument(metavar="NETWORKS", help="What `networks` wrote.")]
Out = Annotated[Path, typer.Option("--out", "-o", help="*.safetensors.")]
PicturesFile = Annotated[Path, typer.Argument(metavar="PICTURES", help="A .npy that `render` made.")]
Photos = Annotated[int, typer.Option("--photos", min=AT_ONCE, help="The first so many of the pictures.")]
Work = Annotated[
    Path | None,
    typer.Option("--work", metavar="FOLDER", help="Where the run keeps its work.", show_default="beside the file"),
]
Seed = Annotated[int, typer.Option("--seed", min=0, help="The same seed gives the same model.")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")]


@dataclass(frozen=True)
class Known:
    """Networks made before, with the GAN they belong to and the mean face they know."""

    tensors: dict[str, Tensor]
    nets: FactorNets
    source: Source
    mean: ShapeTemplate


def shapes_command(
    gan: GanFile,
    networks: NetworksFile,
    out: Out = Path("networks-shapes.safetensors"),
    work: Work = None,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Learn how faces differ from the mean face once more, which `networks` does in the end. Killed, it goes on.

    What `refine` has learnt from photos is forgotten; an S stays as it was taught. Prints what model.toml must say of
    the file.
    """

    def learnt(known: Known, folder: Path, progress: Progress) -> dict[str, Tensor]:
        moves = Moves.of(known.nets, Gallery.of(known.source, seeded_generator(seed, "gallery")))
        return learn(known.nets, known.mean, moves, known.source, seed, folder / SHAPES, progress).tensors

    _written("shapes", learnt, gan, networks, out, work, {"seed": seed}, device)


def refine_command(
    gan: GanFile,
    networks: NetworksFile,
    pictures: PicturesFile,
    out: Out = Path("networks-refined.safetensors"),
    photos: Photos = PHOTOS,
    work: Work = None,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Learn on from photos how faces differ, and what the mean face is like in detail. Killed, it goes on.

    An S stays as it was taught. Prints what model.toml must say of the file.
    """
    read = _photos_of(pictures, photos, gan, networks)

    def learnt(known: Known, folder: Path, progress: Progress) -> dict[str, Tensor]:
        camera = known.nets.camera
        begin = initial_coefficients(folder / REFINED, of_tensors(known.tensors, camera, known.mean.depth.device))
        if finished(begin):
            return begin.tensors
        parts = [part.seen for part in observed(read, photos, known.nets, known.mean, known.source, seed, progress)]
        return refine(begin, parts, camera, seed, folder / REFINED, progress).tensors

    _written(
        "refine", learnt, gan, networks, out, work, {"seed": seed, "photos": photos, "of": sha256_of(pictures)}, device
    )


def sight_command(
    gan: GanFile,
    networks: NetworksFile,
    pictures: PicturesFile,
    out: Out = Path("networks-sight.safetensors"),
    photos: Photos = PHOTOS,
    updates: Annotated[int, typer.Option("--updates", min=1, help="Of the network.")] = ITERATIONS,
    work: Work = None,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Teach S to read depth off photos, by what the model of shape makes of some. Killed, it goes on.

    Prints what model.toml must say of the file.
    """
    read = _photos_of(pictures, photos, gan, networks)

    def learnt(known: Known, folder: Path, progress: Progress) -> dict[str, Tensor]:
        camera, device = known.nets.camera, known.mean.depth.device
        pupil = Pupil.initial_coefficients(folder / SIGHT, camera.size, device, seed)
        if pupil.done < updates:
            model = read_morphable_model(known.tensors, camera, device)
            seen = list(observed(read, photos, known.nets, known.mean, known.source, seed, progress))
            people = people_of(model, seen, camera, progress)
            given = (pupil, model, known.mean.depth, people, camera, seed, folder / SIGHT, progress)
            teach(*given, updates=updates, dtype=known.nets.dtype)
        # A, which every photo's own fit changes anyhow, makes room for S in what a category may weigh.
        albedo = quantize(known.nets.albedo.state_dict())
        return pupil.tensors | {f"netA.{name}": tensor for name, tensor in albedo.items()}

    facts: dict[str, object] = {"seed": seed, "photos": photos, "updates": updates, "of": sha256_of(pictures)}
    _written("sight", learnt, gan, networks, out, work, facts, device)


def _photos_of(pictures: Path, photos: int, gan: Path, networks: Path) -> ImageDataset:
    """Photos for networks that know how faces differ, of the size that their GAN makes. Raises G2SError."""
    read = ImageDataset.of(pictures)
    if len(read) < photos:
        raise UsageError(f"{pictures} holds {len(read)} pictures, not {photos}.", "Render more, or give --photos.")
    lacking = sorted({f"shape.{name}" for name in PARTS} - read_checkpoint(networks)[1].keys())
    if lacking:
        what = f"{networks} does not know how faces differ: it lacks {', '.join(lacking)}."
        raise UsageError(what, "Run `shapes` on it first.")
    generate = build_gan(read_checkpoint(gan)[1])[0].size
    if read.size != generate:
        what = f"{pictures} holds pictures of {read.size} px, and the GAN makes {generate} px."
        raise UsageError(what, "Render them in that size.")
    return read


def _written(
    verb: str,
    learnt: Callable[[Known, Path, Progress], dict[str, Tensor]],
    gan: Path,
    networks: Path,
    out: Path,
    work: Path | None,
    settings: dict[str, object],
    device: str,
) -> None:
    """Write networks with tensors learnt anew. Raises G2SError."""
    folder = work or out.with_name(f"{out.stem}-run")
    if out.resolve() == networks.resolve():
        raise UsageError(f"{out} is what is read, too.", "Name another file: --out.")
    _, tensors = read_checkpoint(gan)
    read_checkpoint(networks)  # which refuses what cannot be used
    trained_with, stated = converted_sha256(gan, tensors), read_metadata(networks).get(TRAINED_WITH)
    if stated != trained_with:
        raise UsageError(f"{networks} was trained with another GAN than {gan}.", "Name that one.")
    kept = load_file(networks)  # as it is: in half precision, some in bytes
    if not {"directions", "mean_depth"} <= kept.keys():
        raise UsageError(f"{networks} knows no mean face.", "Give it a file that `networks` of this recipe wrote.")
    facts = {"gan": trained_with, "networks": sha256_of(networks)} | settings
    with open_run_folder(folder, facts, f"{VERB} {verb}"), output.progress() as progress:
        known = _known(gan, networks, kept, Machine.named(device))
        result = learnt(known, folder, progress)
    write_weights(kept | result, out, trained_with)
    output.put(weights_as_toml(out, trained_with))


def _known(gan: Path, networks: Path, kept: dict[str, Tensor], machine: Machine) -> Known:
    loaded = load_gan(Weights({}, gan), machine)
    category = with_gan_size(load_category("synface"), loaded.generator)
    nets = networks_of(networks, category, machine)
    source = Source(loaded, CenterCrop(category.frame_share, category.working_size))
    depth, directions = (kept[name].float().to(machine.device) for name in ("mean_depth", "directions"))
    return Known(kept, nets, source, ShapeTemplate(depth, loaded.generator.latent_avg, directions, loaded.segmenter))
