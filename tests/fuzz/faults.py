"""Signals at random moments of every verb, and disks that fill up at random bytes."""

from __future__ import annotations

import copy
import hashlib
import os
import random
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import fake_checkpoints
import numpy as np
import oracle
import zygote
from inputs import FACE, World, toml
from PIL import Image
from samples import safetensors
from servers import TOKEN, Repo

from g2s_cli.result.schema import STATE
from g2s_cli.weights.model_toml import set_file

SMALL = ("--mesh-size", "32", "--texture-size", "64")
QUICK = ("--preset", "instant", "--iterations", "1", "--no-align")
MAX_KILL_S = 5.0  # after the start; later moments of longer verbs are like earlier ones
PAGE = 4096


@dataclass(frozen=True)
class Verb:
    """A command in a folder of inputs.

    Attributes:
        words: of the command; those of outputs begin with {disk}.
        target: what it writes, in the folder of outputs.
        resumable: whether its target may hold what has been done after a failure.
        earlier: what makes an earlier target that the command replaces; with --overwrite.
    """

    words: str
    target: str
    resumable: bool = False
    earlier: Callable[[World, Path], None] | None = None


def earlier_result(world: World, path: Path) -> None:
    path.mkdir()
    for name, data in world.samples.folder.items():
        (path / name).write_bytes(data)


def earlier_pictures(world: World, path: Path) -> None:
    path.mkdir()
    (path / "000.png").write_bytes(world.samples.folder["aligned.png"])


def earlier_sheet(world: World, path: Path) -> None:
    path.write_bytes(world.samples.folder["aligned.png"])


one, small = " ".join(QUICK), " ".join(SMALL)
VERBS = (
    Verb(f"reconstruct face.png {one} {small} -o {{disk}}/out", "out"),
    Verb(f"reconstruct face.png {one} {small} -o {{disk}}/out --overwrite", "out", earlier=earlier_result),
    Verb(f"reconstruct photos {one} {small} -o {{disk}}/out", "out", resumable=True),
    Verb("rotate res --yaw -5:5 --frames 3 --size 48 -o {disk}/out --overwrite", "out", earlier=earlier_pictures),
    Verb("rotate res --yaw 5 --paste-back -o {disk}/out", "out"),
    Verb("relight res --light 0.5,0 --size 64 -o {disk}/out --overwrite", "out", earlier=earlier_pictures),
    Verb("view res -o {disk}/page.html", "page.html"),
    Verb(f"mesh res {small} --solid -o {{disk}}/out", "out"),
    Verb("mesh {disk}/out --mesh-size 32 --overwrite", "out", earlier=earlier_result),
    Verb("sheet res --size 64 -o {disk}/s.png --overwrite", "s.png", earlier=earlier_sheet),
    Verb("sample --gan gan.pt --count 4 --save -o {disk}/s.png", "s.png"),
    Verb(f"evaluate data {' '.join(QUICK[:-1])} -o {{disk}}/out", "out", resumable=True),
    Verb(
        "train --photos crops.npy --config train.toml --until gan --save-every 0 -o {disk}/out", "out", resumable=True
    ),
    Verb("pretrain photos -c ./tiny/ --cycles 1 --save-every 0 -o {disk}/out --as new", "out", resumable=True),
    Verb("weights list", "none"),
    Verb("weights verify", "none"),
    Verb("weights import gan.pt --category new", "cache/new"),
    Verb("weights pull owls --hub-repo me/owls", "cache/owls", resumable=True),
    Verb("weights publish synface --repo me/new", "none"),
)
SERVER = Verb("app --no-open --port 0", "none")  # ends by signals alone
TRAIN = "[gan]\nsize = 16\nupdates = 4\nbatch = 4\nencoder_updates = 2\n[photos]\ncount = 8\n[depth]\ncount = 8\n"
JOINT = {
    "stages": [[1, 1, 1]],
    "batch": 2,
    "samples": 2,
    "rate": 1e-4,
    "decay": 5e-4,
    "prior": 1,
    "masked": False,
    "symmetry": "on",
    "candidates": 16,
    "invert": 1,
    "width": 8,
    "encoder_width": 8,
}
whole_run: dict[str, tuple[float, int]] = {}  # seconds of a verb, and bytes that it writes


