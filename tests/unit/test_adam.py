"""Our Adam against torch's."""

from __future__ import annotations

import subprocess
import sys

import torch

from g2s_cli.adam import Adam


def test_it_equals_torch_adam_with_rates_and_a_schedule() -> None:
    start, target = torch.randn(2, 7, generator=torch.Generator().manual_seed(0)).unbind()
    rates, betas = [0.1, 0.02], (0.8, 0.98)
    ours, theirs = ([start.clone().requires_grad_(), start.clone().requires_grad_()] for _ in range(2))
    adam = Adam(dict(zip(ours, rates, strict=True)), betas)
    groups = [{"params": [parameter], "lr": rate} for parameter, rate in zip(theirs, rates, strict=True)]
    reference = torch.optim.Adam(groups, betas=betas)
    schedule = torch.optim.lr_scheduler.ExponentialLR(reference, 0.9)
    for step in range(30):
        adam.step(sum(((parameter - target) ** 4).sum() for parameter in ours), 0.9**step)
        reference.zero_grad()
        sum(((parameter - target) ** 4).sum() for parameter in theirs).backward()
        reference.step()
        schedule.step()
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-6, atol=1e-7)
        assert not torch.equal(mine, start)


def test_a_fit_does_not_import_the_compiler_of_torch() -> None:
    code = (
        "import sys, torch; from g2s_cli.estimators.optimize import anneal; x = torch.ones(3, requires_grad=True); "
        "anneal(lambda _: x.square().sum(), {x: 0.1}, 5, 0.9); assert x[0].item() < 1; "
        "assert 'torch._dynamo' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
