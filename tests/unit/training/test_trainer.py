"""The training loop: what a killed training resumes, what it refuses, and its schedules."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from recording import StopAt
from torch import nn

from g2s_cli.errors import G2SError, UsageError
from g2s_cli.progress import SilentProgress
from g2s_cli.seeding import seeded_generator, seeded_weights
from g2s_cli.training.distributed import Group
from g2s_cli.training.trainer import (
    CHECKPOINT,
    LOG,
    Losses,
    Trainer,
    cosine_schedule,
    descend,
    linear_warm_up,
)

UPDATES = (4, 3)


def train(
    folder: Path, stop: int | None = None, updates: tuple[int, ...] = UPDATES, **options: object
) -> tuple[Trainer, nn.Module]:
    """Two phases for a network of six numbers, and some work between them."""
    folder.mkdir(exist_ok=True)
    with seeded_weights(0):
        net = nn.Linear(3, 2, bias=False)
    defaults = {"save_every_s": 0.0}
    trainer = Trainer({"net": net}, folder / CHECKPOINT, Group(), StopAt(stop), **(defaults | options))
    for number, count in enumerate(updates):
        optimizer = torch.optim.Adam(net.parameters(), lr=0.1)

        def step(update: int, optimizer: torch.optim.Optimizer = optimizer, number: int = number) -> Losses:
            x = torch.randn(3, generator=seeded_generator(5, number, update))
            loss = descend(optimizer, ((net(x)[row] - number).square() for row in range(2)), Group())
            return {"loss": loss, "largest": net.weight.detach().max()}

        name = f"phase {number}"
        trainer.phase(name, count, step, optimizer=optimizer, schedule=cosine_schedule(count, 2), images=8)
        trainer.once(f"work {number}", lambda: nn.init.normal_(net.weight, generator=seeded_generator(0)))
    return trainer, net


def test_killed_anywhere_and_resumed_it_ends_with_the_same_bytes(tmp_path: Path) -> None:
    whole, net = train(tmp_path / "whole")
    assert {name: len(losses) for name, losses in whole.losses.items()} == {"phase 0": 4, "phase 1": 3}
    for moment in range(sum(UPDATES)):
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / str(moment), moment)
        again, other = train(tmp_path / str(moment))
        assert again.losses == whole.losses
        assert torch.equal(other.weight, net.weight)


def test_a_finished_training_does_no_updates(tmp_path: Path) -> None:
    _, net = train(tmp_path)
    again, other = train(tmp_path, stop=0)
    assert torch.equal(other.weight, net.weight)
    assert again.seconds.keys() == {"phase 0", "work 0", "phase 1", "work 1"}


def test_the_last_phase_can_be_extended(tmp_path: Path) -> None:
    """Without a schedule that depends on the number of updates."""
    folders = [tmp_path / "at once", tmp_path / "extended"]
    for folder, counts in zip(folders, ([5], [2, 5]), strict=True):
        for count in counts:
            with seeded_weights(0):
                net = nn.Linear(3, 2)
            trainer = Trainer({"net": net}, folder / CHECKPOINT, Group(), SilentProgress())
            optimizer = torch.optim.Adam(net.parameters())
            trainer.phase(
                "only",
                count,
                lambda update, net=net, optimizer=optimizer: {
                    "loss": descend(optimizer, [net(torch.ones(3) * update).square().sum()], Group())
                },
                optimizer=optimizer,
                schedule=linear_warm_up(3),
            )
            assert trainer.updates_of("only") == count
    one, other = (torch.load(folder / CHECKPOINT)["state"]["net"]["weight"] for folder in folders)
    assert torch.equal(one, other)


def test_a_checkpoint_is_written_when_it_is_due(tmp_path: Path) -> None:
    saved: list[int] = []
    train(tmp_path / "often", on_save=lambda: saved.append(0))
    train(tmp_path / "rarely", on_save=lambda: saved.append(1), save_every_s=1e6)
    assert (saved.count(0), saved.count(1)) == (sum(UPDATES) + 2, 2 + 2)


def test_other_settings_are_refused(tmp_path: Path) -> None:
    train(tmp_path, settings={"batch": 4, "seed": 0})
    train(tmp_path, settings={"seed": 0, "batch": 4})
    with pytest.raises(UsageError, match=r"checkpoint\.pt was begun with other settings: batch, lr\. Name another"):
        train(tmp_path, settings={"batch": 8, "seed": 0, "lr": 1})


def test_a_damaged_checkpoint_is_refused(tmp_path: Path) -> None:
    train(tmp_path)
    content = torch.load(tmp_path / CHECKPOINT)
    del content["state"]["net"]
    for damage in (lambda path: path.write_bytes(b"no checkpoint"), lambda path: torch.save(content, path)):
        damage(tmp_path / CHECKPOINT)
        with pytest.raises(G2SError, match=r"checkpoint\.pt is damaged.*Delete .* and train again"):
            train(tmp_path)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_loss_that_is_not_finite_changes_nothing(tmp_path: Path, value: float) -> None:
    net = nn.Linear(1, 1)
    before = net.weight.clone()
    trainer = Trainer({"net": net}, tmp_path / CHECKPOINT, Group(), SilentProgress())
    optimizer = torch.optim.Adam(net.parameters())
    steps = (
        lambda _: {"loss": descend(optimizer, [net.weight.sum() * value], Group())},
        lambda _: {"loss": 0.0, "other": value},
    )
    for number, step in enumerate(steps):
        with pytest.raises(G2SError, match=f"The loss of {number} is not finite at step 1"):
            trainer.phase(str(number), 1, step, optimizer=optimizer)
    assert torch.equal(net.weight, before)
    assert not (tmp_path / CHECKPOINT).exists()


def test_a_full_disk_is_reported_with_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with (
        monkeypatch.context() as patched,
        pytest.raises(G2SError, match=r"checkpoint\.pt cannot be written.*goes on\."),
    ):
        patched.setattr("torch.save", full)
        train(tmp_path / "run")
    assert train(tmp_path / "run")[0].losses == train(tmp_path / "whole")[0].losses


def test_the_log_has_means_of_the_losses(tmp_path: Path) -> None:
    trainer = Trainer({}, tmp_path / CHECKPOINT, Group(), SilentProgress())
    trainer.phase("p", 52, lambda update: {"loss": float(update)} | ({"rare": 7.0} if update == 3 else {}), images=2)
    first, second = (json.loads(line) for line in (tmp_path / LOG).read_text().splitlines())
    assert first["images_a_second"] > 0
    keys = ("phase", "step", "images", "loss", "rare")
    assert [first[key] for key in keys] == ["p", 50, 100, 24.5, 7.0]
    assert [second.get(key) for key in keys] == ["p", 52, 104, 50.5, None]


def test_descend_changes_only_what_the_loss_depends_on() -> None:
    one, other = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    optimizer = torch.optim.Adam([{"params": [one]}, {"params": [other]}], lr=0.1, fused=True)
    assert descend(optimizer, [(one * other.detach()).sum(), one.sum()], Group()) == 4
    assert torch.equal(other, torch.ones(2)) and (one < 1).all()


def test_gradients_in_another_memory_layout_reach_their_weights() -> None:
    """Fused Adam ignores strides; convolutions of channels-last images have gradients in that layout."""
    kernels = [nn.Parameter(torch.zeros(4, 3, 2, 2)) for _ in range(2)]
    images = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)).to(memory_format=torch.channels_last)
    for fused, kernel in zip((True, False), kernels, strict=True):
        loss = (nn.functional.conv2d(images, kernel) - 1).square().sum()
        descend(torch.optim.Adam([kernel], lr=0.1, fused=fused), [loss], Group())
    torch.testing.assert_close(*kernels)


def test_the_gradient_is_clipped() -> None:
    weight = nn.Parameter(torch.zeros(4))
    descend(torch.optim.SGD([weight], lr=1.0), [100 * weight.sum()], Group(), clip_norm=2.0)
    torch.testing.assert_close(weight.norm(), torch.tensor(2.0))


def test_schedules_rise_and_fall() -> None:
    rise, fall = linear_warm_up(4), cosine_schedule(101, 4, least=0.1)
    assert [rise(update) for update in (0, 1, 3, 9)] == [0.25, 0.5, 1.0, 1.0]
    assert fall(0) == 0.25
    assert fall(4) == pytest.approx(1.0, abs=5e-3)
    assert fall(101) == pytest.approx(0.1)
    assert all(fall(update) > fall(update + 1) for update in range(4, 100))


def test_draws_depend_on_all_of_the_key() -> None:
    keys = ((0, "a", 1, 1), (0, "a", 11), (1, "a", 1, 1))
    numbers = [torch.rand(1, generator=seeded_generator(*key)).item() for key in keys]
    assert len(set(numbers)) == 3
    assert torch.rand(1, generator=seeded_generator(0, "a", 11)).item() == numbers[1]
