"""What a figure was measured on."""

from __future__ import annotations

import platform
from pathlib import Path

import torch

CPU = Path("/proc/cpuinfo")  # Linux
FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")  # what decides the speed of convolutions


def describe(device: torch.device) -> str:
    """The processor, which of the telling flags it has, threads and torch, in one line."""
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}"
    pairs = (line.split(":", 1) for line in CPU.read_text().splitlines() if ":" in line) if CPU.exists() else ()
    facts = {name.strip(): value.strip() for name, value in pairs}
    model = facts.get("model name", platform.machine())
    if "cpu family" in facts:
        model += f" (family {facts['cpu family']}, model {facts['model']})"
    found = [flag for flag in FLAGS if flag in facts.get("flags", "").split()]
    return ", ".join((model, " ".join(found), f"threads {torch.get_num_threads()}", f"torch {torch.__version__}"))
