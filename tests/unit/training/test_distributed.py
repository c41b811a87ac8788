"""The processes of a group and their shares. Sums over two processes: tests/cli/test_pretrain.py, test_train.py."""

from __future__ import annotations

import pytest
import torch

from g2s_cli.errors import G2SError
from g2s_cli.training.distributed import Group


@pytest.mark.parametrize("size", [1, 2, 3])
def test_shares_partition_the_work(size: int) -> None:
    shares = [Group(rank, size).share(7) for rank in range(size)]
    assert sorted(piece for share in shares for piece in share) == list(range(7))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_group_reads_the_environment_of_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    assert Group.from_environment() == Group(0, 1, 0)
    assert Group.from_environment().is_main
    for name, value in (("RANK", "5"), ("WORLD_SIZE", "8"), ("LOCAL_RANK", "1")):
        monkeypatch.setenv(name, value)
    assert Group.from_environment() == Group(5, 8, 1)
    assert not Group.from_environment().is_main


def test_each_process_uses_the_gpu_of_its_local_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    group = Group(5, 8, 1)
    assert [group.device(name) for name in ("auto", "cuda", "cuda:3", "cpu")] == ["cuda:1", "cuda:1", "cuda:3", "cpu"]
    assert Group().device("auto") == "auto"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert group.device("auto") == "auto"


CALLS = {
    "barrier": lambda group, _: group.barrier(),
    "broadcast": lambda group, net: group.broadcast(net.state_dict().values()),
    "all_reduce": lambda group, net: group.all_reduce(net.parameters(), torch.tensor(3.0)),
    "all_gather_object": lambda group, _: group.all_gather("a"),
}


@pytest.fixture
def net() -> torch.nn.Module:
    net = torch.nn.Linear(2, 1)
    net(torch.ones(1, 2)).sum().backward()
    return net


@pytest.mark.parametrize("name", CALLS)
def test_a_lost_connection_is_reported(name: str, net: torch.nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: object, **__: object) -> None:
        raise RuntimeError("[pair.cc:553] Connection closed by peer [127.0.0.1]:9124")

    monkeypatch.setattr(torch.distributed, name, gone)
    with pytest.raises(G2SError, match="Another process of the run has stopped"):
        CALLS[name](Group(0, 2), net)


def test_one_process_communicates_with_nobody(net: torch.nn.Module) -> None:
    before = net.weight.grad.clone()
    with Group().connected(torch.device("cpu")):
        results = [call(Group(), net) for call in CALLS.values()]
    assert results == [None, None, 3, ["a"]]
    assert torch.equal(net.weight.grad, before)
