"""Cases of mutated inputs: files in a folder, and the command that reads them."""

from __future__ import annotations

import copy
import json
import random
import shutil
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fake_checkpoints
import mutations
from samples import Samples, as_json, nvidia_pickle, safetensors
from servers import Fault, FileServer, HubServer, Repo

from g2s_cli.files import sha256_of
from g2s_cli.weights.cache import models_root
from g2s_cli.weights.model_toml import _table as toml_lines

QUICK = ("--preset", "instant", "--iterations", "1")
PAPER = ("--preset", "ellipsoid", "--iterations", "1", "--no-align")


@dataclass(frozen=True)
class Case:
    """A command to run in a folder of inputs.

    Attributes:
        outputs: what it may write, relative to the folder; after a failure they are as before.
        caches: what it may change at any time.
        patch: replaces parts of g2s in the child.
    """

    words: Sequence[str]
    outputs: Sequence[str] = ("out",)
    caches: Sequence[str] = ("cache", "hf")
    environment: dict[str, str] = field(default_factory=dict)
    patch: Callable[[], object] | None = None


@dataclass
class World:
    """What cases are made of: sound inputs, and local servers."""

    samples: Samples
    hub: HubServer
    mirror: FileServer


Maker = Callable[[random.Random, Path, World], Case]


def stop_before_the_method() -> None:
    """Let `reconstruct` end where the photo has been opened."""
    from g2s_cli.commands import options

    def stop(*_: object) -> None:
        raise SystemExit(0)

    options.plan_of = stop


def stop_after_loading() -> None:
    """Let `reconstruct` end where the method would begin."""
    from g2s_cli.pipeline import Pipeline

    def stop(*_: object) -> None:
        raise SystemExit(0)

    Pipeline.__call__ = stop


def estimate_nothing() -> None:
    """Let `train --dry-run` do no trial iterations."""
    from g2s_cli.training.category import CategoryTraining

    CategoryTraining.estimate = lambda _: {}


def replace_the_method(samples: Samples) -> Callable[[], None]:
    """Let `reconstruct` write a made-up shape under the photo's pixels."""

    def patch() -> None:
        from g2s_cli import pipeline
        from g2s_cli.commands import options

        def made(photo: Any, _: object) -> Any:
            facts = {"photo": photo.name, "photo_notes": [], "inversion_psnr_db": 1.0, "reconstruction_psnr_db": 1.0}
            matte = photo.mask.matte if photo.mask else None
            kept = {"placement": photo.placement, "original": photo.original, "matte": matte}
            return replace(samples.result, **kept, report=facts | {"seconds": {}, "warnings": []})

        made.loaded = SimpleNamespace(category=SimpleNamespace(image_size=128))
        options.plan_of = lambda _: None
        pipeline.Pipeline.of = lambda *_: made

    return patch


def changed_file(rng: random.Random, files: dict[str, bytes]) -> tuple[str, bytes]:
    """One of the files, changed, sometimes under the name of another."""
    name, data = rng.choice(list(files.items()))
    change = mutations.change_png if data.startswith(b"\x89PNG") and rng.random() < 0.6 else mutations.change_bytes
    return (rng.choice(list(files)) if rng.random() < 0.1 else name), change(rng, data)


def photo(rng: random.Random, folder: Path, world: World) -> Case:
    name, data = changed_file(rng, world.samples.photos)
    (folder / name).write_bytes(data)
    how = rng.choice(((), ("--no-align",), ("--no-align",), ("--no-align",), ("--crop", "10,10,60,70")))
    whole = rng.random() < 0.08
    patch = replace_the_method(world.samples) if whole else stop_before_the_method
    return Case(("reconstruct", name, *how, *QUICK, "-o", "out"), patch=patch)


