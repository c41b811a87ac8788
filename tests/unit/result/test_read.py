"""Reading a result folder: it comes back as written, and damage is reported."""

from __future__ import annotations

import json
import shutil
import struct
import zlib
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file

from g2s_cli.atomic_folder import parent_folders
from g2s_cli.errors import G2SError
from g2s_cli.result.read import read_result
from g2s_cli.result.schema import Result
from g2s_cli.result.write import write_result


def assert_same(one: object, other: object) -> None:
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    elif isinstance(one, np.ndarray):
        assert np.array_equal(one, other)
    else:
        assert one == other


@settings(max_examples=6, deadline=None)
@given(size=st.integers(9, 20), seed=st.integers(0, 2**32), residual=st.booleans())
def test_a_result_is_read_as_it_was_written(
    make: Callable[..., Result], tmp_path_factory: pytest.TempPathFactory, size: int, seed: int, residual: bool
) -> None:
    result = make(size, seed)
    if residual:
        result = replace(result, factors=replace(result.factors, depth_residual=0.001 * torch.rand(size, size)))
    folder = tmp_path_factory.mktemp("trip") / "out"
    write_result(result, folder)
    again = read_result(str(folder))  # as users of the API write it
    for field in fields(Result):
        before, after = getattr(result, field.name), getattr(again, field.name)
        if field.name == "factors":
            before, after = vars(before), vars(after)
        if isinstance(before, dict):
            assert before.keys() == after.keys()
            for name in before:
                assert_same(before[name], after[name])
        else:
            assert_same(before, after)


def test_tensors_that_share_memory_are_written(result: Result, tmp_path: Path) -> None:
    weight = torch.randn(4, 4)
    write_result(replace(result, offset_net={"a": weight, "b": weight.T}), tmp_path / "out")
    assert torch.equal(read_result(tmp_path / "out").offset_net["b"], weight.T)


@pytest.fixture(scope="module")
def folder(result: Result, tmp_path_factory: pytest.TempPathFactory) -> Path:
    write_result(result, folder := tmp_path_factory.mktemp("results") / "out")
    return folder


def rewrite_state(folder: Path, **changes: object) -> None:
    """Replace tensors (None: delete) or metadata (str) of the state."""
    path = folder / "state.safetensors"
    with safe_open(path, framework="pt") as file:
        facts, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    for name, value in changes.items():
        if isinstance(value, str):
            facts[name] = value
        elif value is None:
            del tensors[name]
        else:
            tensors[name] = value
    save_file(tensors, path, facts)


def rewrite_report(folder: Path, **changes: object) -> None:
    """Replace entries of the report."""
    path = folder / "report.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def bomb(png: bytes) -> bytes:
    """A PNG whose header states a side of 32768 pixels, with the right checksum."""
    header = b"IHDR" + struct.pack(">II", 1 << 15, 1 << 15) + png[24:29]
    return png[:12] + header + struct.pack(">I", zlib.crc32(header)) + png[33:]


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def save_aligned(mode: str, size: tuple[int, int]) -> Callable[[Path], None]:
    return lambda folder: Image.new(mode, size).save(folder / "aligned.png")


