"""Many photos: their list, folders and outcomes, with made-up reconstructions."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from safetensors.torch import load_file

from g2s_cli.batch import (
    SUMMARY,
    Job,
    Outcome,
    find_photos,
    finished_outcome,
    make_jobs,
    run_jobs,
    summarize,
    write_summary,
)
from g2s_cli.errors import G2SError, ImageError, UsageError
from g2s_cli.files import sha256_of
from g2s_cli.mesh.options import Body, MeshOptions
from g2s_cli.result.read import read_result
from g2s_cli.result.schema import REPORT, STATE, Result
from g2s_cli.result.write import ResultFiles, rewrite_meshes, write_result

SETTINGS = {"seed": 0, "weights": {"gan": "abc"}}
Make = Callable[..., Result]


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    """Three photos of different colours."""
    paths = [tmp_path / name for name in ("one.png", "two.png", "three.png")]
    for number, path in enumerate(paths):
        Image.new("RGB", (32, 32), (80 * number, 0, 0)).save(path)
    return paths


@pytest.fixture
def runner(make: Make) -> Callable[..., Callable[[Sequence[Path]], Iterator[tuple[int, Result | Exception]]]]:
    """Makes up a result for each photo, or yields or raises the exception given for its stem."""

    def runner(settings: dict = SETTINGS, **failures: BaseException) -> Callable:
        def run(paths: Sequence[Path]) -> Iterator[tuple[int, Result | Exception]]:
            for index, path in enumerate(paths):
                failure = failures.get(path.stem)
                if isinstance(failure, Exception):
                    yield index, failure
                    continue
                if failure:
                    raise failure
                figures = {"inversion_psnr_db": 30.0, "reconstruction_psnr_db": 31.0, "seconds": {"total": 1.0}}
                result = make(16)
                report = result.report | settings | figures | {"photo_sha256": sha256_of(path)}
                yield index, replace(result, report=report)

        return run

    return runner


def outcomes(jobs: list[Job], run: Callable, settings: dict = SETTINGS, overwrite: bool = False) -> dict[str, Outcome]:
    found = run_jobs(jobs, settings, run, MeshOptions(), command="g2s reconstruct", overwrite=overwrite)
    return {outcome.job.photo.stem: outcome for outcome in found}


def states(found: dict[str, Outcome]) -> dict[str, str]:
    return {stem: outcome.state for stem, outcome in found.items()}


def refuse(paths: Sequence[Path]) -> Iterator[tuple[int, Result | Exception]]:
    raise AssertionError(f"{paths} were run")


def contents(folder: Path) -> dict[str, Any]:
    """A folder's files: their bytes, of tensors the values, and the report without its seconds."""
    files: dict[str, Any] = {path.name: path.read_bytes() for path in folder.iterdir()}
    files[STATE] = {name: tensor.tolist() for name, tensor in load_file(folder / STATE).items()}
    files[REPORT] = json.loads(files[REPORT]) | {"seconds": None}
    return files


