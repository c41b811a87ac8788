"""Run folders: settings and locks."""

from __future__ import annotations

from pathlib import Path

import pytest

from g2s_cli.errors import G2SError, UsageError
from g2s_cli.run_folder import LOCK, SETTINGS, claim, is_resumable, lock_folder


def test_a_run_resumes_with_the_same_settings_only(tmp_path: Path) -> None:
    folder, settings = tmp_path / "a" / "b", {"seed": 0, "stages": (1, 2), "photos_a_step": 2}
    assert not is_resumable(folder, settings, "g2s test")
    assert not folder.parent.exists()
    claim(folder, settings, "g2s test")
    assert is_resumable(folder, settings, "g2s test")
    claim(folder, settings, "g2s test")
    with pytest.raises(UsageError, match=r"b was begun with other settings: seed, photos a step\. Name another"):
        claim(folder, settings | {"seed": 1, "photos_a_step": 3}, "g2s test")
    with pytest.raises(UsageError, match="other settings: stages"):
        claim(folder, {"seed": 0, "photos_a_step": 2}, "g2s test")


def test_a_folder_of_something_else_is_refused_and_stays(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").touch()
    with pytest.raises(UsageError, match=r"is no folder of g2s test\. Name another"):
        claim(tmp_path, {}, "g2s test")
    with pytest.raises(UsageError, match="cannot be used: "):
        claim(tmp_path / "letter.txt", {}, "g2s test")
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


@pytest.mark.parametrize("text", ["{", "[3]"])
def test_damaged_settings_are_reported(tmp_path: Path, text: str) -> None:
    (tmp_path / SETTINGS).write_text(text)
    with pytest.raises(G2SError, match=r"is damaged: .* Delete it and run g2s test again"):
        claim(tmp_path, {"seed": 0}, "g2s test")


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    first, second, third = (lock_folder(tmp_path, "g2s test") for _ in range(3))
    with first, pytest.raises(UsageError, match="Another g2s test is at work in"):
        second.__enter__()
    with third:
        pass


def test_a_folder_that_cannot_be_locked_is_reported(tmp_path: Path) -> None:
    (tmp_path / LOCK).mkdir()
    with pytest.raises(UsageError, match=r"cannot be used: .* Name another with -o"), lock_folder(tmp_path, "g2s test"):
        pass


def test_a_new_disk_is_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "lost+found").mkdir()
    claim(tmp_path, {}, "g2s test")


def test_a_disk_without_locks_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise NotImplementedError("FileSystem does not appear to support flock")

    monkeypatch.setattr("g2s_cli.run_folder.FileLock.acquire", refuse)
    with pytest.raises(UsageError, match="without locks"), lock_folder(tmp_path, "g2s test"):
        pass
