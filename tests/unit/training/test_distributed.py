"""Processes of a group: who does what. (What they add up is tested where there are two: tests/cli/test_pretrain.py.)"""

from __future__ import annotations

import pytest
import torch

from g2s_cli.errors import G2SError
from g2s_cli.training.distributed import Group


@pytest.mark.parametrize("size", [1, 2, 3])
def test_all_work_is_shared_out_once(size: int) -> None:
    shares = [Group(rank, size).share(7) for rank in range(size)]
    assert sorted(piece for share in shares for piece in share) == list(range(7))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_what_torchrun_says(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    assert Group.of_environment() == Group(0, 1, 0)
    assert Group.of_environment().leads
    for name, value in (("RANK", "5"), ("WORLD_SIZE", "8"), ("LOCAL_RANK", "1")):
        monkeypatch.setenv(name, value)
    assert Group.of_environment() == Group(5, 8, 1)
    assert not Group.of_environment().leads


def test_each_process_has_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    group = Group(5, 8, 1)
    assert [group.device(asked) for asked in ("auto", "cuda", "cuda:3", "cpu")] == ["cuda:1", "cuda:1", "cuda:3", "cpu"]
    assert Group().device("auto") == "auto"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert group.device("auto") == "auto"


def test_a_process_that_loses_the_others_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: object, **__: object) -> None:
        raise RuntimeError("[pair.cc:553] Connection closed by peer [127.0.0.1]:9124")

    for name in ("barrier", "broadcast", "all_reduce", "all_gather_object"):
        monkeypatch.setattr(torch.distributed, name, gone)
    group, net = Group(0, 2), torch.nn.Linear(2, 1)
    net(torch.ones(1, 2)).sum().backward()
    acts = (
        group.wait,
        lambda: group.agree([net]),
        lambda: group.add_up(net.parameters(), torch.tensor(1.0)),
        lambda: group.said_by_all("a"),
    )
    for act in acts:
        with pytest.raises(G2SError, match="Another process of the run has stopped"):
            act()


def test_one_process_needs_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    group, net = Group(), torch.nn.Linear(2, 1)
    with group.joined(torch.device("cpu")):
        net(torch.ones(1, 2)).sum().backward()
        before = net.weight.grad.clone()
        assert group.add_up(net.parameters(), torch.tensor(3.0)) == 3
        group.agree([net])
        group.wait()
        assert group.said_by_all("a") == ["a"]
    assert torch.equal(net.weight.grad, before)
