"""The speed benchmarks run with the embedded networks, and print a line for each variant."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SHORTEST = {
    "offset_update.py": (["--rounds", "1", "--batch", "1"], ["textbook, float32", "ours, float32", "ours, bfloat16"]),
    "gan_training.py": (
        ["--rounds", "1", "--batch", "4", "--sizes", "64"],
        ["64 px  textbook", "64 px  ours, bfloat16"],
    ),
    "gpu.py": (
        ["--device", "cpu", "--minutes", "0", "--photos", "1", "--sizes", "64", "--batches", "4"],
        ["training   64 px", "portrait  fast", "estimated"],
    ),
    "inversion_batch.py": (["--rounds", "1", "--most", "1", "--size", "64"], ["64 px, photos at once"]),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SHORTEST)
def test_the_benchmark_runs(name: str) -> None:
    options, lines = SHORTEST[name]
    command = [sys.executable, ROOT / "benchmarks" / name, "--threads", "1", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for line in lines:
        assert line in done.stdout
