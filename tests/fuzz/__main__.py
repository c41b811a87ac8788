"""Fuzz g2s: mutated inputs, kills and full disks.

python tests/fuzz --seed 0                       # all, ten minutes of a core
python tests/fuzz --seed 0 --case photo:17 -v    # one case again
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import io
import os
import random
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

FUZZ = Path(__file__).resolve().parent
sys.path[:0] = [str(FUZZ), str(FUZZ.parent), str(FUZZ.parents[1])]
TOTAL_INPUTS, SPLIT = 2000, ":"


@dataclass
class Tally:
    """The outcomes of a kind."""

    codes: collections.Counter[str] = field(default_factory=collections.Counter)
    finds: list[tuple[int, list[str]]] = field(default_factory=list)
    cpu_s: float = 0.0


def main() -> int:
    """Run, print the table and the finds; 1 if there are any."""
    options = arguments().parse_args()
    with ExitStack() as stack:
        base = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="g2s-fuzz-")))
        from servers import FileServer, HubServer

        hub, mirror = stack.enter_context(HubServer({})), stack.enter_context(FileServer({}))
        plain = {"COLUMNS": "160", "NO_COLOR": "1", "TERM": "dumb", "OMP_NUM_THREADS": "1", "HF_ENDPOINT": hub.url}
        plain |= {"HTTP_PROXY": "", "HTTPS_PROXY": "", "NO_PROXY": "127.0.0.1", "HF_HUB_DISABLE_XET": "1"}
        stack.enter_context(mock.patch.dict(os.environ, plain | {"HF_HOME": str(base / "hf")}))
        world = prepare(hub, mirror, base)
        tallies: dict[str, Tally] = collections.defaultdict(Tally)
        deadline = time.monotonic() + 60 * options.minutes
        for kind, index in cases(options):
            if time.monotonic() > deadline:
                print(f"Stopped after {options.minutes} minutes.")
                break
            folder = base / "case"
            run_case(kind, index, options, world, folder, tallies[kind])
            for place in (folder, base / "hf"):
                if not (options.keep and place == folder):
                    shutil.rmtree(place, ignore_errors=True)
        if options.keep:
            shutil.copytree(base, options.keep, symlinks=True)
    return report(tallies, options.seed)


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=30, help="stop after so long")
    parser.add_argument("--inputs", type=int, default=TOTAL_INPUTS, help="mutated inputs of all kinds")
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--disks", type=int, default=100)
    parser.add_argument("--kind", action="append", help="these kinds alone")
    parser.add_argument("--case", metavar="KIND:INDEX", help="one case alone")
    parser.add_argument("--keep", metavar="FOLDER", help="copy the last case's folder to here")
    parser.add_argument("-v", "--verbose", action="store_true", help="print every command and its stderr")
    return parser


def prepare(hub: object, mirror: object, base: Path) -> object:
    """Import everything, and make the sound inputs."""
    import gc
    from importlib import import_module

    import torch

    torch.set_num_threads(1)
    from installed import PRELOADED

    for name in (*PRELOADED, "huggingface_hub", "g2s_cli.training.category", "g2s_cli.result.contact_sheet"):
        import_module(name)
    from inputs import World
    from samples import Samples

    world = World(Samples.make(), hub, mirror)
    warm_up(base / "warm")
    gc.collect()
    return world


def warm_up(folder: Path) -> None:
    """Call verbs in this process: what they import and build is there in its forks."""
    import typer.main
    from inputs import FACE, QUICK

    from g2s_cli.app import app

    command = typer.main.get_command(app)
    typer.main.get_command = lambda _: command
    for words in (
        ("reconstruct", FACE, *QUICK, "--solid", "-o", folder),
        ("rotate", folder, "--yaw", "5", "--paste-back"),
        ("view", folder),
    ):
        with contextlib.redirect_stdout(io.StringIO()):
            command([*map(str, words), "--quiet"], standalone_mode=False)


def cases(options: argparse.Namespace) -> Iterator[tuple[str, int]]:
    """The kinds and indices of all cases."""
    from inputs import KINDS

    if options.case:
        kind, _, index = options.case.rpartition(SPLIT)
        yield kind, int(index)
        return
    counts = {kind: round(count * options.inputs / TOTAL_INPUTS) for kind, (_, count) in KINDS.items()}
    counts |= {"kill": options.kills, "disk": options.disks}
    for kind, count in counts.items():
        if not options.kind or kind in options.kind:
            yield from ((kind, index) for index in range(count))


def run_case(kind: str, index: int, options: argparse.Namespace, world: object, folder: Path, tally: Tally) -> None:
    """Run one case, and count its outcome and finds."""
    import faults
    import oracle
    import zygote
    from inputs import KINDS

    rng = random.Random(f"{options.seed}/{kind}/{index}")
    for name in ("", "home", "tmp", "logs"):
        (folder / name).mkdir(parents=True)
    work = folder / "work"
    work.mkdir()
    environment = {"HOME": str(folder / "home"), "TMPDIR": str(folder / "tmp"), "G2S_CACHE": str(work / "cache")}
    if kind in KINDS:
        case = KINDS[kind][0](rng, work, world)
        before = oracle.tree(folder)
        call = zygote.Call(case.words, work, environment | case.environment, case.patch)
        outcome = zygote.run(call, folder / "logs")
        outputs, caches = ([f"work/{name}" for name in names] for names in (case.outputs, case.caches))
        finds = [*oracle.check_words(outcome), *oracle.check_files(folder, before, outcome, outputs, ["logs", *caches])]
        words = case.words
    else:
        words, outcome, finds = faults.FAULTS[kind](rng, folder, environment, world)
    if options.verbose:
        used = f"{outcome.cpu_s:.2f} s of {outcome.seconds:.2f} s, {outcome.memory_bytes / 2**20:.0f} MB"
        print(
            f"{kind}{SPLIT}{index}: g2s {shlex.join(words)}\n  exit {outcome.code}, {used}\n  {outcome.stderr.strip()}"
        )
    tally.codes[str(outcome.code)] += 1
    tally.cpu_s += outcome.cpu_s
    if finds:
        tally.finds.append((index, finds))
        print(f"FIND {kind}{SPLIT}{index}: g2s {shlex.join(words)}", *finds, sep="\n    ", flush=True)


def report(tallies: dict[str, Tally], seed: int) -> int:
    """Print the table, and how to repeat each find."""
    print(f"\n{'kind':<14}{'cases':>7}{'CPU s':>9}{'finds':>7}   exit codes")
    for kind, tally in tallies.items():
        codes = "  ".join(f"{code}: {count}" for code, count in sorted(tally.codes.items()))
        print(f"{kind:<14}{tally.codes.total():>7}{tally.cpu_s:>9.0f}{len(tally.finds):>7}   {codes}")
    for kind, tally in tallies.items():
        for index, _ in tally.finds:
            print(f"again: {sys.executable} tests/fuzz --seed {seed} --case {kind}{SPLIT}{index} -v")
    return int(any(tally.finds for tally in tallies.values()))


if __name__ == "__main__":
    sys.exit(main())
