"""Depth of the nearest surface at every pixel of a view of a 64x64 relief, in milliseconds a batch.

    python benchmarks/visibility.py [--rounds 9] [--threads 2] [--batch 16] [--device cpu]

Ours against Open3D's ray casting (Embree; CPU only, left out where Open3D is not installed: `pip install
'g2s-cli[open3d]'`) and against brute force, every pixel with every triangle. Each starts from depth and view;
Open3D's scenes are built anew every time, for the mesh changes with every view. A round times every contender
REPEATS times in a row, so that none pays for memory that the one before it gave back; ratios are taken within
rounds. Agreement is the share of pixels within 1e-3 scene units of ours (brute force's matrix products round at 2e-4).
"""

from __future__ import annotations

import argparse
import importlib.util
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import torch
from machine import describe
from torch import Tensor

from g2s_cli.geometry.camera import Camera, canonical_to_view, project_points, unproject_points
from g2s_cli.geometry.rasterizer import VIEW_FAR, grid_faces, render_depth

RELIEFS = Path(__file__).parents[1] / "tests" / "data" / "geometry.npz"
REPEATS = 5
CHUNK = 256  # pixels that brute force holds against all triangles at a time
SLACK = 1e-3  # barycentric: above the rounding of these products, below what moves a depth by 1e-3


def brute_force(depth: Tensor, view: Tensor, camera: Camera) -> Tensor:
    """Barycentric weights and 1/z are affine over the picture: three products of matrices for all pairs."""
    points = canonical_to_view(unproject_points(depth, camera), view, camera).flatten(1, 2)
    triangles = grid_faces(camera.size, camera.size, depth.device)
    index = torch.arange(camera.size, device=depth.device, dtype=depth.dtype)
    pixels = torch.stack((*torch.meshgrid(index, index, indexing="xy"), torch.ones_like(depth[0])), dim=-1)
    seen = []
    for corners in points[:, triangles]:
        flat, closeness = project_points(corners, camera), 1 / corners[..., 2]
        area = torch.linalg.det(torch.cat((flat, torch.ones_like(flat[..., :1])), dim=-1))
        planes = []
        for first, second in ((1, 2), (2, 0), (0, 1)):
            (ax, ay), (bx, by) = flat[:, first].unbind(-1), flat[:, second].unbind(-1)
            planes.append(torch.stack((ay - by, bx - ax, ax * by - ay * bx)) / area)
        depths = sum(plane * closeness[:, k] for k, plane in enumerate(planes))
        for some in pixels.view(-1, 3).split(CHUNK):
            hit = torch.ones(len(some), len(triangles), dtype=torch.bool, device=depth.device)
            for plane in planes:
                hit &= some @ plane >= -SLACK
            seen.append(1 / torch.where(hit, some @ depths, 1 / VIEW_FAR).amax(dim=1))
    return torch.cat(seen).view_as(depth)


def open3d_caster(camera: Camera, threads: int) -> Callable[[Tensor, Tensor], Tensor]:
    import open3d  # noqa: PLC0415  (an optional contender)

    directions = camera.rays(torch.ones(1))
    rays = open3d.core.Tensor(torch.cat((torch.zeros_like(directions), directions), dim=-1).numpy())
    triangles = grid_faces(camera.size, camera.size, directions.device)
    triangles = open3d.core.Tensor(triangles.numpy().astype(np.uint32))

    def cast(depth: Tensor, view: Tensor) -> Tensor:
        seen = []
        for points in canonical_to_view(unproject_points(depth, camera), view, camera).flatten(1, 2):
            scene = open3d.t.geometry.RaycastingScene(nthreads=threads)
            scene.add_triangles(open3d.core.Tensor(points.numpy()), triangles)
            # A ray's direction has z = 1, so the way along it is the depth.
            seen.append(torch.from_numpy(scene.cast_rays(rays, nthreads=threads)["t_hit"].numpy()))
        return torch.stack(seen).clamp(max=VIEW_FAR)

    return cast


def milliseconds(run: Callable[[Tensor, Tensor], Tensor], depth: Tensor, view: Tensor) -> float:
    start = time.perf_counter()
    for _ in range(REPEATS):
        run(depth, view)
    if depth.is_cuda:
        torch.cuda.synchronize()
    return 1000 * (time.perf_counter() - start) / REPEATS


@torch.no_grad()
def main() -> None:
    segmenter = argparse.ArgumentParser(description="Time visibility against ray casting and brute force.")
    segmenter.add_argument("--rounds", type=int, default=9)
    segmenter.add_argument("--threads", type=int, default=2)
    segmenter.add_argument("--batch", type=int, default=16)
    segmenter.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    asked = segmenter.parse_args()
    torch.set_num_threads(asked.threads)
    camera, data = Camera(64), np.load(RELIEFS)
    repeats = -(-asked.batch // len(data["depth64"]))
    depth = torch.from_numpy(data["depth64"]).repeat(repeats, 1, 1)[: asked.batch].to(asked.device)
    view = torch.from_numpy(data["view64"]).repeat(repeats, 1)[: asked.batch].to(asked.device)

    contenders: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"ours": lambda d, v: render_depth(d, v, camera)}
    if depth.device.type == "cpu" and importlib.util.find_spec("open3d"):
        contenders["Open3D"] = open3d_caster(camera, asked.threads)
    contenders["brute force"] = lambda d, v: brute_force(d, v, camera)

    results = {name: run(depth, view) for name, run in contenders.items()}  # also warms up
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(asked.rounds):
        for name, run in contenders.items():
            times[name].append(milliseconds(run, depth, view))
    print(describe(asked.device))
    print(f"{'':14} {'median ms':>9} {'times ours':>10} {'least':>7} {'most':>7} {'agreement':>9}")
    for name, spent in times.items():
        ratios = [theirs / ours for ours, theirs in zip(times["ours"], spent, strict=True)]
        agreement = ((results[name] - results["ours"]).abs() < 1e-3).double().mean().item()
        row = f"{median(spent):9.1f} {median(ratios):10.2f} {min(ratios):7.2f} {max(ratios):7.2f} {agreement:9.2%}"
        print(f"{name:14} {row}")


if __name__ == "__main__":
    main()