def test_a_folder_means_its_images_in_natural_order(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    (folder / "sub.png").mkdir(parents=True)
    for name in ("b10.jpg", "B2.JPEG", "b1.png", "a.webp", "notes.txt", ".hidden.png", "clip.eps"):
        (folder / name).touch()
    photos, notes = find_photos([folder])
    assert [path.name for path in photos] == ["a.webp", "b1.png", "B2.JPEG", "b10.jpg"]
    assert notes == [f"Not taken for photos: {folder / 'clip.eps'}, {folder / 'notes.txt'}."]


def test_a_photo_named_twice_is_taken_once(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        (tmp_path / name).touch()
    around = tmp_path / "c" / ".." / "a.png"
    (tmp_path / "c").mkdir()
    photos, notes = find_photos([tmp_path / "b.png", tmp_path, around])
    assert photos == [tmp_path / "b.png", tmp_path / "a.png"]
    assert notes == [f"{path} is named more than once, and taken once." for path in (tmp_path / "b.png", around)]


def test_named_files_are_taken_unchecked_and_empty_folders_are_refused(tmp_path: Path) -> None:
    assert find_photos([tmp_path / "nosuch", tmp_path / ".x.png"])[0] == [tmp_path / "nosuch", tmp_path / ".x.png"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="empty has no images"):
        find_photos([tmp_path / "empty"])


@pytest.mark.parametrize(
    ("names", "folders"),
    [
        (["a.jpg", "b.png"], ["a", "b"]),
        (["x/001.jpg", "y/001.jpg", "z/001.png"], ["001", "001-2", "001-3"]),
        (["a.jpg", "a.png", "a-2.png"], ["a", "a-3", "a-2"]),
        (["Me.jpg", "me.png"], ["Me", "me-2"]),
        ([f"{SUMMARY}.png"], [f"{SUMMARY}-2"]),
        (["..jpg", ".me.jpg", "plain"], ["jpg", "me", "plain"]),
        (["\u00e9.jpg", "e\u0301.jpg"], ["\u00e9", "e\u0301-2"]),
    ],
)
def test_folders_are_named_after_stems(names: list[str], folders: list[str], tmp_path: Path) -> None:
    jobs = make_jobs([Path(name) for name in names], tmp_path / "out")
    assert [job.folder for job in jobs] == [tmp_path / "out" / folder for folder in folders]


def test_folder_names_fit_the_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "pathconf", lambda *_: 143)
    names = [f"{'人' * 60}.jpg", f"{'人' * 60}.png", f"{'x' * 143}.jpg"]
    jobs = make_jobs([Path(name) for name in names], tmp_path / "out")
    assert [job.folder.name for job in jobs] == ["人" * 47, f"{'人' * 47}-2", "x" * 143]


def test_a_folder_that_cannot_be_written_to_is_refused_before_the_photos(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(UsageError, match="cannot be written: Read-only file system"):
        make_jobs([Path("a.png")], tmp_path / "out")


def test_files_and_single_results_are_refused_as_folder_of_results(tmp_path: Path, result: Result) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="is a file"):
        make_jobs([Path("a.png")], tmp_path / "file")
    write_result(result, tmp_path / "one")
    with pytest.raises(UsageError, match="is the result of one photo"):
        make_jobs([Path("a.png")], tmp_path / "one")


def test_a_failed_photo_does_not_stop_the_others(photos: list[Path], runner: Callable, tmp_path: Path) -> None:
    jobs, error = make_jobs(photos, tmp_path / "out"), ImageError("two.png is damaged.")
    found = outcomes(jobs, runner(two=error))
    assert states(found) == {"one": "made", "two": "failed", "three": "made"}
    assert found["two"].error is error
    for job in (jobs[0], jobs[2]):
        assert read_result(job.folder).report["photo_sha256"] == sha256_of(job.photo)
        assert read_result(job.folder).report["command"] == "g2s reconstruct"
    assert not jobs[1].folder.exists()


def test_finished_results_are_kept(photos: list[Path], runner: Callable, tmp_path: Path) -> None:
    jobs = make_jobs(photos, tmp_path / "out")
    outcomes(jobs[:2], runner())
    found = outcomes(jobs, runner())
    assert states(found) == {"one": "kept", "two": "kept", "three": "made"}
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    for overwrite in (False, True):
        assert set(states(outcomes(jobs, refuse, overwrite=overwrite)).values()) == {"kept"}
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")} == before


@pytest.mark.parametrize("name", ["mesh.glb", "mesh.obj", "aligned.png", "original.png", "mesh.stl"])
def test_incomplete_results_are_not_kept(photos: list[Path], runner: Callable, tmp_path: Path, name: str) -> None:
    jobs, detail = make_jobs(photos[:1], tmp_path / "out"), MeshOptions(body=Body())

    def found(run: Callable, *, overwrite: bool) -> Outcome:
        [one] = run_jobs(jobs, SETTINGS, run, detail, command="g2s reconstruct", overwrite=overwrite)
        return one

    assert found(runner(), overwrite=False).state == "made"
    assert found(refuse, overwrite=False).state == "kept"
    (jobs[0].folder / name).unlink()
    message = f"{jobs[0].folder} is incomplete: it lacks {name}. Add --overwrite to make it again."
    assert str(found(refuse, overwrite=False).error) == message
    assert found(runner(), overwrite=True).state == "made"
    assert found(refuse, overwrite=False).state == "kept"


def test_results_with_rewritten_meshes_of_another_size_are_not_kept(
    photos: list[Path], runner: Callable, tmp_path: Path
) -> None:
    jobs = make_jobs(photos[:1], tmp_path / "out")
    outcomes(jobs, runner())
    for size, state in ((16, "failed"), (None, "kept")):
        rewrite_meshes(read_result(jobs[0].folder), jobs[0].folder, MeshOptions(mesh_size=size), overwrite=True)
        assert states(outcomes(jobs, refuse)) == {"one": state}


def test_a_body_that_g2s_mesh_adds_changes_nothing(photos: list[Path], runner: Callable, tmp_path: Path) -> None:
    jobs = make_jobs(photos[:1], tmp_path / "out")
    outcomes(jobs, runner())
    rewrite_meshes(read_result(jobs[0].folder), jobs[0].folder, MeshOptions(body=Body()), overwrite=True)
    assert states(outcomes(jobs, refuse)) == {"one": "kept"}


@pytest.mark.parametrize(
    ("name", "value"), [("warnings", None), ("warnings", 3), ("seconds", {}), ("inversion_psnr_db", "much")]
)
def test_a_damaged_report_fails_its_photo_only(
    photos: list[Path], runner: Callable, tmp_path: Path, name: str, value: object
) -> None:
    jobs = make_jobs(photos[:2], tmp_path / "out")
    outcomes(jobs, runner())
    path = jobs[0].folder / "report.json"
    report = {key: entry for key, entry in json.loads(path.read_text()).items() if key != name}
    path.write_text(json.dumps(report if value is None else report | {name: value}))
    found = outcomes(jobs, refuse)
    assert states(found) == {"one": "failed", "two": "kept"}
    assert "is damaged: its report.json cannot be read. Add --overwrite." in str(found["one"].error)
    summarize(list(found.values()))
    assert states(outcomes(jobs, runner(), overwrite=True)) == {"one": "made", "two": "kept"}


def test_files_of_workers_make_the_same_folders_in_any_order(
    photos: list[Path], runner: Callable, tmp_path: Path
) -> None:
    def packed(paths: Sequence[Path]) -> Iterator[tuple[int, ResultFiles]]:
        for index, made in reversed(list(runner()(paths))):
            folder = tmp_path / "worker" / str(index)
            yield index, ResultFiles.read(folder, write_result(made, folder))

    here, there = make_jobs(photos, tmp_path / "here"), make_jobs(photos, tmp_path / "there")
    outcomes(here, runner())
    assert list(outcomes(there, packed)) == ["three", "two", "one"]
    for one, other in zip(here, there, strict=True):
        assert contents(one.folder) == contents(other.folder)
    assert states(outcomes(there, refuse)) == {"one": "kept", "two": "kept", "three": "kept"}
    assert states(outcomes(there, packed, SETTINGS | {"seed": 1}))["one"] == "failed"


def test_ctrl_c_leaves_finished_results(photos: list[Path], runner: Callable, tmp_path: Path) -> None:
    jobs = make_jobs(photos, tmp_path / "out")
    with pytest.raises(KeyboardInterrupt):
        outcomes(jobs, runner(two=KeyboardInterrupt()))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["one"]
    assert states(outcomes(jobs, runner())) == {"one": "kept", "two": "made", "three": "made"}


@pytest.mark.parametrize("change", ["photo", "seed", "weights"])
def test_results_of_other_photos_or_settings_are_replaced_only_on_request(
    change: str, photos: list[Path], runner: Callable, tmp_path: Path
) -> None:
    jobs, settings = make_jobs(photos[:1], tmp_path / "out"), SETTINGS
    outcomes(jobs, runner())
    if change == "photo":
        Image.new("RGB", (32, 32), "white").save(photos[0])
    else:
        settings = SETTINGS | {change: {"gan": "other"}}
    found = outcomes(jobs, refuse, settings)["one"]
    assert isinstance(found.error, UsageError)
    assert f"has another run's {change}. Add --overwrite" in str(found.error)
    assert states(outcomes(jobs, runner(settings), settings, overwrite=True)) == {"one": "made"}
    assert finished_outcome(jobs[0], settings).state == "kept"


def test_folders_without_a_result_are_never_replaced(photos: list[Path], tmp_path: Path) -> None:
    jobs = make_jobs(photos[:1], tmp_path / "out")
    jobs[0].folder.mkdir(parents=True)
    (jobs[0].folder / "diary.txt").touch()
    for overwrite in (False, True):
        message = str(outcomes(jobs, refuse, overwrite=overwrite)["one"].error)
        assert "is not empty and holds no g2s result: g2s will not delete it. Name another folder" in message
    assert (jobs[0].folder / "diary.txt").exists()


def test_folders_that_contain_a_photo_or_the_gan_are_not_replaced(
    photos: list[Path], runner: Callable, tmp_path: Path
) -> None:
    jobs, settings = make_jobs(photos, tmp_path / "out"), SETTINGS | {"seed": 1}
    outcomes(jobs, runner())
    inside, gan = tmp_path / "out" / "one" / "own.png", tmp_path / "out" / "two" / "gan.pt"
    photos[2].rename(inside)
    gan.touch()
    jobs = [jobs[0], jobs[1], Job(inside, jobs[2].folder)]
    for overwrite in (False, True):
        how = {"command": "g2s reconstruct", "overwrite": overwrite, "gan": gan}
        found = {one.job.folder.name: one for one in run_jobs(jobs, settings, runner(settings), MeshOptions(), **how)}
        assert "own.png lies in" in str(found["one"].error)
        assert "gan.pt lies in" in str(found["two"].error)
    assert found["three"].state == "made"
    assert inside.exists()
    assert gan.exists()


def test_damaged_results_and_missing_photos_are_distinguished(
    photos: list[Path], runner: Callable, tmp_path: Path
) -> None:
    jobs = make_jobs(photos[:2], tmp_path / "out")
    outcomes(jobs, runner())
    (jobs[0].folder / "report.json").write_text("[]")
    photos[1].unlink()
    with pytest.raises(G2SError, match="is damaged"):
        finished_outcome(jobs[0], SETTINGS)
    with pytest.raises(ImageError, match=r"two.png cannot be read"):
        finished_outcome(jobs[1], SETTINGS)


def test_the_summary(photos: list[Path], runner: Callable, tmp_path: Path) -> None:
    jobs = make_jobs(photos, tmp_path / "out")
    outcomes(jobs[:1], runner())
    summary = summarize(list(outcomes(jobs, runner(two=ZeroDivisionError("by zero"))).values()))
    assert [one["state"] for one in summary["photos"]] == ["kept", "failed", "made"]
    assert (summary["made"], summary["kept"], summary["failed"]) == (1, 1, 1)
    assert summary["photos"][1]["exit_code"] == 1
    assert "ZeroDivisionError: by zero" in summary["photos"][1]["error"]
    assert "seconds" not in summary["photos"][0]
    write_summary(summary, tmp_path / "out")
    assert json.loads((tmp_path / "out" / SUMMARY).read_text()) == summary
    write_summary(summary, tmp_path / "out")
    assert len(list((tmp_path / "out").iterdir())) == 3


def test_a_run_that_lost_to_another_keeps_its_results_and_summary(
    photos: list[Path], runner: Callable, tmp_path: Path
) -> None:
    """Two runs at once: the other one writes its results while this one reconstructs."""
    out = tmp_path / "out"
    jobs = make_jobs(photos, out)

    def run_second(settings: dict, others: list[Job]) -> dict[str, Outcome]:
        def run(paths: Sequence[Path]) -> Iterator[Result | Exception]:
            first = outcomes(others, runner())
            write_summary(summarize(list(first.values())), out)
            yield from runner(settings)(paths)

        return outcomes(jobs, run, settings)

    same = run_second(SETTINGS, jobs)
    assert states(same) == dict.fromkeys(("one", "two", "three"), "kept")
    winner = (out / SUMMARY).read_text()
    shutil.rmtree(out / "one")
    shutil.rmtree(out / "two")
    others = outcomes(jobs, runner(SETTINGS | {"seed": 1}), SETTINGS | {"seed": 1})
    assert states(others) == {"three": "failed", "one": "made", "two": "made"}
    write_summary(summarize([others[photo.stem] for photo in photos]), out)
    assert [one["state"] for one in json.loads((out / SUMMARY).read_text())["photos"]] == ["made"] * 3
    (out / SUMMARY).write_text(winner)
    lost = outcomes(jobs, refuse, SETTINGS | {"seed": 2})
    assert states(lost) == dict.fromkeys(("one", "two", "three"), "failed")
    write_summary(summarize(list(lost.values())), out)
    assert (out / SUMMARY).read_text() == winner
