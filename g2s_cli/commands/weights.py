"""g2s weights: what is on this machine, fetch it, check it, bring your own, give it to others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from g2s_cli.commands.options import HubRepo, Json, Quiet, Verbose
from g2s_cli.console import output

if TYPE_CHECKING:
    from g2s_cli.weights.catalog import Category, Part

weights = typer.Typer(no_args_is_help=True, rich_markup_mode="rich")

Name = Annotated[str, typer.Argument(metavar="CATEGORY", help="A category: see g2s weights list.")]


@weights.command("list")
def list_(as_json: Json = False) -> None:
    """Show every category, and which of its files are on this machine.

    Example: g2s weights list
    """
    from rich.table import Table

    categories, damaged = _all_categories()
    rows = [_state(category) for category in categories]
    damaged += [row["mismatch"] for row in rows if row["mismatch"]]
    for sentence in damaged:
        output.error(sentence)
    if as_json:
        output.print_json({"categories": rows})
        return
    table = Table(
        "category",
        "what it shows",
        "presets",
        "on this machine",
        "to be fetched",
        "to be imported",
        "licence",
        box=None,
    )
    for row in rows:
        lists = (", ".join(row[what]) for what in ("presets", "here", "missing", "yours"))
        table.add_row(row["name"], row["title"], *lists, row["licence"])
    output.print_table(table)


@weights.command(no_args_is_help=True)
def pull(
    category: Name, hub_repo: HubRepo = "", as_json: Json = False, quiet: Quiet = False, verbose: Verbose = False
) -> None:
    """Fetch a category's files and check them.

    From a Hub repository if one is named (--hub-repo or G2S_HUB_REPO), else from the authors' release.

    Example: g2s weights pull celeba
    """
    output.set(quiet=quiet, verbose=verbose)
    from g2s_cli.weights.sources import Sources, category_from, obtain, refuse_unknown

    sources = Sources.of_environment(hub_repo)
    config = category_from(category, sources)
    if not config.weights:
        refuse_unknown(config, ["gan"])
    with output.fetching() as fetching:
        files = obtain(config, list(config.weights), sources, fetching)
    _say(files, as_json)


@weights.command()
def verify(
    category: Annotated[str | None, typer.Argument(metavar="[CATEGORY]", help="All, if left out.")] = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Check every file on this machine against its SHA-256; damaged ones of the cache are deleted. Exit code 4 if any.

    Networks that were trained with another GAN than the one beside them are named, too.

    Example: g2s weights verify
    """
    output.set(quiet=quiet, verbose=verbose)
    from g2s_cli.errors import WeightsError
    from g2s_cli.weights.catalog import PARTS, load_category
    from g2s_cli.weights.sources import at_hand, check_pair_at_hand

    kinds, damaged = ([load_category(category)], []) if category else _all_categories()
    for sentence in damaged:
        output.error(sentence)
    for config in kinds:
        for part in PARTS:  # not only those that the card names: others can be imported
            try:
                path = at_hand(config, part)
            except WeightsError as error:
                damaged.append(str(error))
                output.error(str(error))
                continue
            if path:
                output.print(f"ok  {path}")
        try:
            check_pair_at_hand(config)
        except WeightsError as error:
            damaged.append(str(error))
            output.error(str(error))
    if damaged:
        count = "one thing is" if len(damaged) == 1 else f"{len(damaged)} things are"
        raise WeightsError(f"Of these files {count} wrong.", "See above.")


