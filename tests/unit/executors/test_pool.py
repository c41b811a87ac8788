"""Photos over workers that die, with workers that are made up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import pytest

from g2s_cli.errors import G2SError, ImageError, WeightsError
from g2s_cli.executors.pool import Event, Message, Pool
from g2s_cli.executors.worker import LoadFailure

PHOTOS = [Path(f"{number}.png") for number in range(7)]


class FakeChannel:
    """A worker in memory. A photo's answer is an exception that names it. It dies at photos of `deadly`."""

    def __init__(self, launcher: FakeLauncher) -> None:
        self.launcher, self.stopped = launcher, False
        self.messages: list[Message] = [launcher.load]

    def submit(self, photos: Sequence[Path]) -> None:
        self.launcher.chunks.append([photo.name for photo in photos])
        self.messages += [*photos, Event.READY]

    def receive(self) -> Message:
        message = self.messages.pop(0)
        if isinstance(message, Path):
            if self.launcher.deadly[message.name]:
                self.launcher.deadly[message.name] -= 1
                self.messages.clear()
                return Event.DEAD
            return ImageError(message.name)
        return message

    def stop(self) -> None:
        self.stopped = True


class FakeLauncher:
    """Starts them; the last one that has something to say is heard first."""

    def __init__(self, count: int, load: Message = Event.READY, **deadly: int) -> None:
        self.count, self.load, self.deadly = count, load, Counter({f"{name[1:]}.png": n for name, n in deadly.items()})
        self.started: list[FakeChannel] = []
        self.chunks: list[list[str]] = []

    def start(self, number: int) -> FakeChannel:
        assert 0 <= number < self.count
        self.started.append(FakeChannel(self))
        return self.started[-1]

    def wait(self, channels: Collection[FakeChannel]) -> Iterator[tuple[FakeChannel, Message]]:
        channel = next(channel for channel in reversed(list(channels)) if channel.messages)
        yield channel, channel.receive()


def run(launcher: FakeLauncher, photos: Sequence[Path] = PHOTOS, batch: int = 3) -> tuple[dict[str, str], list[str]]:
    """Each photo's answer, and the notes."""
    notes: list[str] = []
    answers = list(Pool(launcher, batch, notes.append)(photos))
    assert sorted(index for index, _ in answers) == list(range(len(photos)))
    assert all(channel.stopped for channel in launcher.started)
    return {photos[index].name: str(answer) for index, answer in answers}, notes


def test_each_photo_gets_its_own_answer() -> None:
    answers, notes = run(launcher := FakeLauncher(2))
    assert answers == {photo.name: photo.name for photo in PHOTOS}
    assert notes == []
    assert [len(chunk) for chunk in launcher.chunks] == [2, 2, 2, 1]  # two rounds of two workers, within batches of 3


@pytest.mark.parametrize(("photos", "workers"), [(0, 0), (1, 1), (2, 2), (7, 4)])
def test_no_more_workers_than_photos(photos: int, workers: int) -> None:
    run(launcher := FakeLauncher(4), PHOTOS[:photos])
    assert len(launcher.started) == workers


@pytest.mark.parametrize("count", [1, 2])
def test_a_worker_that_dies_costs_no_photo(count: int) -> None:
    answers, notes = run(launcher := FakeLauncher(count, _1=1, _5=2))
    assert answers == {photo.name: photo.name for photo in PHOTOS}
    assert len(launcher.started) == count + 3
    assert len(notes) == 3
    assert launcher.chunks.count(["5.png"]) == 2  # alone after its first worker died


def test_a_photo_that_kills_three_workers_fails_alone() -> None:
    answers, _ = run(FakeLauncher(2, _2=99))
    assert answers.pop("2.png").startswith("2.png: 3 workers ended over it. Start fewer (--workers)")
    assert answers == {photo.name: photo.name for photo in PHOTOS if photo.name != "2.png"}


def test_a_category_that_cannot_be_loaded_ends_the_run() -> None:
    launcher = FakeLauncher(2, LoadFailure(WeightsError("networks.safetensors is damaged.")))
    with pytest.raises(WeightsError, match="is damaged"):
        run(launcher)
    assert all(channel.stopped for channel in launcher.started)


def test_workers_that_die_while_they_load_end_the_run() -> None:
    launcher = FakeLauncher(2, Event.DEAD)
    with pytest.raises(G2SError, match="The workers end while they load the category"):
        run(launcher)
    assert all(channel.stopped for channel in launcher.started)


def test_a_caller_that_stops_ends_the_workers() -> None:
    launcher = FakeLauncher(2)
    answers = Pool(launcher, 3, print)(PHOTOS)
    next(answers)
    answers.close()
    assert all(channel.stopped for channel in launcher.started)
