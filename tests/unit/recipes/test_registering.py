"""Random faces registered with the mean face: what they depend on, which are drawn, and their file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from g2s_cli.errors import G2SError
from g2s_cli.estimators import registration
from g2s_cli.estimators.base import MaskedImages
from g2s_cli.estimators.feedforward import FactorNets
from g2s_cli.estimators.networks import CodeNet, MapNet
from g2s_cli.estimators.registration import Registered
from g2s_cli.geometry.camera import Camera
from g2s_cli.progress import SilentProgress
from g2s_cli.segmentation.gan_features import Segmenter
from recipes.synface import registering
from recipes.synface.moving import Moves, Source
from recipes.synface.registering import (
    best,
    joined,
    mean_face,
    read_registered,
    registered_faces,
    sharpened,
    some_of,
    write_registered,
)

CAMERA = Camera(32)
SIZE = CAMERA.size


def rng(seed: int = 3) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Shown(Source):
    """A source of flat pictures, coloured by the latents."""

    def __init__(self) -> None:
        generator = SimpleNamespace(layers=7, latent_avg=torch.ones(4))
        object.__setattr__(self, "gan", SimpleNamespace(generator=generator, segmenter=Segmenter(torch.eye(2), 0)))

    def show(self, latents: Tensor) -> MaskedImages:
        each = latents if latents.ndim == 2 else latents[:, 0]
        mask = torch.zeros(len(each), 1, SIZE, SIZE)
        mask[..., 4:28, 6:26] = 1
        return MaskedImages(each[:, :3, None, None].tanh().expand(-1, -1, SIZE, SIZE) * 0.5, mask)

    def random(self, count: int, rng: torch.Generator) -> Tensor:
        return torch.randn(count, 4, generator=rng)


@pytest.fixture
def moves() -> Moves:
    """Four numbers that are the four latents."""
    return Moves(torch.full((4,), 0.1), torch.eye(4), torch.eye(4), torch.ones(4), torch.ones(4))


@pytest.fixture
def nets() -> FactorNets:
    torch.manual_seed(0)
    parts = MapNet(32, 1, 8, bounded=False), MapNet(32, 3, 8, bounded=True), CodeNet(32, 6, 8), CodeNet(32, 4, 8)
    return FactorNets(*parts, CAMERA, torch.zeros(32, 32), torch.zeros(6), torch.zeros(4), symmetric=True)


def test_what_is_registered_depends_on_the_seed_alone(
    nets: FactorNets, moves: Moves, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registering, "AT_ONCE", 4)
    monkeypatch.setattr(registration, "UPDATES", 8)
    one, two, other = (
        joined(list(registered_faces(nets, moves, Shown(), seed, SilentProgress(), 10))) for seed in (1, 1, 2)
    )
    assert one.images.shape == (10, 3, SIZE, SIZE)
    for name, maps in vars(one).items():
        assert torch.equal(maps, getattr(two, name)), name
    assert not torch.equal(one.images, other.images)
    assert one.images[..., 0, 0].abs().max() == 0  # outside the mask

    rest = list(registered_faces(nets, moves, Shown(), 1, SilentProgress(), 10, done=4))
    assert [len(part.views) for part in rest] == [4, 2]
    assert torch.equal(joined(rest).relief, one.relief[4:])


def test_every_other_lot_is_turned_farther(nets: FactorNets, moves: Moves, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second latent is the yaw, and the second colour."""
    monkeypatch.setattr(registering, "AT_ONCE", 100)
    monkeypatch.setattr(registration, "UPDATES", 1)
    faces = joined(list(registered_faces(nets, moves, Shown(), 1, SilentProgress(), 200)))
    yaw = (faces.images[:, 1, 16, 16].float() * 2).clamp(-0.999, 0.999).atanh()
    assert 0.8 < yaw[:100].std() < 1.2
    assert 1.2 < yaw[100:].std() < 1.8
    assert yaw[100:].abs().max() < registering.WIDEST_TURN + 0.2


def test_the_mean_face_is_the_networks_mean_answer_sharpened(nets: FactorNets, moves: Moves) -> None:
    mean = mean_face(nets, moves, Shown())
    assert torch.equal(mean.latent, torch.ones(4))
    torch.testing.assert_close(mean.directions, moves.directions)
    shown = Shown().show(moves.mean_face())
    with torch.no_grad():
        answer = nets.depth_of(shown.image * shown.mask).mean(dim=0)
    torch.testing.assert_close(mean.depth, sharpened(answer))


def test_sharpening_steepens_steps_and_leaves_planes() -> None:
    ramp = torch.linspace(0.9, 1.1, SIZE).expand(SIZE, SIZE)
    torch.testing.assert_close(sharpened(ramp)[4:-4, 4:-4], ramp[4:-4, 4:-4])
    step = torch.full((SIZE, SIZE), 0.98)
    step[:, SIZE // 2 :] = 1.0
    below, above = sharpened(step)[8, SIZE // 2 - 1 : SIZE // 2 + 1].tolist()
    assert above - below == pytest.approx(0.02 * (1 + registering.SHARPENED * (1 - 1 / 3)), abs=1e-6)


@pytest.fixture
def asked() -> Registered:
    views = torch.tensor([[0.1, 0.3, 0, 0, 0, 0], [0, -0.2, 0.1, 0.01, 0, 0]])
    images, relief = torch.rand(2, 3, SIZE, SIZE, generator=rng()), torch.rand(2, SIZE, SIZE, generator=rng())
    return Registered(images.half(), torch.ones(2, 1, SIZE, SIZE).half(), views, relief, torch.zeros(2, SIZE, SIZE))


def test_draws_are_mirrored_as_a_whole(asked: Registered) -> None:
    drawn = some_of(asked, rng(), 40)
    assert drawn.images.dtype == torch.float32
    mirrored_ones = 0
    for view, image, relief in zip(drawn.views, drawn.images, drawn.relief, strict=True):
        which = int(view[0] == 0)
        flipped = view[1].sign() != asked.views[which, 1].sign()
        mirrored_ones += int(flipped)
        own = asked.images[which].float(), asked.relief[which]
        for seen, true in zip((image, relief), own, strict=True):
            assert torch.equal(seen, true.flip(-1) if flipped else true)
    assert 5 < mirrored_ones < 35


def test_the_worst_are_left_out(asked: Registered) -> None:
    many = Registered(*(torch.cat([maps] * 20) for maps in vars(asked).values()))
    apart = torch.linspace(1, 2, 40)[torch.randperm(40, generator=rng())]
    kept = best(replace(many, apart=many.apart + apart[:, None, None]))
    assert len(kept.views) == 38
    assert kept.apart.max() < 2 - 1.5 / 39


def test_kept_in_a_file(asked: Registered, tmp_path: Path) -> None:
    file = tmp_path / "registered.pt"
    write_registered(asked, file)
    again = read_registered(file, torch.device("cpu"))
    for name, maps in vars(asked).items():
        assert torch.equal(maps, getattr(again, name))
    file.write_bytes(file.read_bytes()[:900])
    with pytest.raises(G2SError, match=r"registered\.pt is damaged"):
        read_registered(file, torch.device("cpu"))