def mask(rng: random.Random, folder: Path, world: World) -> Case:
    name, data = changed_file(rng, world.samples.masks)
    (folder / name).write_bytes(data)
    (folder / "photo.jpg").write_bytes(world.samples.photos["progressive.jpg"])
    whole = rng.random() < 0.08
    patch = replace_the_method(world.samples) if whole else stop_before_the_method
    return Case(("reconstruct", "photo.jpg", "--no-align", "--mask", name, *QUICK, "-o", "out"), patch=patch)


def _use(rng: random.Random, folder: Path, file: str) -> Case:
    """A command that reads a checkpoint."""
    shutil.copy(FACE, folder / "face.png")
    return rng.choice(
        (
            Case(("weights", "import", file, "--category", rng.choice(("owls", "owls", "celeba"))), ()),
            Case(("sample", "--gan", file, "--count", "2", "-o", "s.png"), ("s.png",)),
            Case(("sample", "--gan", file, "--count", "2", "-o", "s.png"), ("s.png",)),
            Case(("reconstruct", "face.png", "--gan", file, *PAPER, "-o", "out")),
        )
    )


def torch_file(rng: random.Random, folder: Path, world: World) -> Case:
    part, state = rng.choice(list(world.samples.states.items()))
    options = {"_use_new_zipfile_serialization": rng.random() < 0.7}
    if rng.random() < 0.6:
        state = mutations.change_state(rng, state)
        if rng.random() < 0.1:
            state = rng.choice(([state], {"state_dict": state}, {"g_ema": rng.choice(mutations.ODD_VALUES)}, 3))
        data = fake_checkpoints.saved(state, **options)
    else:
        data = mutations.change_bytes(rng, fake_checkpoints.saved(state, **options))
    (folder / f"{part}.pt").write_bytes(data)
    return _use(rng, folder, f"{part}.pt")


def pickle_file(rng: random.Random, folder: Path, world: World) -> Case:
    state = world.samples.nvidia
    if rng.random() < 0.5:
        changes = {rng.choice(("G", "D", "G_ema")): rng.choice(mutations.ODD_VALUES)} if rng.random() < 0.3 else {}
        data = nvidia_pickle(mutations.change_state(rng, state), **changes)
    else:
        data = mutations.change_bytes(rng, nvidia_pickle(state))
    (folder / "net.pkl").write_bytes(data)
    return _use(rng, folder, "net.pkl")


def safetensors_file(rng: random.Random, folder: Path, world: World) -> Case:
    part, state = rng.choice(list(world.samples.flat.items()))
    data = safetensors(mutations.change_state(rng, state) if rng.random() < 0.5 else state)
    if rng.random() < 0.7:
        data = rng.choice((mutations.change_bytes, mutations.change_safetensors))(rng, data)
    name = f"{part}.safetensors"
    (folder / name).write_bytes(data)
    if part != "latents":
        return _use(rng, folder, name)
    shutil.copy(FACE, folder / "face.png")
    (folder / "gan.pt").write_bytes(fake_checkpoints.saved(world.samples.states["gan"]))
    row = rng.choice(("", ":0", ":3", ":4", ":-1"))
    return Case(("reconstruct", "face.png", "--gan", "gan.pt", "--latent", name + row, *PAPER, "-o", "out"))


def model_toml(rng: random.Random, folder: Path, world: World) -> Case:
    own = rng.random() < 0.6
    source = models_root() / "synface" / "model.toml"
    if rng.random() < 0.25:
        text = mutations.change_bytes(rng, source.read_bytes())
    else:
        data = world.samples.category if own else tomllib.loads(source.read_text())
        text = toml(mutations.change_value(rng, data))
    place = folder / rng.choice(("cache", "")) / "cat"
    place.mkdir(parents=True)
    (place / "model.toml").write_bytes(text)
    if not own:
        for file in source.parent.glob("*.safetensors"):
            (place / file.name).symlink_to(file)
    shutil.copy(FACE, folder / "face.png")
    (folder / "gan.pt").write_bytes(fake_checkpoints.saved(world.samples.states["gan"]))
    name = "cat" if place.parent.name == "cache" else "./cat/"
    method = ("--gan", "gan.pt", *PAPER) if own or rng.random() < 0.8 else (*QUICK, "--no-align")
    patch = None if rng.random() < 0.3 else stop_after_loading
    reconstruction = Case(("reconstruct", "face.png", "-c", name, *method, "-o", "out"), patch=patch)
    others = (
        Case(("weights", "list"), ()),
        Case(("sample", "-c", name, "--count", "1", "-o", "s.png"), ("s.png",)),
        Case(("weights", "path", name), ()),
        Case(("weights", "import", "gan.pt", "-c", "cat"), ()),
    )
    return rng.choice(others) if rng.random() < 0.4 else reconstruction


