"""Photos with known depth, and made-up reconstructions of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from g2s_cli.evaluation.ground_truth import DepthPair, find_pairs
from g2s_cli.geometry.render import photo_depth, render
from g2s_cli.result.schema import Result
from g2s_cli.result.write import encode_depth


@pytest.fixture
def pairs(make: Callable[..., Result], tmp_path: Path) -> list[DepthPair]:
    """Three photos whose true depth is that of a made-up result; the last one's slopes by 0.02 across."""
    for kind in ("image", "depth"):
        (tmp_path / "data" / kind).mkdir(parents=True)
    for number in range(3):
        result = make(64, number)
        depth = photo_depth(render(result.factors, result.camera), result.factors, result.mask, result.camera)
        slope = torch.linspace(0, 0.02, 64).expand(64, 64) if number == 2 else torch.zeros(64, 64)
        Image.new("RGB", (64, 64)).save(tmp_path / "data" / "image" / f"{number}_image.png")
        Image.fromarray(encode_depth((depth + slope).numpy())).save(tmp_path / "data" / "depth" / f"{number}_depth.png")
    return find_pairs(tmp_path / "data")


class Reconstruct:
    """Makes up results of photos, and records the photos' names in `calls`. `failures` are yielded or raised once."""

    def __init__(self, make: Callable[..., Result]) -> None:
        self.make = make
        self.calls: list[str] = []
        self.failures: dict[str, BaseException] = {}

    def __call__(self, photos: Sequence[Path]) -> Iterator[tuple[int, Result | Exception]]:
        for index, photo in enumerate(photos):
            self.calls.append(photo.name)
            failure = self.failures.pop(photo.name, None)
            if isinstance(failure, Exception):
                yield index, failure
            elif failure:
                raise failure
            else:
                result = self.make(64, int(photo.name[0]))
                figures = {"inversion_psnr_db": 30.0, "seconds": {"total": 2.5}}
                yield index, replace(result, report=result.report | figures)


@pytest.fixture
def reconstruct(make: Callable[..., Result]) -> Reconstruct:
    return Reconstruct(make)
