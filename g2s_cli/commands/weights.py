"""g2s weights: list, fetch, check, import and publish the files of categories."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from g2s_cli.commands import options
from g2s_cli.console import output
from g2s_cli.errors import UsageError, WeightsError

if TYPE_CHECKING:
    from rich.table import Table

    from g2s_cli.config import Category, Part

LIST_WIDTH = 80  # columns of the list, also in a file

weights = typer.Typer(no_args_is_help=True, rich_markup_mode="rich")


@weights.command("list")
def list_(as_json: options.Json = False, quiet: options.Quiet = False, verbose: options.Verbose = False) -> None:
    """Show every category: whether its files are on this machine, and how large they are. -v also lists the files.

    Example: g2s weights list
    """
    output.set(quiet=quiet, verbose=verbose, as_json=as_json)
    rows = [_state(category) for category in _all_categories([])]
    if as_json:
        output.print_json({"categories": rows})
        return
    output.print_table(_table(rows))
    for row in rows if verbose else ():
        for name, text in {"here": "on this machine", "missing": "to be fetched", "yours": "to be imported"}.items():
            if row[name]:
                output.print(f"{row['name']}: {text}: {', '.join(row[name])}")
        output.print(f"{row['name']}: licence: {row['licence']}")


@weights.command(no_args_is_help=True)
def pull(
    category: options.CategoryName,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    hub_repo: options.HubRepo = "",
) -> None:
    """Fetch a category's files and check them.

    From a Hub repository if one is named (--hub-repo or G2S_HUB_REPO), else from the authors' release.

    Example: g2s weights pull celeba
    """
    output.set(quiet=quiet, verbose=verbose, as_json=as_json)
    from g2s_cli.weights.registry import Sources, check_sources, find_category

    sources = Sources.from_environment(hub_repo)
    config = find_category(category, sources)
    if not config.weights:
        check_sources(config, ["gan"])
    _print_files(options.fetch(config, list(config.weights), sources))


def _table(rows: Sequence[dict[str, Any]]) -> Table:
    from rich.table import Table

    table = Table("category", "what it shows", "ready", "size", "presets", box=None, width=LIST_WIDTH)
    for row in rows:
        size = f"{row['bytes'] / 1e6:.0f} MB" if row["bytes"] else "–"
        lacks = "import a GAN" if row["yours"] else "mismatch" if row["mismatch"] else "fetched on first use"
        without = f", without {' and '.join(row['without'])}" if row["without"] else ""
        ready = f"yes{without}" if row["ready"] else f"no: {lacks}"
        table.add_row(row["name"], row["title"], ready, size, ", ".join(row["presets"]))
    return table


@weights.command()
def verify(
    category: Annotated[
        str | None,
        typer.Argument(metavar="[CATEGORY]", help="All, if left out.", autocompletion=options.complete_category),
    ] = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Check every file on this machine against its SHA-256; damaged ones of the cache are deleted. Exit code 4 if any.

    Networks that were trained with another GAN than the one beside them are named, too.

    Example: g2s weights verify
    """
    output.set(quiet=quiet, verbose=verbose, as_json=as_json)
    from g2s_cli.config import PARTS
    from g2s_cli.weights.categories import load_category
    from g2s_cli.weights.registry import check_local_networks, local_file

    problems: list[str] = []
    sound: list[Path] = []
    for config in [load_category(category)] if category else _all_categories(problems):
        for part in PARTS:  # not only those of its model.toml: others can be imported
            with _collecting(problems):
                if path := local_file(config, part):
                    sound.append(path)
                    if not as_json:
                        output.print(f"ok  {path}")
        with _collecting(problems):
            check_local_networks(config)
    count = "one thing is" if len(problems) == 1 else f"{len(problems)} things are"
    failure = WeightsError(f"Of these files {count} wrong.", "See above.") if problems else None
    document = {"files": [str(path) for path in sound], "problems": problems}
    output.print_result([], document | (failure.document() if failure else {}))
    if failure:
        raise failure


