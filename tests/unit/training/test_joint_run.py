"""A run's phases: which photos a step has, what it minimises, and what survives being stopped anywhere."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from g2s_cli.estimators.base import MaskedImages
from torch import Tensor, nn

from g2s_cli.errors import G2SError
from g2s_cli.progress import SilentProgress
from g2s_cli.training.distributed import Group
from g2s_cli.training.joint_run import CHECKPOINT, Rhythm, Run, draws
from g2s_cli.weights.categories import load_category

PHOTOS = 5
EFFORT = replace(load_category("synface").pretraining.effort, samples=10, rate=1e-2)
RHYTHM = Rhythm(seed=3, photos_a_step=2, save_every_s=0.0)


class StopAt(SilentProgress):
    """A watch that stops the run after some advances."""

    def __init__(self, count: int | None = None) -> None:
        self.left = count

    def advance(self, done: int, loss: float) -> None:  # noqa: ARG002
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt


def gather(photo: int, rng: torch.Generator, count: int) -> MaskedImages:
    image = torch.rand(count, 3, 4, 4, generator=rng) * 2 - 1
    return MaskedImages(image, torch.ones(count, 1, 4, 4))


def trained(
    folder: Path,
    progress: SilentProgress,
    group: Group = Group(),  # noqa: B008
    rhythm: Rhythm = RHYTHM,
) -> tuple[Run, nn.Module]:
    """Two phases with samples between them, for a network of six numbers."""
    folder.mkdir(exist_ok=True)
    torch.manual_seed(0)
    net = nn.Linear(3, 2, bias=False)
    run = Run({"net": net}, PHOTOS, EFFORT, rhythm, folder, group, progress)

    def first(photo: int, rng: torch.Generator) -> Iterator[Tensor]:
        yield (net(torch.randn(3, generator=rng)) - photo).square().mean()

    def second(photo: int, rng: torch.Generator) -> Iterator[Tensor]:
        some = run.samples("cycle 1", photo, 2, rng, torch.device("cpu"))
        for half in some.image.mean(dim=(2, 3)):
            yield net(half).square().sum() / 2

    run.phase("first", net.parameters(), 4, first)
    run.collect("cycle 1", gather)
    run.phase("second", net.parameters(), 4, second)
    run.drop_samples("cycle 1")
    return run, net


def test_stopped_anywhere_it_ends_the_same(tmp_path: Path) -> None:
    whole, net = trained(tmp_path / "whole", StopAt())
    assert [len(losses) for losses in whole.trained.losses.values()] == [4, 4]
    torch.manual_seed(0)
    assert not torch.allclose(net.weight, nn.Linear(3, 2, bias=False).weight)
    for moment in range(4 + PHOTOS + 4):
        folder = tmp_path / str(moment)
        with pytest.raises(KeyboardInterrupt):
            trained(folder, StopAt(moment))
        again, other = trained(folder, StopAt())
        assert again.trained.losses == whole.trained.losses
        assert torch.equal(other.weight, net.weight)
        assert sorted(path.name for path in folder.rglob("*") if path.is_file()) == [CHECKPOINT]
    _, other = trained(tmp_path / "whole", StopAt(0))  # there is nothing left to do
    assert torch.equal(other.weight, net.weight)


def test_processes_share_the_photos_of_one_process(tmp_path: Path) -> None:
    """What two processes do, one after the other, is what one does: the same photos with the same draws."""
    alone, *shared = (
        Run({}, PHOTOS, EFFORT, RHYTHM, tmp_path, group, SilentProgress())
        for group in (Group(), Group(0, 2), Group(1, 2))
    )
    for step in range(20):
        whole = alone.photos_of("first", step)
        assert sorted(piece for run in shared for piece in run.photos_of("first", step)) == whole
        assert len({photo for _, photo in whole}) == RHYTHM.photos_a_step
    seen = {photo for step in range(20) for _, photo in alone.photos_of("first", step)}
    assert seen == set(range(PHOTOS))


def test_the_loss_is_the_mean_over_photos(tmp_path: Path) -> None:
    net = nn.Linear(1, 1)
    run = Run({"net": net}, PHOTOS, EFFORT, RHYTHM, tmp_path, Group(), SilentProgress())
    asked = []

    def loss(photo: int, _rng: torch.Generator) -> Iterator[Tensor]:
        asked.append(photo)
        yield (0 * net.weight).sum() + photo
        yield (0 * net.bias).sum() + 10

    run.phase("any", net.parameters(), 3, loss)
    pairs = [asked[first : first + 2] for first in (0, 2, 4)]
    assert run.trained.losses["any"] == [10 + sum(pair) / 2 for pair in pairs]


def test_samples_are_kept_to_a_byte_and_a_share_for_each_photo(tmp_path: Path) -> None:
    run = Run({}, PHOTOS, EFFORT, RHYTHM, tmp_path, Group(), SilentProgress())
    asked = {}

    def some(photo: int, rng: torch.Generator, count: int) -> MaskedImages:
        asked[photo] = gather(photo, rng, count)
        asked[photo].mask[:, :, 0] = 0
        return asked[photo]

    run.collect("cycle 1", some)
    assert {photo: len(one.image) for photo, one in asked.items()} == dict.fromkeys(range(PHOTOS), 10 * 2 // PHOTOS)
    found = run.samples("cycle 1", 2, 7, draws(0), torch.device("cpu"))
    assert found.image.shape == (7, 3, 4, 4)
    assert not found.image[:, :, 0].any()
    gaps = (found.image[:, None] - (asked[2].image * asked[2].mask)[None]).abs().amax(dim=(2, 3, 4))
    assert gaps.min(dim=1).values.max() <= 1 / 255


def test_samples_of_other_networks_are_not_made_up(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "run", StopAt(4 + PHOTOS + 2))
    next((tmp_path / "run" / "samples").rglob("*.npy")).unlink()
    with pytest.raises(G2SError, match=r"\.npy is missing\. Delete .*run and train again"):
        trained(tmp_path / "run", StopAt())


def test_what_went_wrong_is_said(tmp_path: Path) -> None:
    net = nn.Linear(1, 1)
    run = Run({"net": net}, PHOTOS, EFFORT, RHYTHM, tmp_path, Group(), SilentProgress())
    before = net.weight.clone()
    with pytest.raises(G2SError, match="The loss of any is not finite at step 1"):
        run.phase("any", net.parameters(), 1, lambda *_: iter([net.weight.sum() * torch.nan]))
    assert torch.equal(net.weight, before)
    (tmp_path / CHECKPOINT).write_bytes(b"no checkpoint")
    with pytest.raises(G2SError, match=r"checkpoint\.pt is damaged"):
        Run({"net": net}, PHOTOS, EFFORT, RHYTHM, tmp_path, Group(), SilentProgress())


def test_draws_are_told_apart_by_what_they_are_for() -> None:
    numbers = {torch.rand(1, generator=draws(*what)).item() for what in ((0, "a", 1, 1), (0, "a", 11), (1, "a", 1, 1))}
    assert len(numbers) == 3
    assert torch.rand(1, generator=draws(0, "a", 11)).item() in numbers


@pytest.mark.parametrize(("refused", "file"), [("numpy.save", "00000.npy"), ("torch.save", CHECKPOINT)])
def test_a_disk_that_refuses_is_said_with_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: str, file: str
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched, pytest.raises(G2SError, match=rf"{file} cannot be written.*goes on\."):
        patched.setattr(refused, full)
        trained(tmp_path / "run", StopAt())
    again, _ = trained(tmp_path / "run", StopAt())
    whole, _ = trained(tmp_path / "whole", StopAt())
    assert again.trained.losses == whole.trained.losses
