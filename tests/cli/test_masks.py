"""What finds the object in a photo, and whether the background is fitted."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import fake_checkpoints
import numpy as np
import pytest
from caches import COARSE, FACE, NO_PROXY, REPO
from installed import Command
from PIL import Image, ImageDraw
from servers import TOKEN, FileServer, HubServer

from g2s_cli.weights.categories import load_category

SIDE, DISC = 32, (8, 6, 24, 26)
WITHOUT_PARSING = {
    "gan": fake_checkpoints.gan(SIDE),
    "networks": fake_checkpoints.networks(SIDE),
    "views": fake_checkpoints.statistics(6),
    "lights": fake_checkpoints.statistics(4),
}
QUICK = ("reconstruct", "photo.png", "-c", "celeba", "--no-align", "--iterations", 0, *COARSE, "--overwrite")
IMPORT = ("weights", "import", "-c", "celeba")


@pytest.fixture
def g2s(g2s: Command, home: Path, tmp_path: Path) -> Command:
    """g2s with an empty cache, and files of celeba to import."""
    files = WITHOUT_PARSING | {
        "bisenet": fake_checkpoints.parsing(),
        "pspnet_voc": fake_checkpoints.parsing("pspnet-voc"),
    }
    for name, content in files.items():
        (tmp_path / f"{name}.pth").write_bytes(fake_checkpoints.saved(content))
    picture = Image.new("RGB", (SIDE, SIDE), "navy")
    ImageDraw.Draw(picture).ellipse(DISC, fill="tomato")
    picture.save(tmp_path / "photo.png")
    return g2s.using(HF_HOME=home, **NO_PROXY)


@pytest.fixture
def celeba(g2s: Command) -> Command:
    """The same, with celeba imported but for its parsing network."""
    g2s.ok(*IMPORT, *(f"{name}.pth" for name in WITHOUT_PARSING))
    return g2s


def test_the_parsing_network_makes_the_mask_else_gan_features(celeba: Command, tmp_path: Path) -> None:
    with FileServer({}) as server:
        answer = celeba.using(G2S_RELEASE_URL=server.url).ok(*QUICK, "--json")
        assert server.log == []  # the parsing network is not fetched alone
    report = json.loads(answer.stdout)
    assert report["mask"] == "features of the GAN"
    assert any("g2s weights pull celeba" in sentence for sentence in report["warnings"])
    assert "The parsing network of celeba is not here" in answer.stderr
    assert "parsing" not in report["weights"]

    celeba.ok(*IMPORT, "bisenet.pth")
    report = celeba.using(HF_HUB_OFFLINE="1").json(*QUICK)
    assert report["mask"] == "bisenet"
    assert "parsing" in report["weights"]
    assert not any("parsing network" in sentence for sentence in report["warnings"])
    rows, columns = np.nonzero(np.asarray(Image.open(tmp_path / "out" / "mask.png")) > 127)
    box = [columns.min(), rows.min(), columns.max(), rows.max()]
    assert box == pytest.approx(DISC, abs=1)  # the network's output is an eighth of 512 px


@pytest.mark.parametrize(
    ("category", "message"),
    [
        ("celeba", "pspnet_voc.pth is a PSPNet of 21 classes; masks of celeba need bisenet, of 19."),
        ("church", "pspnet_voc.pth is a PSPNet of 21 classes; masks of church need pspnet-ade20k, of 150."),
        ("owls", "pspnet_voc.pth is a parsing network; nothing says which of its classes owls shows."),
    ],
)
def test_a_network_of_other_classes_is_not_imported(g2s: Command, home: Path, category: str, message: str) -> None:
    stderr = g2s.fails(4, "weights", "import", "views.pth", "pspnet_voc.pth", "-c", category)
    assert stderr.startswith(f"g2s: {message} ")
    assert stderr.count("\n") == 1
    assert not (home / "g2s" / category).exists()


def test_a_release_with_another_parsing_network_is_refused(g2s: Command, home: Path) -> None:
    contents = WITHOUT_PARSING | {"parsing": fake_checkpoints.parsing("pspnet-voc")}
    weights = load_category("celeba").weights
    parts = {entry.member: fake_checkpoints.saved(contents[part]) for part, entry in weights.items()}
    with FileServer(fake_checkpoints.release(parts)) as server:
        message = g2s.using(G2S_RELEASE_URL=server.url).fails(4, "weights", "pull", "celeba")
    assert "is a PSPNet of 21 classes" in message
    assert not list(home.rglob("*.safetensors"))


def test_the_parsing_network_comes_along_from_a_hub_repository(celeba: Command, tmp_path: Path) -> None:
    with HubServer({}) as hub:
        celeba = celeba.using(HF_ENDPOINT=hub.url, HF_TOKEN=TOKEN)
        for mask in ("features of the GAN", "bisenet"):
            celeba.ok("weights", "publish", "celeba", "--repo", REPO)
            elsewhere = celeba.using(HF_HOME=tmp_path / mask)
            assert elsewhere.json(*QUICK, "--hub-repo", REPO)["mask"] == mask
            celeba.ok(*IMPORT, "bisenet.pth")


@pytest.mark.slow
def test_background_overrides_the_preset(g2s: Command, tmp_path: Path) -> None:
    depths = []
    for choice in ("keep", "remove"):
        report = g2s.json("reconstruct", FACE, "--iterations", 0, *COARSE, "--overwrite", "--background", choice)
        assert report["background"] == choice
        depths.append(np.load(tmp_path / "out" / "depth.npy"))
    assert np.nanmax(np.abs(depths[0] - depths[1])) > 1e-4


@pytest.mark.slow
def test_pretrain_uses_the_categorys_masks(
    g2s: Command, archive_of: Callable[[str], dict[str, bytes]], home: Path, tmp_path: Path
) -> None:
    (tmp_path / "photos").mkdir()
    Image.open(FACE).save(tmp_path / "photos" / "face.png")
    quick = ("pretrain", "photos", "-c", "celeba", "--iterations", 1, "--cycles", 1)
    with FileServer(dict(archive_of("celeba"))) as server:  # the parsing network comes along with the rest
        trained = g2s.using(G2S_RELEASE_URL=server.url).ok(*quick, "-o", "run", "--as", "faces")
    assert "parsing network" not in trained.stderr
    assert "parsing" in json.loads((tmp_path / "run" / "settings.json").read_text())["weights"]
    assert g2s.json("reconstruct", FACE, "-c", "faces", "--iterations", 0, *COARSE)["mask"] == "bisenet"
    (home / "g2s" / "celeba" / "parsing.json").unlink()
    warning = (
        "The parsing network of celeba is not here (g2s weights pull celeba): the masks are those of the GAN's own"
    )
    assert warning in g2s.ok(*quick, "-o", "run2").stderr