def kill(
    rng: random.Random, folder: Path, environment: dict[str, str], world: World
) -> tuple[Sequence[str], zygote.Outcome, list[str]]:
    """Send a signal to a verb at a random moment."""
    verb, sent = rng.choice((*VERBS, SERVER)), rng.choice((signal.SIGKILL, signal.SIGTERM, signal.SIGINT))
    share = rng.random()
    bench = Bench(folder, environment, world)
    seconds, _ = bench.measure(verb)
    bench.prepare(verb)
    outcome = bench.run(verb, kill=(sent, share * min(seconds, MAX_KILL_S)))
    finds = [*bench.check(verb, outcome, sent)]
    if sent == signal.SIGKILL and not finds and verb != SERVER:
        bench.age_leftovers()
        again = bench.run(verb, overwrite=True)
        finds += [
            f"run again after a kill: {find}" for find in (*oracle.check_words(again), *bench.check_whole(verb, again))
        ]
    return [*bench.words(verb), f"# {sent.name} after {share * min(seconds, MAX_KILL_S):.2f} s"], outcome, finds


def disk(
    rng: random.Random, folder: Path, environment: dict[str, str], world: World
) -> tuple[Sequence[str], zygote.Outcome, list[str]]:
    """Let a disk, or every file, be full at a random byte. Only root can mount a disk."""
    verb = rng.choice(
        [verb for verb in VERBS if "{disk}" in verb.words or "import" in verb.words or "pull" in verb.words]
    )
    share = rng.random() ** 2
    bench = Bench(folder, environment, world)
    _, size = bench.measure(verb)
    if os.geteuid() or rng.random() < 0.3:
        bench.prepare(verb)
        outcome = bench.run(verb, max_file_bytes=int(share * size))
        return [*bench.words(verb), f"# {int(share * size)} bytes a file"], outcome, [*bench.check(verb, outcome, None)]
    bench.place.mkdir(exist_ok=True)
    free = PAGE * (1 + int(share * size / PAGE))
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={free + 2**24}", "none", bench.place], check=True)
    try:
        bench.prepare(verb)
        used = shutil.disk_usage(bench.place)
        (bench.place / "ballast").write_bytes(bytes(max(0, used.free - free)))
        outcome = bench.run(verb)
        finds = [*bench.check(verb, outcome, None)]
    finally:
        subprocess.run(["umount", "-l", bench.place], check=True)
    return [*bench.words(verb), f"# {free} bytes free"], outcome, finds


FAULTS = {"kill": kill, "disk": disk}


