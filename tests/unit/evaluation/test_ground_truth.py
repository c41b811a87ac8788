"""Depth images and the pairs of a benchmark folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from g2s_cli.errors import ImageError, UsageError
from g2s_cli.evaluation.ground_truth import find_pairs, read_ground_truth


def write_depth(path: Path, depth: np.ndarray, bits: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    code = np.where(np.isnan(depth), 0, (1.1 - depth) / 0.2 * (2**bits - 1)).round()
    Image.fromarray(code.astype(np.uint16 if bits == 16 else np.uint8)).save(path)
    return path


@pytest.mark.parametrize(("bits", "error"), [(8, 0.1 / 255), (16, 0.1 / 65535)])
def test_values_encode_depth(tmp_path: Path, bits: int, error: float) -> None:
    depth = np.linspace(0.91, 1.09, 16).reshape(4, 4)
    truth = read_ground_truth(write_depth(tmp_path / "a.png", depth, bits), 1.0, 4)
    torch.testing.assert_close(truth.depth, torch.from_numpy(depth).float(), rtol=0, atol=error + 1e-6)
    assert truth.mask.all()


def test_areas_are_averaged_and_the_mask_holds_fully_covered_pixels(tmp_path: Path) -> None:
    depth = np.full((8, 8), 1.0)
    depth[:2] = 0.95
    depth[1] = 0.97
    depth[7, 7] = np.nan
    truth = read_ground_truth(write_depth(tmp_path / "a.png", depth, 16), 1.0, 4)
    torch.testing.assert_close(truth.depth[0], torch.full((4,), 0.96), rtol=0, atol=1e-5)
    assert not truth.mask[3, 3]
    assert truth.mask.sum() == 15


def test_the_centre_is_cropped(tmp_path: Path) -> None:
    depth = np.full((256, 256), np.nan)
    depth[43:213, 43:213] = 1.0  # the BFM benchmark: 170 of 256
    assert read_ground_truth(write_depth(tmp_path / "a.png", depth, 8), 170 / 256, 64).mask.all()
    assert not read_ground_truth(tmp_path / "a.png", 172 / 256, 64).mask.all()


def test_pairs_share_a_name(tmp_path: Path) -> None:
    for name in ("b", "a"):
        for kind in ("image", "depth"):
            write_depth(tmp_path / kind / f"{name}_{kind}.png", np.ones((4, 4)), 8)
    assert [(pair.photo.name, pair.depth.name) for pair in find_pairs(tmp_path)] == [
        ("a_image.png", "a_depth.png"),
        ("b_image.png", "b_depth.png"),
    ]
    (tmp_path / "depth" / "b_depth.png").unlink()
    with pytest.raises(UsageError, match=r"b_image\.png has no depth: .*b_depth\.png is missing"):
        find_pairs(tmp_path)
    with pytest.raises(UsageError, match="has no photos"):
        find_pairs(tmp_path / "nothing")


def test_other_files_are_ignored(tmp_path: Path) -> None:
    for kind in ("image", "depth"):
        write_depth(tmp_path / kind / f"a_{kind}.png", np.ones((4, 4)), 8)
    (tmp_path / "image" / "b_image.JPG").touch()
    (tmp_path / "depth" / "b_depth.png").touch()
    for name in (".DS_Store", "._a_image.png", "Thumbs.db", "notes.txt"):
        (tmp_path / "image" / name).touch()
    (tmp_path / "image" / "sub.png").mkdir()
    assert [pair.photo.name for pair in find_pairs(tmp_path)] == ["a_image.png", "b_image.JPG"]
    (tmp_path / "stray" / "image").mkdir(parents=True)
    (tmp_path / "stray" / "image" / ".DS_Store").touch()
    with pytest.raises(UsageError, match="has no photos"):
        find_pairs(tmp_path / "stray")


@pytest.mark.parametrize("content", [b"", b"text", b"\x89PNG\r\n\x1a\n broken"])
def test_files_that_are_no_depth_image_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(ImageError, match=r"a\.png is not a depth image"):
        read_ground_truth(tmp_path / "a.png", 1.0, 4)


@pytest.mark.parametrize("shape", [(4, 6), (3, 3)])
def test_small_images_and_images_that_are_not_square_are_refused(tmp_path: Path, shape: tuple[int, int]) -> None:
    with pytest.raises(ImageError, match=r"Use square images of 4 or more"):
        read_ground_truth(write_depth(tmp_path / "a.png", np.ones(shape), 8), 1.0, 4)
