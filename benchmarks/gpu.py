"""What a device does with g2s: seconds a photo of every preset, photos and training images a second, peak memory.

    python benchmarks/gpu.py [--device cuda] [--minutes 8] [--photos 32]

One run, within the minutes: what comes too late for them is timed with few iterations a step and marked "estimated".
The share of the peak compares floating-point operations a second (PyTorch's counter: convolutions and products of
matrices) with those of a large bfloat16 product, measured in the same run. It is small where launches of kernels or
memory, not arithmetic, take the time. Photos are random images of the embedded GAN.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import astuple
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from machine import describe
from many_photos import draw_photos
from torch.utils.flop_counter import FlopCounterMode

import g2s_cli
from g2s_cli.machine import Machine
from g2s_cli.pipeline import Pipeline
from g2s_cli.training.dataset import ImageDataset
from g2s_cli.training.distributed import Group
from g2s_cli.training.gan import GanConfig, GanTraining
from g2s_cli.training.gan_networks import gan_for

PRESETS = [("portrait", "fast"), ("synface", "instant"), ("synface", "fast"), ("synface", "paper")]
FEW_ITERATIONS = 10  # a step, of a preset whose time is estimated
CPU_PRODUCT, CUDA_PRODUCT = 1024, 8192  # rows of the matrices that give the peak
TRAINING_STEPS = 10


class Clock:
    """Times work on a device, and its peak memory. seconds_left: of the run."""

    def __init__(self, device: torch.device, minutes: float) -> None:
        self._device, self._end = device, time.monotonic() + 60 * minutes
        self.is_cuda = device.type == "cuda"

    @property
    def seconds_left(self) -> float:
        return self._end - time.monotonic()

    def seconds(self, work: Callable[[], object]) -> float:
        """What the work takes, with all kernels that it has launched."""
        if self.is_cuda:
            torch.cuda.synchronize(self._device)
            torch.cuda.reset_peak_memory_stats(self._device)
        start = time.perf_counter()
        work()
        if self.is_cuda:
            torch.cuda.synchronize(self._device)
        return time.perf_counter() - start

    def memory(self) -> str:
        """The peak memory of what was timed last."""
        return f"{torch.cuda.max_memory_allocated(self._device) / 2**20:6.0f} MiB" if self.is_cuda else ""


def peak_flops(clock: Clock, device: torch.device) -> float:
    """Operations a second of a large product in bfloat16, the best of five."""
    rows = CUDA_PRODUCT if clock.is_cuda else CPU_PRODUCT
    matrix = torch.randn(rows, rows, device=device, dtype=torch.bfloat16)
    clock.seconds(lambda: matrix @ matrix)
    return 2 * rows**3 / min(clock.seconds(lambda: matrix @ matrix) for _ in range(5))


def time_preset(category: str, preset: str, photos: list[Path], device: str, clock: Clock) -> str:
    """Seconds of a photo alone, and photos a second, as a line; the former only for the paper's schedule."""
    cut = g2s_cli.load(category, preset=preset, device=device, iterations=FEW_ITERATIONS)
    clock.seconds(lambda: cut(photos[0]))  # kernels are loaded and chosen
    pipeline = g2s_cli.load(category, preset=preset, device=device)
    if schedule := pipeline.preset.schedule:
        few = clock.seconds(lambda: cut(photos[0]))
        steps, few_steps = (
            sum(sum(astuple(stage)) for stage in one.stages) for one in (schedule, cut.preset.schedule or schedule)
        )
        if few * steps / few_steps > clock.seconds_left:
            return f"{few * steps / few_steps:8.2f} s alone, estimated {clock.memory()}"
        return f"{clock.seconds(lambda: pipeline(photos[0])):8.2f} s alone {clock.memory()}"
    alone = clock.seconds(lambda: pipeline(photos[0]))
    return f"{alone:8.2f} s alone {many(pipeline, photos, alone, clock)} {clock.memory()}"


def many(pipeline: Pipeline, photos: list[Path], alone_s: float, clock: Clock) -> str:
    """Photos a second of as many as there is time for."""
    some = photos[: max(1, int(clock.seconds_left / 4 / alone_s))]
    return f"{len(some) / clock.seconds(lambda: list(pipeline.each(some))):8.2f} photos a second"


def time_training(size: int, batch: int, machine: Machine, peak: float, clock: Clock) -> str:
    """Images a second of the GAN's training, and its share of the peak, as a line."""
    random = np.random.default_rng(0)
    images = ImageDataset(random.integers(0, 256, (2 * batch, size, size, 3), dtype=np.uint8))
    training = GanTraining(gan_for(None, size, seed=0), GanConfig(batch=batch), images, machine, Group())
    training.step(0)  # with the R1 penalty
    with FlopCounterMode(display=False) as counter:
        training.step(1)
    steps = 1 if clock.seconds_left < 30 else TRAINING_STEPS
    taken = clock.seconds(lambda: [training.step(1) for _ in range(steps)]) / steps
    share = counter.get_total_flops() / taken / peak
    return f"{batch / taken:8.1f} images a second, {100 * share:4.1f} % of the peak {clock.memory()}"


def main() -> None:
    parser = argparse.ArgumentParser(description="Time presets and training on one device.")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--minutes", type=float, default=8)
    parser.add_argument("--photos", type=int, default=32)
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 128])
    parser.add_argument("--batches", type=int, nargs="+", default=[32, 128])
    parser.add_argument("--threads", type=int, help="of a CPU")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    machine = Machine.named(options.device)
    clock = Clock(machine.device, options.minutes)
    print(describe(machine.device))
    peak = peak_flops(clock, machine.device)
    print(f"peak, bfloat16: {peak / 1e12:.2f} TFLOP/s", flush=True)
    for size in options.sizes:
        for batch in options.batches:
            print(
                f"training {size:4} px, batch {batch:4} {time_training(size, batch, machine, peak, clock)}", flush=True
            )
    with TemporaryDirectory() as folder:
        draw_photos(Path(folder), options.photos)
        photos = sorted(Path(folder).iterdir())
        for category, preset in PRESETS:
            line = time_preset(category, preset, photos, str(machine.device), clock)
            print(f"{category:9} {preset:9} {line}", flush=True)


if __name__ == "__main__":
    main()