def toml(data: Any) -> bytes:
    """A TOML file of tables, as far as TOML has such values."""
    text = "\n".join(toml_lines(data, "")) if isinstance(data, dict) else str(data)
    return text.replace("None", '"none"').replace("True", "true").encode("utf-8", "surrogatepass")


def train_toml(rng: random.Random, folder: Path, world: World) -> Case:
    from g2s_cli.training.train_config import PRESETS, TrainConfig

    config = asdict(TrainConfig()) | {"presets": PRESETS, "category": world.samples.category["lights"]}
    config = {name: config[name] for name in rng.sample(sorted(config), rng.randrange(1, len(config)))}
    text = toml(mutations.change_value(rng, config))
    if rng.random() < 0.2:
        text = mutations.change_bytes(rng, text)
    (folder / "train.toml").write_bytes(text)
    (folder / "gan.pt").write_bytes(fake_checkpoints.saved(world.samples.states["gan"]))
    until = rng.choice((("--dry-run",), ("--dry-run",), ("--until", "gan")))
    return Case(
        ("train", "gan.pt", "--config", "train.toml", *until, "-o", "out"), (), ("out",), patch=estimate_nothing
    )


def result(rng: random.Random, folder: Path, world: World) -> Case:
    (folder / "res").mkdir()
    for file, data in world.samples.folder.items():
        (folder / "res" / file).write_bytes(data)
    names = ["state.safetensors"] * 3 + ["report.json"] * 2 + ["aligned.png", "camera.json", "original.png", "mesh.glb"]
    _change_result(rng, folder / "res" / rng.choice(names), world.samples)
    verbs = (
        Case(("rotate", "res", "--yaw", "5", "--size", "64"), ("res/rotate",)),
        Case(("rotate", "res", "--yaw", "5", "--size", "48", "--paste-back", "-o", "new"), ("new",)),
        Case(("relight", "res", "--light", "0.5,0.2", "--size", "64", "-o", "new"), ("new",)),
        Case(("view", "res"), ("res/view.html",)),
        Case(("mesh", "res", "--mesh-size", "32", "--texture-size", "64", "-o", "new"), ("new",)),
        Case(("mesh", "res", "--mesh-size", "32", "--solid", "--overwrite"), OWN_MESH),
        Case(("sheet", "res", "--size", "64", "-o", "s.png"), ("s.png",)),
        Case(("rotate", "res", "--yaw", "3", "--renderer", "gan"), ("res/rotate",)),
    )
    return rng.choices(verbs, (4, 3, 4, 4, 3, 2, 2, 0.2))[0]


def _change_result(rng: random.Random, path: Path, samples: Samples) -> None:
    data = samples.folder[path.name]
    match rng.randrange(8):
        case 0:
            path.unlink()
            rng.choice((lambda: None, path.mkdir, lambda: path.symlink_to(path)))()
        case 1 | 2:
            path.write_bytes(mutations.change_bytes(rng, data))
        case _ if path.suffix == ".json":
            path.write_bytes(as_json(mutations.change_value(rng, json.loads(data))))
        case _ if path.suffix == ".png":
            path.write_bytes(mutations.change_png(rng, data))
        case 3 | 4 if path.suffix == ".safetensors":
            path.write_bytes(_changed_metadata(rng, data))
        case _ if path.suffix == ".safetensors":
            path.write_bytes(_changed_tensors(rng, data))
        case _:
            path.write_bytes(mutations.change_bytes(rng, data))


