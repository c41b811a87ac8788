"""The rasterizer against Open3D's ray casting and against brute force, in milliseconds a batch of views of 64x64 depth.

    python benchmarks/visibility.py [--rounds 9] [--threads 2] [--batch 16] [--device cpu]

Open3D (Embree) runs on the CPU, if installed: `pip install 'g2s-cli[open3d]'`. Brute force tests every pixel with every
triangle. Each method starts from depth and view; Open3D builds its scenes anew, because the mesh changes with every
view. A round times every method REPEATS times in a row, so that none pays for memory that the one before freed; ratios
are taken within rounds. Agreement is the share of pixels within 1e-3 scene units of the rasterizer (the matrix products
of brute force round at 2e-4).
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

DEPTHS = Path(__file__).parents[1] / "tests" / "data" / "geometry.npz"
REPEATS = 5
CHUNK = 256  # pixels that brute force tests at a time
SLACK = 1e-3  # barycentric: above the rounding of the matrix products, below what moves a depth by 1e-3

Method = Callable[[Tensor, Tensor], Tensor]  # depth, view → depth in the view


def brute_force(depth: Tensor, view: Tensor, camera: Camera) -> Tensor:
    """Test all pairs by three matrix products: barycentric weights and 1/z are affine over the image."""
    points = canonical_to_view(unproject_points(depth, camera), view, camera).flatten(1, 2)
    faces = grid_faces(camera.size, camera.size, depth.device)
    index = torch.arange(camera.size, device=depth.device, dtype=depth.dtype)
    pixels = torch.stack((*torch.meshgrid(index, index, indexing="xy"), torch.ones_like(depth[0])), dim=-1)
    depths = []
    for corners in points[:, faces]:
        flat, inverse_z = project_points(corners, camera), 1 / corners[..., 2]
        area = torch.linalg.det(torch.cat((flat, torch.ones_like(flat[..., :1])), dim=-1))
        weights = []
        for first, second in ((1, 2), (2, 0), (0, 1)):
            (ax, ay), (bx, by) = flat[:, first].unbind(-1), flat[:, second].unbind(-1)
            weights.append(torch.stack((ay - by, bx - ax, ax * by - ay * bx)) / area)
        plane = sum(weight * inverse_z[:, k] for k, weight in enumerate(weights))
        for chunk in pixels.view(-1, 3).split(CHUNK):
            hit = torch.stack([chunk @ weight >= -SLACK for weight in weights]).all(dim=0)
            depths.append(1 / torch.where(hit, chunk @ plane, 1 / VIEW_FAR).amax(dim=1))
    return torch.cat(depths).view_as(depth)


def open3d_caster(camera: Camera, threads: int) -> Method:
    import open3d  # noqa: PLC0415  (optional)

    directions = camera.rays(torch.ones(1))
    rays = open3d.core.Tensor(torch.cat((torch.zeros_like(directions), directions), dim=-1).numpy())
    faces = grid_faces(camera.size, camera.size, directions.device)
    faces = open3d.core.Tensor(faces.numpy().astype(np.uint32))

    def cast(depth: Tensor, view: Tensor) -> Tensor:
        depths = []
        for points in canonical_to_view(unproject_points(depth, camera), view, camera).flatten(1, 2):
            scene = open3d.t.geometry.RaycastingScene(nthreads=threads)
            scene.add_triangles(open3d.core.Tensor(points.numpy()), faces)
            # A ray's direction has z = 1, so the distance along it is the depth.
            depths.append(torch.from_numpy(scene.cast_rays(rays, nthreads=threads)["t_hit"].numpy()))
        return torch.stack(depths).clamp(max=VIEW_FAR)

    return cast


def milliseconds(method: Method, depth: Tensor, view: Tensor) -> float:
    start = time.perf_counter()
    for _ in range(REPEATS):
        method(depth, view)
    if depth.is_cuda:
        torch.cuda.synchronize()
    return 1000 * (time.perf_counter() - start) / REPEATS


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description="Time the rasterizer against ray casting and brute force.")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    camera, data = Camera(64), np.load(DEPTHS)
    copies = -(-args.batch // len(data["depth64"]))
    depth = torch.from_numpy(data["depth64"]).repeat(copies, 1, 1)[: args.batch].to(args.device)
    view = torch.from_numpy(data["view64"]).repeat(copies, 1)[: args.batch].to(args.device)

    methods: dict[str, Method] = {"ours": lambda d, v: render_depth(d, v, camera)}
    if depth.device.type == "cpu" and importlib.util.find_spec("open3d"):
        methods["Open3D"] = open3d_caster(camera, args.threads)
    methods["brute force"] = lambda d, v: brute_force(d, v, camera)

    results = {name: method(depth, view) for name, method in methods.items()}  # also warms up
    times: dict[str, list[float]] = {name: [] for name in methods}
    for _ in range(args.rounds):
        for name, method in methods.items():
            times[name].append(milliseconds(method, depth, view))
    print(describe(args.device))
    print(f"{'':14} {'median ms':>9} {'times ours':>10} {'least':>7} {'most':>7} {'agreement':>9}")
    for name, spent in times.items():
        ratios = [theirs / ours for ours, theirs in zip(times["ours"], spent, strict=True)]
        agreement = ((results[name] - results["ours"]).abs() < 1e-3).double().mean().item()
        row = f"{median(spent):9.1f} {median(ratios):10.2f} {min(ratios):7.2f} {max(ratios):7.2f} {agreement:9.2%}"
        print(f"{name:14} {row}")


if __name__ == "__main__":
    main()
