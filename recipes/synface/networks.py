"""python -m recipes.synface networks: the embedded category's D, A, V, L and morphable model, from its GAN alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from g2s_cli.console import output
from g2s_cli.files import sha256_of
from g2s_cli.loading import Weights, load_gan, with_gan_size
from g2s_cli.machine import Machine
from g2s_cli.run_folder import open_run_folder
from g2s_cli.training.feedforward import phases
from g2s_cli.training.networks import NetworksConfig, load_networks, train_networks
from g2s_cli.weights.categories import load_category
from g2s_cli.weights.importers import read_checkpoint
from g2s_cli.weights.tensors import converted_sha256, write_weights

CATEGORY = "synface"
VERB = "recipes.synface networks"

GanFile = Annotated[Path, typer.Argument(metavar="GAN", help="The GAN's file.")]
Work = Annotated[
    Path | None,
    typer.Option("--work", metavar="FOLDER", help="Of checkpoints and log.", show_default="beside the file"),
]
Seed = Annotated[int, typer.Option("--seed", min=0, help="The same seed gives the same networks.")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")]


def networks_command(
    gan: GanFile,
    out: Annotated[Path, typer.Option("--out", "-o", help="*.safetensors.")] = Path("networks.safetensors"),
    begin: Annotated[
        Path | None, typer.Option("--from", metavar="FILE", help="Pretrained networks, for the last phase alone.")
    ] = None,
    updates: Annotated[
        int | None,
        typer.Option("--updates", min=1, help="Of the last phase; others in proportion.", show_default="the published"),
    ] = None,
    work: Work = None,
    save_every: Annotated[
        float, typer.Option("--save-every", min=0, metavar="SECONDS", help="Between two checkpoints.")
    ] = 300.0,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Train D, A, V, L, the template and the morphable model on a GAN's random faces. Killed, the same command goes on.

    Prints the lines of model.toml that go with the file.
    """
    folder = work or out.with_name(f"{out.stem}-run")
    _, tensors = read_checkpoint(gan)
    trained_with = converted_sha256(gan, tensors)
    facts: dict[str, object] = {"gan": trained_with, "from": sha256_of(begin) if begin else "", "updates": updates}
    facts |= {"seed": seed, "phases": [phase.name for phase in phases(updates, pretrained=begin is not None)]}
    with open_run_folder(folder, facts, VERB), output.progress() as progress:
        machine = Machine.named(device)
        loaded = load_gan(Weights({}, gan), machine)
        category = with_gan_size(load_category(CATEGORY), loaded.generator)
        pretrained = load_networks(begin, category, machine) if begin else None
        config = NetworksConfig(updates, seed, save_every)
        networks, views = train_networks(category, loaded, pretrained, config, folder, machine, progress)
    write_weights(networks, out, trained_with)
    output.info(f"R² of the latent directions: {', '.join(f'{name} {value}' for name, value in views.r2.items())}")
    output.print(f"{views.to_toml()}\n{weights_toml(out, trained_with)}")


def weights_toml(path: Path, trained_with: str) -> str:
    """The table [weights.networks] of a model.toml."""
    return f'[weights.networks]\nfile = "{path.name}"\nsha256 = "{sha256_of(path)}"\ngan_sha256 = "{trained_with}"'
