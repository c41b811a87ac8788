"""Who finds the object in a photo, and what is done about the rest of it: the installed command."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import fake_checkpoints
import numpy as np
import pytest
from PIL import Image, ImageDraw
from servers import TOKEN, FileServer, HubServer

from g2s_cli.weights.categories import load_category

FACE = Path(__file__).parent.parent / "data" / "face.png"
SIDE, DISC = 32, (8, 6, 24, 26)
REPO = "somebody/shapes"
LOCAL = {"HTTP_PROXY": "", "HTTPS_PROXY": "", "NO_PROXY": "127.0.0.1", "HF_HUB_DISABLE_XET": "1"}
WITHOUT_PARSER = {
    "gan": fake_checkpoints.gan(SIDE),
    "networks": fake_checkpoints.networks(SIDE),
    "views": fake_checkpoints.statistics(6),
    "lights": fake_checkpoints.statistics(4),
}


@pytest.fixture
def here(g2s: Callable, tmp_path: Path) -> Callable:
    """g2s with a cache of its own, and files of celeba to import."""
    for name, content in (WITHOUT_PARSER | {"bisenet": fake_checkpoints.parsing()}).items():
        (tmp_path / f"{name}.pth").write_bytes(fake_checkpoints.saved(content))
    (tmp_path / "pspnet_voc.pth").write_bytes(fake_checkpoints.saved(fake_checkpoints.parsing("pspnet-voc")))
    picture = Image.new("RGB", (SIDE, SIDE), "navy")
    ImageDraw.Draw(picture).ellipse(DISC, fill="tomato")
    picture.save(tmp_path / "photo.png")

    def run(*arguments: object, **environment: str) -> object:
        return g2s(*arguments, **LOCAL | {"HF_HOME": str(tmp_path / "hf")} | environment)

    return run


def reconstructed(answer: object) -> dict:
    assert answer.returncode == 0, answer.stderr
    return json.loads(answer.stdout)


QUICK = ("reconstruct", "photo.png", "-c", "celeba", "--iterations", 0, "--json", "--overwrite")
IMPORT = ("weights", "import", "-c", "celeba")


def test_the_network_where_it_is_here_else_the_features(here: Callable, tmp_path: Path) -> None:
    here(*IMPORT, *(f"{name}.pth" for name in WITHOUT_PARSER))
    with FileServer({}) as server:
        answer = here(*QUICK, G2S_RELEASE_URL=server.url)
        assert server.log == []  # it is not fetched alone
    report = reconstructed(answer)
    assert report["mask"] == "features of the GAN"
    assert any("g2s weights pull celeba" in sentence for sentence in report["warnings"])
    assert "The parsing network of celeba is not here" in answer.stderr
    assert "parsing" not in report["weights"]

    here(*IMPORT, "bisenet.pth")
    answer = here(*QUICK, HF_HUB_OFFLINE="1")
    report = reconstructed(answer)
    assert report["mask"] == "bisenet"
    assert "parsing" in report["weights"]
    assert not any("parsing network" in sentence for sentence in report["warnings"])
    rows, columns = np.nonzero(np.asarray(Image.open(tmp_path / "out" / "mask.png")) > 127)
    box = [columns.min(), rows.min(), columns.max(), rows.max()]
    assert box == pytest.approx(DISC, abs=1)  # the network sees at an eighth of 512 px


@pytest.mark.parametrize(
    ("category", "says"),
    [
        ("celeba", "pspnet_voc.pth is a PSPNet of 21 classes; masks of celeba are made by bisenet, of 19."),
        ("church", "pspnet_voc.pth is a PSPNet of 21 classes; masks of church are made by pspnet-ade20k, of 150."),
        ("owls", "pspnet_voc.pth is a parsing network; nothing says which of its classes owls shows."),
    ],
)
def test_a_network_of_other_classes_is_not_imported(here: Callable, tmp_path: Path, category: str, says: str) -> None:
    answer = here("weights", "import", "views.pth", "pspnet_voc.pth", "-c", category)
    assert answer.returncode == 4
    assert answer.stderr.startswith(f"g2s: {says} ")
    assert answer.stderr.count("\n") == 1
    assert not (tmp_path / "hf" / "g2s" / category).exists()


def test_a_mirror_with_the_wrong_network_is_refused(here: Callable, tmp_path: Path) -> None:
    category = load_category("celeba")
    contents = WITHOUT_PARSER | {"parsing": fake_checkpoints.parsing("pspnet-voc")}
    parts = {entry.member: fake_checkpoints.saved(contents[part]) for part, entry in category.weights.items()}
    with FileServer(fake_checkpoints.release(parts)) as server:
        answer = here("weights", "pull", "celeba", G2S_RELEASE_URL=server.url)
    assert answer.returncode == 4
    assert "is a PSPNet of 21 classes" in answer.stderr
    assert not list((tmp_path / "hf").rglob("*.safetensors"))


def test_it_comes_along_from_the_hub_if_the_repository_has_it(here: Callable, tmp_path: Path) -> None:
    here(*IMPORT, *(f"{name}.pth" for name in WITHOUT_PARSER))
    with HubServer({}) as hub:
        for found in ("features of the GAN", "bisenet"):
            answer = here("weights", "publish", "celeba", "--repo", REPO, HF_ENDPOINT=hub.url, HF_TOKEN=TOKEN)
            assert answer.returncode == 0, answer.stderr
            elsewhere = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / found)}
            assert reconstructed(here(*QUICK, "--hub-repo", REPO, **elsewhere))["mask"] == found
            here(*IMPORT, "bisenet.pth")


def test_the_background_is_kept_or_removed_whatever_the_preset_does(here: Callable, tmp_path: Path) -> None:
    depths = []
    for choice in ("keep", "remove"):
        arguments = ("reconstruct", FACE, "--iterations", 0, "--json", "--overwrite", "--background", choice)
        assert reconstructed(here(*arguments))["background"] == choice
        depths.append(np.load(tmp_path / "out" / "depth.npy"))
    assert np.nanmax(np.abs(depths[0] - depths[1])) > 1e-4


def test_networks_are_trained_with_the_masks_that_their_category_has(
    here: Callable, archives: dict[str, dict[str, bytes]], tmp_path: Path
) -> None:
    (tmp_path / "photos").mkdir()
    Image.open(FACE).save(tmp_path / "photos" / "face.png")
    quick = ("pretrain", "photos", "-c", "celeba", "--iterations", 1, "--cycles", 1)
    with FileServer(dict(archives["celeba"])) as server:  # the parsing network comes along with the rest
        trained = here(*quick, "-o", "run", "--as", "faces", G2S_RELEASE_URL=server.url)
    assert trained.returncode == 0, trained.stderr
    assert "parsing network" not in trained.stderr
    assert "parsing" in json.loads((tmp_path / "run" / "settings.json").read_text())["weights"]
    result = here("reconstruct", FACE, "-c", "faces", "--iterations", 0, "--json", "-o", "out")
    assert reconstructed(result)["mask"] == "bisenet"
    next((tmp_path / "hf" / "g2s" / "celeba").glob("parsing.json")).unlink()
    without = here(*quick, "-o", "run2")
    assert without.returncode == 0, without.stderr
    said = "The parsing network of celeba is not here (g2s weights pull celeba): the masks are those of the GAN's own"
    assert said in without.stderr
