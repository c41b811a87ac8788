"""Workers on a Ray cluster. They need neither the photos' nor the results' folder: both travel as bytes."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from g2s_cli.errors import G2SError, UsageError, WeightsError, import_extra, try_call
from g2s_cli.executors.pool import Event, Message
from g2s_cli.executors.worker import LoadFailure, Reconstruction, Work, Worker
from g2s_cli.geometry import RASTERIZER_VARIABLE
from g2s_cli.loading import Plan
from g2s_cli.photo.decode import check_file

CPUS_A_WORKER = 2


@dataclass(frozen=True)
class Share:
    """The share of a node that a worker gets."""

    node: str
    cpus: int
    gpus: int


@contextmanager
def connected(address: str) -> Iterator[Any]:
    """The module ray, connected to a cluster.

    Args:
        address: HOST:PORT, or "auto" for the cluster that this machine belongs to.

    Raises:
        G2SError: ray is not installed.
        UsageError: there is no cluster.
    """
    ray = import_extra("ray", "--ray")
    try:
        inherited = {name: value for name, value in os.environ.items() if name == RASTERIZER_VARIABLE}
        ray.init(address, log_to_driver=False, logging_level="ERROR", runtime_env={"env_vars": inherited})
    except Exception as error:
        what = f"There is no Ray cluster at {address}: {str(error).splitlines()[0].rstrip('.')}."
        raise UsageError(what, "Start one (ray start --head), or use --workers N.") from error
    try:
        yield ray
    finally:
        ray.shutdown()


def node_shares(nodes: Sequence[dict[str, Any]], *, use_gpus: bool) -> list[Share]:
    """A share for each worker: a GPU if `use_gpus` and any node has one, else two CPUs, or the node's one."""
    resources = {node["NodeID"]: node["Resources"] for node in nodes if node["Alive"]}
    gpus = {node: int(one.get("GPU", 0)) if use_gpus else 0 for node, one in resources.items()}
    shares = []
    for node, one in resources.items():
        cpus = int(one.get("CPU", 0))
        count = gpus[node] if any(gpus.values()) else max(min(cpus, 1), cpus // CPUS_A_WORKER)
        shares += [Share(node, min(CPUS_A_WORKER, cpus // count), min(gpus[node], 1)) for _ in range(count)]
    return shares


class ActorChannel:
    """The way to a Ray actor."""

    def __init__(self, ray: Any, actor: Any) -> None:
        self.ray, self.actor = ray, actor
        self.messages: Any = actor.reconstruct.remote([])  # loads the category; None once it is READY

    def submit(self, photos: Sequence[Path]) -> None:
        """Send photos."""
        self.messages = self.actor.reconstruct.remote([(photo, try_call(_read, photo)) for photo in photos])

    def receive(self) -> Message:
        """The next message."""
        try:
            return self.ray.get(next(self.messages))
        except StopIteration:
            self.messages = None
            return Event.READY
        except self.ray.exceptions.RayError:
            return Event.DEAD

    def stop(self) -> None:
        """Kill the actor: what it writes lies in a temporary folder of its node."""
        self.ray.kill(self.actor)


class RayCluster:
    """Launches Ray actors, with a share of a node each."""

    def __init__(self, ray: Any, work: Work, shares: Sequence[Share]) -> None:
        self.ray, self.work, self.shares = ray, work, shares
        self.count = len(shares)

    def start(self, number: int) -> ActorChannel:
        """Start an actor: on its share's node, or elsewhere if that is gone."""
        share = self.shares[number]
        strategy = self.ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(share.node, soft=True)
        actor = self.ray.remote(RayWorker).options(
            num_cpus=share.cpus, num_gpus=share.gpus, scheduling_strategy=strategy
        )
        return ActorChannel(self.ray, actor.remote(self.work, "cuda" if share.gpus else "cpu", share.cpus))

    def wait(self, channels: Collection[ActorChannel]) -> Iterator[tuple[ActorChannel, Message]]:
        """Wait for messages of any actor."""
        busy = {channel.messages: channel for channel in channels if channel.messages}
        ready, _ = self.ray.wait(list(busy))
        for messages in ready:
            yield busy[messages], busy[messages].receive()


class RayWorker:
    """A worker in a Ray actor. Its node may have other files than the machine that the run was started on."""

    def __init__(self, work: Work, device: str, threads: int) -> None:
        self.work, self.device, self.threads = work, device, threads
        self._worker: Worker | Exception | None = None

    def reconstruct(self, photos: Sequence[tuple[Path, bytes | Exception]]) -> Iterator[Reconstruction | LoadFailure]:
        """The reconstructions of photos, whose bytes come with their paths."""
        if self._worker is None:
            self._worker = try_call(self._find_weights)
        worker = self._worker
        if isinstance(worker, Exception):
            yield LoadFailure(worker)
            return
        if not photos:
            yield from worker([])
            return
        with tempfile.TemporaryDirectory(prefix="g2s-") as folder:
            files = [Path(folder) / str(number) / path.name for number, (path, _) in enumerate(photos)]
            for file, (_, data) in zip(files, photos, strict=True):
                file.parent.mkdir()
                if isinstance(data, bytes):
                    file.write_bytes(data)
            for file, (path, data), reconstruction in zip(files, photos, worker(files), strict=True):
                if isinstance(data, Exception):
                    yield data
                elif isinstance(reconstruction, G2SError):
                    yield reconstruction.replace_name(str(file), str(path))
                else:
                    yield reconstruction

    def _find_weights(self) -> Worker:
        plan = self.work.plan
        here = Plan.of(replace(plan.options, gan=plan.weights.gan_file))
        if here.facts != plan.facts:
            what = f"A worker's weights of {plan.category.name} differ from those of this machine."
            raise WeightsError(what, f"On its node: g2s weights pull {plan.category.name}")
        return Worker(replace(self.work, plan=here), self.device, max(1, self.threads))


def _read(photo: Path) -> bytes:
    check_file(photo)
    return photo.read_bytes()
