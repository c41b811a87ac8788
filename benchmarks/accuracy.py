"""Accuracy on a folder in the layout of the BFM benchmark: SIDE, MAD and mask coverage, image by image.

    python benchmarks/accuracy.py DATA [--preset fast] [--first 0] [--count 20] [--seed 0] [--out runs/fast.jsonl]

The truth is used for scoring alone. Each image's line is written as soon as it is done, and images already in
the file are not run again. Truth and prediction are compared at the working size: depth averaged over the
pixels it covers, a pixel counted as object when all of those are, both masks eroded by one pixel.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.nn.functional import adaptive_avg_pool2d

from g2s_cli.method.metrics import coverage, eroded, mad_deg, side
from g2s_cli.pipeline import reconstruct
from g2s_cli.scene.camera import Camera
from g2s_cli.scene.render import render


def read_truth(path: Path, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Depth (1 s s) in scene units and its mask, from a 16-bit depth image: (1.1 - depth) / 0.2, 0 = nothing."""
    code = torch.from_numpy(np.asarray(Image.open(path)).astype(np.float32))[None]
    depth, there = 1.1 - code / 65535 * 0.2, (code > 0).float()
    return adaptive_avg_pool2d(depth, size), adaptive_avg_pool2d(there, size) > 0.99


def score(depth: torch.Tensor, mask: torch.Tensor, truth: torch.Tensor, there: torch.Tensor) -> dict[str, float]:
    """SIDE (x 100), MAD (degrees) and coverage of one prediction (s s)."""
    camera = Camera(depth.shape[-1])
    both = eroded(mask[None]) & eroded(there)
    return {
        "side_e2": 100 * side(depth[None], truth, both).item(),
        "mad_deg": mad_deg(depth[None], truth, both, camera).item(),
        "coverage": coverage(mask[None], there).item(),
    }


def summary(rows: list[dict[str, float]]) -> str:
    """Mean and standard deviation of each figure over images."""
    lines = [f"{len(rows)} images"]
    for name in ("side_e2", "mad_deg", "coverage", "psnr_db", "seconds"):
        values = [row[name] for row in rows]
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        lines.append(f"  {name:10} {statistics.mean(values):8.3f} ± {spread:.3f}")
    return "\n".join(lines)


def main() -> None:
    """Run, score and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--category", default="synface")
    parser.add_argument("--preset", default="fast")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    out = options.out or Path("runs") / f"{options.data.name}-{options.preset}-{options.seed}.jsonl"
    out.parent.mkdir(parents=True, exist_ok=True)
    done = {row["image"]: row for row in map(json.loads, out.read_text().splitlines())} if out.exists() else {}
    rows = []
    for path in sorted((options.data / "image").iterdir())[options.first : options.first + options.count]:
        row = done.get(path.name)
        if row is None:
            start = time.perf_counter()
            made = reconstruct(path, category=options.category, preset=options.preset, seed=options.seed)
            seconds = time.perf_counter() - start
            seen = render(made.factors, made.camera)
            truth_path = options.data / "depth" / path.name.replace("image", "depth")
            truth, there = read_truth(truth_path, made.camera.size)
            row = {"image": path.name, **score(seen.depth, (made.mask >= 0.5) & seen.valid, truth, there)}
            row |= {"psnr_db": made.report["inversion_psnr_db"], "seconds": seconds, "report": made.report}
            with out.open("a") as file:
                file.write(json.dumps(row) + "\n")
        rows.append(row)
        print(
            f"{row['image']}  SIDE {row['side_e2']:.3f}e-2  MAD {row['mad_deg']:.2f}°  coverage {row['coverage']:.3f}  "
            f"inversion {row['psnr_db']:.1f} dB  {row['seconds']:.0f} s",
            flush=True,
        )
    print(summary(rows))


if __name__ == "__main__":
    main()