def _changed_metadata(rng: random.Random, data: bytes) -> bytes:
    """A result's state whose camera, placement or other facts are changed."""
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    facts = header["__metadata__"]
    name = rng.choice(list(facts))
    try:
        facts[name] = json.dumps(mutations.change_value(rng, json.loads(facts[name])), default=str)
    except ValueError:
        facts[name] = str(rng.choice(mutations.ODD_VALUES))
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data[8 + size :]


def _changed_tensors(rng: random.Random, data: bytes) -> bytes:
    from safetensors.torch import load, save

    size = int.from_bytes(data[:8], "little")
    facts = json.loads(data[8 : 8 + size])["__metadata__"]
    state = mutations.change_state(rng, load(data))
    return save({name: tensor.contiguous().clone() for name, tensor in state.items()}, facts)


def hub(rng: random.Random, folder: Path, world: World) -> Case:
    data = copy.deepcopy(world.samples.category)
    gan = safetensors(world.samples.flat["gan"])
    (folder / "gan.safetensors").write_bytes(gan)
    data["weights"] = {"gan": {"file": "gan.safetensors", "sha256": sha256_of(folder / "gan.safetensors")}}
    (folder / "gan.safetensors").unlink()
    files = {"owls/model.toml": toml(data), "owls/gan.safetensors": gan, "owls/README.md": b"# owls\n"}
    which = rng.randrange(4)
    if which == 0:
        name = rng.choice(list(files))
        files[name] = mutations.change_bytes(rng, files[name])
    elif which == 1:
        files["owls/model.toml"] = toml(mutations.change_value(rng, data))
    elif which == 2:
        del files[rng.choice(list(files))]
    world.hub.repos["me/cat"] = Repo.of(files, gated=rng.random() < 0.05)
    mode = rng.choice(("cut", "wrong", "status", "no_ranges"))
    path = rng.choice(("model.toml", "gan.safetensors", "cdn", "/"))
    status = rng.choice((200, 204, 206, 301, 400, 401, 403, 404, 416, 418, 500))
    fault = Fault(path, mode, rng.choice((1, 2, 50)), share=rng.random(), status=status)
    world.hub.faults[:] = [fault] if which == 3 or rng.random() < 0.2 else []
    verb = rng.choice((("weights", "pull", "owls"), ("sample", "-c", "owls", "--count", "1", "-o", "s.png")))
    return Case((*verb, "--hub-repo", rng.choice(("me/cat",) * 9 + ("me/cat@x",))), ("s.png",))


def release(rng: random.Random, folder: Path, world: World) -> Case:
    files = dict(world.samples.release)
    name = rng.choice(list(files))
    if rng.random() < 0.5:
        files[name] = mutations.change_bytes(rng, files[name])
    if rng.random() < 0.1:
        del files[name]
    fault = Fault(name, rng.choice(("cut", "wrong", "no_ranges", "status")), 50, rng.random(), rng.choice((404, 418)))
    world.mirror.files = files
    world.mirror.faults[:] = [fault] if rng.random() < 0.4 else []
    return Case(("weights", "pull", "car"), (), environment={"G2S_RELEASE_URL": world.mirror.url})


FACE = Path(__file__).parents[1] / "data" / "face.png"
MESH_FILES = "mesh.glb mesh.obj mesh.mtl texture.png texture_albedo.png report.json mesh.stl mesh.ply"
OWN_MESH = tuple(f"res/{name}" for name in MESH_FILES.split())
KINDS: dict[str, tuple[Maker, int]] = {  # and their counts in a run of 2000
    "photo": (photo, 460),
    "mask": (mask, 200),
    "pt": (torch_file, 240),
    "pkl": (pickle_file, 180),
    "safetensors": (safetensors_file, 220),
    "model.toml": (model_toml, 200),
    "train.toml": (train_toml, 120),
    "result": (result, 300),
    "hub": (hub, 60),
    "release": (release, 20),
}