@weights.command("import", no_args_is_help=True)
def import_(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Checkpoints: .pt, .pth, .pkl, .safetensors.")],
    category: Annotated[str, typer.Option("--category", "-c", help="Which category they belong to; may be new.")],
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Convert checkpoints to safetensors without running code they carry, and keep them for a category.

    StyleGAN2 in the rosinality layout or NVIDIA's pickle, GAN2Shape's networks, its view and light statistics, BiSeNet
    and PSPNet for masks: what a file is, is read off its tensors. A new category starts as a copy of "own".

    Example: g2s weights import my-stylegan2.pt --category owls
    """
    output.set(quiet=quiet, verbose=verbose)
    from g2s_cli.errors import UsageError
    from g2s_cli.weights.catalog import category_folders, check_name, load_category
    from g2s_cli.weights.importers import parsing_net_for, read_part
    from g2s_cli.weights.sources import check_import, new_category, store_part
    from g2s_cli.weights.store import models_root, using_the_cache

    check_name(category)
    known = category_folders()
    if (models_root() / category / "gan.safetensors").is_file():
        raise UsageError(f"{category} came with its weights.", "Choose another name: --category NAME.")
    read = [(file, *read_part(file)) for file in files]
    parts = [part for _, part, _ in read]
    if twice := {part for part in parts if parts.count(part) > 1}:
        raise UsageError(f"Two of the files are {min(twice)}.", "Give one of each kind.")
    config = replace(load_category(category if category in known else "own"), name=category)
    for file, part, tensors in read:
        if part == "parsing":
            parsing_net_for(config, tensors, file)
    check_import(config, read)
    with using_the_cache():
        config = load_category(category) if category in known else new_category(category)
        stored = {
            part: store_part(config, part, tensors, file, f"import, {file.resolve()}").path
            for file, part, tensors in read
        }
    _say(stored, as_json)


@weights.command(no_args_is_help=True)
def publish(
    category: Name,
    repo: Annotated[str, typer.Option("--repo", metavar="YOU/NAME", help="Your model repository; made if need be.")],
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Upload a category's files, model.toml and card to a Hub repository of yours (HF_TOKEN).

    Others then say: g2s weights pull CATEGORY --hub-repo YOU/NAME

    Example: g2s weights publish owls --repo me/g2s-owls
    """
    output.set(quiet=quiet, verbose=verbose)
    from g2s_cli.errors import UsageError, WeightsError
    from g2s_cli.weights import hub
    from g2s_cli.weights.catalog import PARTS, load_category
    from g2s_cli.weights.sources import at_hand, check_pair_at_hand

    config = load_category(category)
    name = hub.HubRepo.named(repo).name
    if name != repo:
        raise UsageError(f"{repo!r} names a revision; files go to the newest alone.", f"Write --repo {name}")
    here = {part: path for part in PARTS if (path := at_hand(config, part))}
    if not here:
        raise WeightsError(f"There are no files of {category} on this machine.", f"g2s weights pull {category}")
    check_pair_at_hand(config)
    with hub.prepared(config, here) as folder:
        address = hub.publish(Path(folder), category, name)
    output.print(address)


@weights.command(no_args_is_help=True)
def path(category: Name, as_json: Json = False) -> None:
    """Print where a category's files are on this machine.

    Example: g2s weights path synface
    """
    from g2s_cli.errors import WeightsError
    from g2s_cli.weights.catalog import PARTS, load_category
    from g2s_cli.weights.sources import at_hand, offered

    config = load_category(category)
    files = {part: found for part in PARTS if (found := at_hand(config, part))}
    if not files:
        verb = "pull" if any(offered(config, part) for part in config.weights) else "import FILE --category"
        raise WeightsError(
            f"No file of {config.name} is on this machine.", f"Have some: g2s weights {verb} {config.name}"
        )
    _say(files, as_json)


def _all_categories() -> tuple[list[Category], list[str]]:
    """Every category that can be read, and a sentence for each that cannot."""
    from g2s_cli.errors import WeightsError
    from g2s_cli.weights.catalog import category_folders, read_category

    categories, damaged = [], []
    for _, folder in sorted(category_folders().items()):
        try:
            categories.append(read_category(folder))
        except WeightsError as error:
            damaged.append(str(error))
    return categories, damaged


def _state(category: Category) -> dict[str, Any]:
    """A category for the list. Files are looked for, not hashed. mismatch: a sentence on networks of another GAN."""
    from g2s_cli.errors import WeightsError
    from g2s_cli.weights.catalog import PARTS
    from g2s_cli.weights.sources import check_pair_at_hand, offered, stated

    here = [part for part in PARTS if stated(category, part)]
    mismatch = ""
    try:
        check_pair_at_hand(category)
    except WeightsError as error:
        mismatch = str(error)
    return {
        "name": category.name,
        "title": category.title,
        "licence": category.licence,
        "here": here,
        "missing": [part for part in category.weights if part not in here and offered(category, part)],
        "yours": [] if "gan" in here or offered(category, "gan") else ["gan"],
        "mismatch": mismatch,
        "presets": list(category.presets),
    }


def _say(files: dict[Part, Path], as_json: bool) -> None:
    if as_json:
        output.print_json({"files": {part: str(file) for part, file in files.items()}})
        return
    for file in files.values():
        output.print(file)