@weights.command("import", no_args_is_help=True)
def import_(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Checkpoints: .pt, .pth, .pkl, .safetensors.")],
    category: Annotated[
        str,
        options.input_option(
            "--category",
            "-c",
            help="Which category they belong to; may be new.",
            autocompletion=options.complete_category,
        ),
    ],
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Convert checkpoints to safetensors without running code they carry, and keep them for a category.

    StyleGAN2 in the rosinality layout or NVIDIA's pickle, GAN2Shape's networks, its view and light statistics, BiSeNet
    and PSPNet for masks: its tensors tell which one a file is. A new category starts as a copy of "own".

    Example: g2s weights import my-stylegan2.pt --category owls
    """
    output.set(quiet=quiet, verbose=verbose, as_json=as_json)
    from g2s_cli.weights.cache import cache_errors, deleted_if_it_fails, models_root, require_space
    from g2s_cli.weights.categories import category_folders, check_name, load_category
    from g2s_cli.weights.importers import build_parsing_net, read_checkpoint
    from g2s_cli.weights.registry import check_import, create_category, store_part

    check_name(category)
    known = category_folders()
    if any((models_root() / category).glob("*.safetensors")):
        raise UsageError(f"{category} came with its weights.", "Choose another name: --category NAME.")
    read = [(file, *read_checkpoint(file)) for file in files]
    parts = [part for _, part, _ in read]
    if twice := {part for part in parts if parts.count(part) > 1}:
        raise UsageError(f"Two of the files are {min(twice)}.", "Give one of each kind.")
    config = replace(load_category(category if category in known else "own"), name=category)
    for file, part, tensors in read:
        if part == "parsing":
            build_parsing_net(config, tensors, file)
    check_import(config, read)
    with cache_errors(), nullcontext() if category in known else deleted_if_it_fails(category):
        require_space(sum(file.stat().st_size for file in files))
        stored = {
            part: store_part(config, part, tensors, file, f"import, {file.resolve()}").path
            for file, part, tensors in read
        }
        if category not in known:
            create_category(category)  # last: it makes the folder a category
    _print_files(stored)


@weights.command(no_args_is_help=True)
def publish(
    category: options.CategoryName,
    repo: Annotated[
        str, options.output_option("--repo", metavar="YOU/NAME", help="Your model repository; made if need be.")
    ],
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Upload a category's files, model.toml and card to a Hub repository of yours (HF_TOKEN).

    Others then say: g2s weights pull CATEGORY --hub-repo YOU/NAME

    Example: g2s weights publish owls --repo me/g2s-owls
    """
    output.set(quiet=quiet, verbose=verbose, as_json=as_json)
    from g2s_cli.config import PARTS
    from g2s_cli.weights import hub
    from g2s_cli.weights.categories import load_category
    from g2s_cli.weights.registry import check_local_networks, local_file

    config = load_category(category)
    name = hub.HubRepo.parse(repo).name
    if name != repo:
        raise UsageError(f"{repo!r} names a revision; files go to the newest alone.", f"Write --repo {name}")
    here = {part: path for part in PARTS if (path := local_file(config, part))}
    if not here:
        raise WeightsError(f"There are no files of {category} on this machine.", f"g2s weights pull {category}")
    check_local_networks(config)
    with hub.staged(config, here) as folder:
        address = hub.publish(Path(folder), category, name)
    output.print_result([address], {"address": address})


@weights.command(no_args_is_help=True)
def path(
    category: options.CategoryName,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Print where a category's files are on this machine.

    Example: g2s weights path synface
    """
    output.set(quiet=quiet, verbose=verbose, as_json=as_json)
    from g2s_cli.config import PARTS
    from g2s_cli.weights.categories import load_category
    from g2s_cli.weights.registry import is_downloadable, local_file

    config = load_category(category)
    files = {part: found for part in PARTS if (found := local_file(config, part))}
    if not files:
        verb = "pull" if any(is_downloadable(config, part) for part in config.weights) else "import FILE --category"
        raise WeightsError(
            f"No file of {config.name} is on this machine.", f"Have some: g2s weights {verb} {config.name}"
        )
    _print_files(files)


@contextmanager
def _collecting(problems: list[str]) -> Iterator[None]:
    """Print the WeightsError that the block raises, append its message, and go on."""
    try:
        yield
    except WeightsError as error:
        problems.append(str(error))
        output.error(str(error))


def _all_categories(problems: list[str]) -> list[Category]:
    """Every category whose model.toml can be read; the other ones' messages are appended to `problems`."""
    from g2s_cli.weights.categories import category_folders, read_category

    categories = []
    for _, folder in sorted(category_folders().items()):
        with _collecting(problems):
            categories.append(read_category(folder))
    return categories


def _state(category: Category) -> dict[str, Any]:
    """A category's row of the list; its files are not hashed.

    ready: whether its presets run without fetching. bytes: of the files on this machine.
    mismatch: a message if networks and GAN differ.
    """
    from g2s_cli.config import PARTS
    from g2s_cli.weights.categories import required_parts
    from g2s_cli.weights.registry import check_local_networks, is_downloadable, local_record

    records = {part: record for part in PARTS if (record := local_record(category, part))}
    here = list(records)
    mismatch: list[str] = []
    networks = any(preset.needs_networks for preset in category.presets.values())
    with _collecting(mismatch):
        check_local_networks(category)
    return {
        "name": category.name,
        "title": category.title,
        "licence": category.licence,
        "here": here,
        "without": _without(category),
        "missing": [part for part in category.weights if part not in here and is_downloadable(category, part)],
        "yours": [] if "gan" in here or is_downloadable(category, "gan") else ["gan"],
        "mismatch": "".join(mismatch),
        "ready": not mismatch and records.keys() >= set(required_parts(category, networks=networks)),
        "bytes": sum(record.path.stat().st_size for record in records.values() if record.path.exists()),
        "presets": list(category.presets),
    }


def _without(category: Category) -> list[str]:
    """What the category's GAN lacks; it is not read, but for the names of its tensors."""
    from g2s_cli.weights.registry import local_record
    from g2s_cli.weights.tensors import tensor_names

    record = local_record(category, "gan")
    try:
        complete = record is None or any(name.startswith("d.") for name in tensor_names(record.path))
    except WeightsError:  # `verify` names damaged files
        return []
    return [] if complete else ["discriminator"]


def _print_files(files: Mapping[Part, Path]) -> None:
    output.print_result(list(files.values()), {"files": {part: str(file) for part, file in files.items()}})
