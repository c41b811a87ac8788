"""The cache of weights."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest
import torch
from filelock import FileLock, Timeout

from g2s_cli.config import Category
from g2s_cli.errors import WeightsError
from g2s_cli.files import sha256_of
from g2s_cli.weights import cache, tensors
from g2s_cli.weights.cache import CachedFile, find_cached, lock, remove_stale, write_record
from g2s_cli.weights.categories import load_category
from g2s_cli.weights.registry import local_file, store_part


@pytest.fixture
def horse(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Category:
    """A category with a cached part."""
    monkeypatch.setenv("G2S_CACHE", str(tmp_path / "cache"))
    category = load_category("horse")
    store_part(category, "gan", {"a": torch.zeros(3)}, _source(tmp_path), "a test")
    return category


def _source(folder: Path) -> Path:
    path = folder / "source.pt"
    path.write_bytes(b"source")
    return path


def test_a_file_that_another_process_is_replacing_is_not_damaged(horse: Category) -> None:
    path = local_file(horse, "gan")
    answers = []
    with lock("horse", "gan"):
        path.write_bytes(b"new")
        other = threading.Thread(target=lambda: answers.append(local_file(horse, "gan")))
        other.start()
        time.sleep(0.3)
        write_record("horse", "gan", CachedFile(path, sha256_of(path), "a test"))
    other.join()
    assert answers == [path]
    assert path.read_bytes() == b"new"


def test_an_interrupted_replacement_leaves_no_record(
    horse: Category, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cache, "write_record", stop)
    with pytest.raises(KeyboardInterrupt):
        store_part(horse, "gan", {"a": torch.ones(3)}, _source(tmp_path), "a test")
    assert find_cached("horse", "gan") is None
    assert local_file(horse, "gan") is None


def test_a_failed_write_keeps_the_old_file(horse: Category, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*_: object) -> None:
        raise OSError("the disk is full")

    before = local_file(horse, "gan")
    monkeypatch.setattr(tensors, "save_file", refuse)
    with pytest.raises(WeightsError, match="cannot be written"):
        store_part(horse, "gan", {"a": torch.ones(3)}, _source(tmp_path), "a test")
    assert local_file(horse, "gan") == before


def test_temporary_files_of_killed_processes_are_deleted_after_an_hour(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("G2S_CACHE", str(tmp_path))
    old, new = tmp_path / "owls" / ".abc.part", tmp_path / "owls" / ".def.part"
    old.parent.mkdir()
    for path in (old, new):
        path.touch()
    os.utime(old, (0, 0))
    remove_stale("owls")
    assert (old.exists(), new.exists()) == (False, True)


def test_an_import_that_fails_leaves_no_category(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("G2S_CACHE", str(tmp_path))
    (tmp_path / "known").mkdir()
    for name in ("known", "owls"):
        with pytest.raises(OSError, match="full"), cache.deleted_if_it_fails(name):
            (tmp_path / name / "deep").mkdir(parents=True)
            raise OSError("the disk is full")
    assert [path.name for path in tmp_path.iterdir()] == ["known"]


def test_without_a_home_folder_only_what_needs_a_cache_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless(_: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in ("G2S_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "expanduser", homeless)
    assert local_file(load_category("synface"), "gan").is_file()
    assert find_cached("synface", "gan") is None
    with pytest.raises(WeightsError, match="no home folder") as caught:
        store_part(load_category("horse"), "gan", {"a": torch.zeros(3)}, Path("a.pt"), "a test")
    assert "G2S_CACHE" in caught.value.remedy


def test_the_lock_of_a_category_of_the_users_lies_in_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("G2S_CACHE", str(tmp_path / "cache"))
    owls = tmp_path / "owls"
    owls.mkdir()
    with lock(str(owls), "fetch"):
        assert list(owls.iterdir()) == []
        [place] = (tmp_path / "cache" / ".locks").iterdir()
        with pytest.raises(Timeout):
            FileLock(place, timeout=0).acquire()
