"""The training of the recipe's GAN: what a step draws, what it changes, and that a kill changes nothing."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from g2s_cli.errors import G2SError, UsageError
from g2s_cli.loading import Machine
from g2s_cli.progress import SilentProgress
from g2s_cli.training.distributed import Group
from recipes.synface import quality
from recipes.synface.pictures import Pictures
from recipes.synface.running import LEARNER, train
from recipes.synface.states import fresh, generator_of
from recipes.synface.training import Learner, Settings

CPU = torch.device("cpu")
SETTINGS = Settings(batch=8, r1_every=2, path=1.0, path_every=3)
COPYING = replace(SETTINGS, copies=10.0, reader_alone=2)


@pytest.fixture
def pictures() -> Pictures:
    return Pictures(np.random.default_rng(0).integers(0, 256, (12, 16, 16, 3), dtype=np.uint8))


def a_learner(settings: Settings = SETTINGS) -> Learner:
    return Learner.of(fresh((8, 8, 4), seed=0), settings, CPU)


def steps(learner: Learner, pictures: Pictures, count: int) -> Learner:
    for _ in range(count):
        learner.advance(pictures, Group(), torch.float32)
    return learner


@pytest.mark.parametrize("settings", [SETTINGS, COPYING])
def test_written_and_read_again_it_ends_as_if_never_stopped(
    settings: Settings, pictures: Pictures, tmp_path: Path
) -> None:
    whole = steps(a_learner(settings), pictures, 5)
    steps(a_learner(settings), pictures, 3).write(tmp_path / LEARNER)
    resumed = steps(Learner.read(tmp_path / LEARNER, CPU), pictures, 2)
    assert resumed.step == whole.step == 5
    assert resumed.length == whole.length
    for name in ("generator", "discriminator", "average"):
        for key, tensor in getattr(whole, name).items():
            assert torch.equal(tensor, getattr(resumed, name)[key]), f"{name} {key}"


def test_a_step_changes_both_networks_and_the_average_a_little(pictures: Pictures) -> None:
    learner = a_learner()
    begun = {name: tensor.detach().clone() for name, tensor in learner.generator.items()}
    losses = learner.advance(pictures, Group(), torch.float32)
    assert losses.r1 is not None and losses.path is not None
    key = "convs.0.conv.weight"
    moved, window_mean = ((state[key] - begun[key]).abs().mean() for state in (learner.generator, learner.average))
    assert 0 < window_mean < moved / 100


def test_regularisers_come_when_they_are_due(pictures: Pictures) -> None:
    learner = a_learner()
    came = [learner.advance(pictures, Group(), torch.float32) for _ in range(4)]
    assert [losses.r1 is not None for losses in came] == [True, False, True, False]
    assert [losses.path is not None for losses in came] == [True, False, False, True]


def test_processes_share_what_one_alone_would_draw(pictures: Pictures) -> None:
    learner = a_learner()
    whole = learner._draw(pictures, Group())
    halves = [learner._draw(pictures, Group(rank, 2)) for rank in range(2)]
    for all_of_it, parts in zip(whole, zip(*halves, strict=True), strict=True):
        assert torch.equal(all_of_it, torch.cat(parts))


def test_every_picture_is_seen_once_an_epoch() -> None:
    numbered = Pictures(np.arange(12, dtype=np.uint8)[:, None, None, None].repeat(3, axis=3))
    learner, seen = a_learner(Settings(batch=4)), []
    for learner.step in range(6):
        _, real = learner._draw(numbered, Group())
        seen += ((real[:, 0, 0, 0] + 1) * 127.5).round().int().tolist()
    assert sorted(seen[:12]) == sorted(seen[12:]) == list(range(12))
    assert seen[:12] != seen[12:]


def test_the_reader_is_alone_at_first(pictures: Pictures) -> None:
    learner = a_learner(COPYING)
    begun = [tensor.clone() for tensor in learner.generator.values()]
    alone = [learner.advance(pictures, Group(), torch.float32) for _ in range(2)]
    assert all(losses.generator is None and losses.copies is not None for losses in alone)
    assert all(map(torch.equal, begun, learner.generator.values()))
    together = learner.advance(pictures, Group(), torch.float32)
    assert together.generator is not None and together.copies is not None
    assert not all(map(torch.equal, begun, learner.generator.values()))


def test_it_learns_to_copy(pictures: Pictures) -> None:
    """Two faces of a coin, and nothing that fools: after 150 steps copies must be much nearer."""
    two = Pictures(np.stack([np.full((16, 16, 3), shade, dtype=np.uint8) for shade in (40, 220)] * 4))
    settings = Settings(batch=8, r1_every=100, copies=10.0, reader_alone=50, warm_up=10)
    learner = a_learner(settings)
    lacking = [learner.advance(two, Group(), torch.float32).copies for _ in range(150)]
    assert lacking[-1] < lacking[0] / 4


def test_it_learns_a_colour() -> None:
    """Pictures of one colour: after 120 steps the mean colour of made ones must be much nearer to it."""
    orange = Pictures(np.broadcast_to(np.uint8([255, 128, 0]), (8, 8, 8, 3)))
    settings = Settings(batch=8, rate=5e-3, warm_up=1, r1=1.0, r1_every=1, half_life=20)
    learner = Learner.of(fresh((8, 8), seed=0), settings, CPU)

    def distance() -> float:
        result = torch.cat(list(quality.result(generator_of(learner.average, torch.float32), 16, seed=0)))
        return (result.mean(dim=(0, 2, 3)) - torch.tensor([1.0, 0.0, -1.0])).abs().mean().item()

    before = distance()
    steps(learner, orange, 120)
    assert distance() < before / 2


def test_a_run_goes_on_where_it_ended(pictures: Pictures, tmp_path: Path) -> None:
    machine = Machine(CPU, torch.float32)
    settings = Settings(batch=4)
    for count in (1, 3):
        learner = train(tmp_path, pictures, None, settings, count, Group(), machine, SilentProgress())
    assert learner.step == 3
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 2
    assert (tmp_path / "samples-00000012.png").exists()
    with pytest.raises(UsageError, match="was begun with"):
        train(tmp_path, pictures, None, Settings(batch=8), 4, Group(), machine, SilentProgress())


def test_what_cannot_be_trained_is_refused(pictures: Pictures, tmp_path: Path) -> None:
    machine = Machine(CPU, torch.float32)
    with pytest.raises(UsageError, match="multiples of four"):
        train(tmp_path, pictures, None, Settings(batch=6), 1, Group(), machine, SilentProgress())
    (tmp_path / LEARNER).write_bytes(b"PK no")
    with pytest.raises(G2SError, match=r"learner\.pt is damaged"):
        train(tmp_path, pictures, None, SETTINGS, 1, Group(), machine, SilentProgress())
    wrong = tmp_path / "wrong.npy"
    np.save(wrong, np.zeros((3, 4, 4)))
    with pytest.raises(UsageError, match="does not hold square pictures"):
        Pictures.of(wrong)
    with pytest.raises(UsageError, match="cannot be read"):
        Pictures.of(tmp_path / "missing.npy")
