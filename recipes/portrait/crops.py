"""Aligned crops of portraits, with the opacity of the person in each."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import astuple
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch.nn.functional import interpolate

from g2s_cli.geometry.placement import FaceTemplate, Placement
from g2s_cli.photo.crop import crop_photo
from g2s_cli.photo.load import SURROUNDINGS
from g2s_cli.segmentation.person_net import INPUT_SIZE, PersonNet

POINTS = ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth")  # the detector's, columns of the list


def read_list(path: Path, split: str) -> list[tuple[str, Float[np.ndarray, "5 2"]]]:
    """Files of a split and the five points of each face, of portraits.csv."""
    with path.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == split]
    return [
        (row["file"], np.array([[float(row[f"{name}_{axis}"]) for axis in "xy"] for name in POINTS])) for row in rows
    ]


def write_crops(
    listed: list[tuple[str, Float[np.ndarray, "5 2"]]],
    folder: Path,
    template: FaceTemplate,
    net: PersonNet,
    size: int,
    path: Path,
    report: Callable[[int, float], None],
) -> None:
    """Write a .npz: files, images (n s s 3), mattes (n s s), placements (n 4: x, y, side, turn_rad).

    Args:
        listed: files of the folder, with the five points of each face.
    """
    images, mattes, placements = [], [], []
    for number, (name, points) in enumerate(listed, start=1):
        photo = Image.open(folder / name).convert("RGB")
        placement = template.align(points)
        images.append(np.array(crop_photo(photo, placement, size)))
        mattes.append(_matte(photo, placement, size, net))
        placements.append(astuple(placement))
        report(number, 0.0)
    files = np.array([name for name, _ in listed])
    np.savez(path, files=files, images=np.stack(images), mattes=np.stack(mattes), placements=np.array(placements))


@torch.no_grad()
def _matte(photo: Image.Image, placement: Placement, size: int, net: PersonNet) -> UInt8[np.ndarray, "s s"]:
    """The person network's opacity, without refinement along edges."""
    wide = crop_photo(photo, placement.subsquare((1 - SURROUNDINGS) / 2, SURROUNDINGS), INPUT_SIZE)
    alpha = net(torch.from_numpy(np.array(wide)).permute(2, 0, 1)[None] / 127.5 - 1).sigmoid()
    start = round(INPUT_SIZE * (1 - 1 / SURROUNDINGS) / 2)
    inner = alpha[None, :, start : INPUT_SIZE - start, start : INPUT_SIZE - start]
    matte = interpolate(inner, size=(size, size), mode="bilinear", align_corners=False)[0, 0]
    return (matte * 255).round().to(torch.uint8).numpy()