DAMAGE = {
    "another schema": (lambda folder: rewrite_state(folder, schema="99"), "another version of g2s .schema 99, not 2"),
    "no state": (lambda folder: (folder / "state.safetensors").unlink(), "is not a g2s result folder"),
    "no folder": (shutil.rmtree, "is not a g2s result folder"),
    "truncated state": (lambda folder: truncate(folder / "state.safetensors"), "is damaged"),
    "garbage": (lambda folder: (folder / "state.safetensors").write_bytes(b"\xff" * 500), "is damaged"),
    "missing tensor": (lambda folder: rewrite_state(folder, albedo=None), "is damaged"),
    "wrong shape": (lambda folder: rewrite_state(folder, depth=torch.ones(8, 8)), "is damaged"),
    "wrong residual": (lambda folder: rewrite_state(folder, apart=torch.zeros(3, 3)), "is damaged"),
    "not a number": (lambda folder: rewrite_state(folder, light=torch.full((4,), torch.nan)), "is damaged"),
    "strange camera": (lambda folder: rewrite_state(folder, camera='{"lens": 50}'), "is damaged"),
    "blind camera": (lambda folder: rewrite_state(folder, camera='{"size": 64, "fov_deg": 1e-300}'), "is damaged"),
    "camera of text": (lambda folder: rewrite_state(folder, camera='{"size": "64"}'), "is damaged"),
    "camera inside out": (lambda folder: rewrite_state(folder, camera='{"size": 64, "near": 1.15}'), "is damaged"),
    "no place": (lambda folder: rewrite_state(folder, placement='{"x": 1.0, "y": NaN, "side": 9.0}'), "is damaged"),
    "no side": (lambda folder: rewrite_state(folder, placement='{"x": 1.0, "y": 1.0, "side": 0.0}'), "is damaged"),
    "endless matte": (lambda folder: rewrite_state(folder, matte_span="inf"), "is damaged"),
    "nested camera": (lambda folder: rewrite_state(folder, camera="[" * 100_000), "is damaged"),
    "no share": (lambda folder: rewrite_state(folder, frame_share="most"), "is damaged"),
    "vanishing share": (lambda folder: rewrite_state(folder, frame_share="1e-300"), "is damaged"),
    "vanishing side": (
        lambda folder: rewrite_state(folder, placement='{"x": 1.0, "y": 1.0, "side": 1e-9}'),
        "is damaged",
    ),
    "vanishing matte": (lambda folder: rewrite_state(folder, matte_span="1e-300"), "is damaged"),
    "endless schema": (lambda folder: rewrite_state(folder, schema="a" * 5000), "another version"),
    "impossible share": (lambda folder: rewrite_state(folder, frame_share="nan"), "is damaged"),
    "no report": (lambda folder: (folder / "report.json").unlink(), r"is incomplete: report\.json is missing"),
    "truncated report": (lambda folder: truncate(folder / "report.json"), r"its report\.json cannot be read"),
    "photo of another type": (lambda folder: rewrite_report(folder, photo=3), "is damaged"),
    "null photo": (lambda folder: rewrite_report(folder, photo=None), "is damaged"),
    "null weights": (lambda folder: rewrite_report(folder, weights=None), "is damaged"),
    "meshes of another type": (lambda folder: rewrite_report(folder, meshes=[1]), "is damaged"),
    "unknown extent": (lambda folder: rewrite_report(folder, meshes={"extent": "moon"}), "is damaged"),
    "weights of another type": (lambda folder: rewrite_report(folder, weights={"gan": 1}), "is damaged"),
    "nested report": (lambda folder: (folder / "report.json").write_text("[" * 100_000), "is damaged"),
    "report of another type": (lambda folder: (folder / "report.json").write_text("[]"), "is damaged"),
    "no photo": (lambda folder: next(folder.glob("original*")).unlink(), r"is incomplete: original\S* is missing"),
    "truncated crop": (lambda folder: truncate(folder / "aligned.png"), r"is damaged: its aligned\.png cannot be read"),
    "tiny crop": (save_aligned("RGB", (1, 1)), "is damaged: its aligned"),
    "crop that is not square": (save_aligned("RGB", (80, 64)), "is damaged"),
    "bomb": (
        lambda folder: (folder / "aligned.png").write_bytes(bomb((folder / "aligned.png").read_bytes())),
        "is damaged: its aligned",
    ),
    "huge crop": (save_aligned("L", (9000, 9000)), "is damaged"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_folders_are_refused(folder: Path, tmp_path: Path, damage: str) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(folder, damaged)
    harm, message = DAMAGE[damage]
    harm(damaged)
    with pytest.raises(G2SError, match=message) as refusal:
        read_result(damaged)
    assert refusal.value.remedy
    assert len(str(refusal.value)) < 1000


def test_numbers_of_other_precisions_are_read(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    albedo = read_result(folder).factors.albedo
    rewrite_state(other, albedo=albedo.double())
    assert read_result(other).factors.albedo.equal(albedo)


def test_a_link_to_itself_has_parents(tmp_path: Path) -> None:
    loop = tmp_path / "state"
    loop.symlink_to(loop)
    assert loop in parent_folders([loop]).values()