class Bench:
    """A folder with the inputs of all verbs, and one for their outputs, caches and temporary files."""

    def __init__(self, folder: Path, environment: dict[str, str], world: World) -> None:
        self.folder, self.work, self.place, self.world = folder, folder / "work", folder / "disk", world
        places = {"G2S_CACHE": self.place / "cache", "TMPDIR": self.place / "tmp"}
        self.environment = environment | {name: str(path) for name, path in places.items()} | {"HF_TOKEN": TOKEN}
        self._write_inputs()

    def _write_inputs(self) -> None:
        work = self.work
        shutil.copy(FACE, work / "face.png")
        earlier_result(self.world, work / "res")
        (work / "gan.pt").write_bytes(fake_checkpoints.saved(self.world.samples.states["gan"]))
        (work / "photos").mkdir()
        for name in ("a.png", "b.png"):
            shutil.copy(FACE, work / "photos" / name)
        for part in ("image", "depth"):
            (work / "data" / part).mkdir(parents=True)
        shutil.copy(FACE, work / "data" / "image" / "a_image.png")
        depth = Image.radial_gradient("L").resize((64, 64)).point(lambda value: 255 - value if value < 180 else 0)
        depth.save(work / "data" / "depth" / "a_depth.png")
        np.save(work / "crops.npy", np.random.default_rng(0).integers(0, 255, (8, 16, 16, 3)).astype(np.uint8))
        (work / "train.toml").write_text(TRAIN)
        data, gan = copy.deepcopy(self.world.samples.category), safetensors(self.world.samples.flat["gan"])
        set_file(data, "gan", "gan.safetensors", hashlib.sha256(gan).hexdigest())
        self.category = {"model.toml": toml(data | {"pretrain": JOINT}), "gan.safetensors": gan, "README.md": b"# x\n"}
        (work / "tiny").mkdir()
        for name, content in self.category.items():
            (work / "tiny" / name).write_bytes(content)

    def _fill_hub(self) -> None:
        self.world.hub.faults[:] = []
        self.world.hub.repos.clear()
        self.world.hub.repos["me/owls"] = Repo.of({f"owls/{name}": data for name, data in self.category.items()})

    def prepare(self, verb: Verb) -> None:
        """Empty the folder of outputs, but for the verb's earlier target."""
        self._fill_hub()
        self.place.mkdir(exist_ok=True)
        for path in self.place.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        (self.place / "tmp").mkdir()
        home = Path(os.environ["HF_HOME"])  # the Hub's library has read it when it was imported
        home.unlink() if home.is_symlink() else shutil.rmtree(home, ignore_errors=True)
        (self.place / "hf").mkdir()
        home.symlink_to(self.place / "hf")
        if verb.earlier:
            verb.earlier(self.world, self.place / verb.target)
        self.before = oracle.tree(self.folder)
        target = self.place / verb.target
        self.earlier = oracle.tree(target) if target.is_dir() else {}

    def words(self, verb: Verb, *, overwrite: bool = False) -> list[str]:
        """The words of a verb's command."""
        words = verb.words.format(disk=self.place).split()
        can_overwrite = words[0] in {"reconstruct", "rotate", "relight", "view", "mesh", "sheet", "sample"}
        return words + (["--overwrite"] if overwrite and can_overwrite and "--overwrite" not in words else [])

    def run(self, verb: Verb, *, overwrite: bool = False, **faults: object) -> zygote.Outcome:
        """Run a verb."""
        words = self.words(verb, overwrite=overwrite)
        return zygote.run(zygote.Call(words, self.work, self.environment, **faults), self.folder / "logs")

    def measure(self, verb: Verb) -> tuple[float, int]:
        """The seconds of a verb, and the bytes that it writes."""
        if verb == SERVER:
            return MAX_KILL_S, 0
        if verb.words not in whole_run:
            self.prepare(verb)
            outcome = self.run(verb)
            if outcome.code or (faults := [*self.check_whole(verb, outcome)]):
                raise RuntimeError(f"{verb.words} fails: {outcome.stderr}{'' if outcome.code else faults}")
            written = sum(path.stat().st_size for path in self.place.rglob("*") if path.is_file())
            whole_run[verb.words] = outcome.seconds, written
        return whole_run[verb.words]

    def check(self, verb: Verb, outcome: zygote.Outcome, sent: signal.Signals | None) -> Iterator[str]:
        """Codes and words, the earlier target, and what is left."""
        if sent is not None:
            yield from oracle.check_killed(outcome, sent)
        if outcome.code is None or outcome.code >= 0:
            yield from oracle.check_words(outcome)
        ignored = ["logs", "disk/cache", "disk/hf", "disk/ballast"]
        target = self.place / verb.target
        if outcome.code == 0 or verb.resumable:
            ignored += [f"disk/{verb.target}", *([f"disk/{target.stem}"] if "--save" in verb.words else [])]
        changed = oracle.difference(self.before, oracle.tree(self.folder), ignored)
        if sent == signal.SIGKILL and outcome.code:
            changed = [path for path in changed if not path.startswith("disk/")]
            yield from oracle.nothing_lost(self.earlier, target, self.fault)
        if sent is not None and changed and not self.fault(target):  # the signal came after the target
            changed = [path for path in changed if not path.startswith(f"disk/{target.stem}")]
        if changed:
            yield f"changed, new or gone: {', '.join(changed[:4])}"
        if (
            verb.target.startswith("cache/")
            and not verb.resumable
            and outcome.code
            and (target / "model.toml").exists()
            and not (target / "gan.safetensors").exists()  # else the signal came after the whole category
        ):
            yield f"{verb.target} is a category without a GAN"
        if outcome.code == 0:
            yield from self.check_whole(verb, outcome)
        elif verb.resumable and (target / STATE).is_file():
            yield from oracle.check_output(target)

    def check_whole(self, verb: Verb, outcome: zygote.Outcome) -> Iterator[str]:
        """After a success, the target is there and whole."""
        target = self.place / verb.target
        if outcome.code == 0 and verb.target != "none" and (fault := self.fault(target)):
            yield f"{verb.target} is not whole: {fault}"
        yield from oracle.check_records(self.place / "cache")

    def age_leftovers(self) -> None:
        """Let an hour pass: then temporary files are a killed process's, not another one's."""
        for path in (self.place / "cache").rglob(".*"):
            os.utime(path, (0, 0))

    def fault(self, target: Path) -> str:
        """Why a target is not whole, or ""."""
        if not target.exists():
            return "it is missing"
        if target.is_file():
            return "" if target.stat().st_size else "it is empty"
        results = [path.parent for path in (*target.glob(STATE), *target.glob(f"*/{STATE}"))]
        if faults := [fault for path in results if (fault := oracle.result_fault(path))]:
            return faults[0]
        return "" if any(target.iterdir()) else "it is empty"
