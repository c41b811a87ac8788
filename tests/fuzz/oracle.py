"""What must hold after every command, whatever its inputs."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from zygote import Outcome

from g2s_cli.atomic_folder import SCRATCH
from g2s_cli.errors import G2SError
from g2s_cli.result.read import read_result
from g2s_cli.result.schema import STATE, missing_files

CODES = {0, 1, 2, 3, 4, 5}
SIGNAL_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}
MAX_MEMORY_BYTES = 4 * 2**30
SUMMARY = r"(is|are) wrong\.|photos? failed"  # of several things, each of which has a sentence of its own
MAX_SENTENCE = 1500  # characters: a message may repeat a long name

Tree = dict[str, str]


def tree(folder: Path) -> Tree:
    """The hashes of all files of a folder, and its sub-folders and links, by relative path."""
    entries: Tree = {}
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(place, name)
            key = path.relative_to(folder).as_posix()
            if path.is_symlink():
                entries[key] = f"-> {path.readlink()}"
            elif path.is_dir():
                entries[key] = "folder"
            else:
                entries[key] = hashlib.sha256(path.read_bytes()).hexdigest()
    return entries


def difference(before: Tree, after: Tree, ignored: Sequence[str]) -> list[str]:
    """Paths that are new, changed or gone, but for those at or below the ignored ones."""
    changed = sorted(path for path in before | after if before.get(path) != after.get(path))
    return [path for path in changed if not any(path == one or path.startswith(f"{one}/") for one in ignored)]


def check_words(outcome: Outcome) -> Iterator[str]:
    """The exit code, the sentence, the memory."""
    if outcome.code in {None, -signal.SIGXCPU, -signal.SIGKILL}:
        yield f"it does not end in {outcome.cpu_s:.0f} s of CPU time, {outcome.seconds:.0f} s"
    elif outcome.code not in CODES | set(SIGNAL_CODES.values()):
        yield f"exit code {outcome.code}"
    lines = outcome.stderr.splitlines()
    sentences = [line for line in lines if line.startswith("g2s: ")]
    for text in ("Traceback", "Something failed inside g2s", "Exception ignored", "Error in "):
        if text in outcome.stderr:
            yield f"{text!r} on stderr: {[line for line in lines if line.strip()][-1][:300]}"
    if outcome.code and "Usage: " not in outcome.stderr:
        if not lines or not lines[-1].startswith("g2s: "):
            yield f"no sentence on stderr: {lines[-1:]}"
        elif len(lines[-1]) > MAX_SENTENCE:
            yield f"a sentence of {len(lines[-1])} characters"
        elif len(sentences) > 1 and not re.search(SUMMARY, lines[-1]):
            yield f"several sentences: {sentences[:2]}"
    if outcome.memory_bytes > MAX_MEMORY_BYTES:
        yield f"memory of {outcome.memory_bytes / 2**30:.1f} GB"


def check_files(
    folder: Path, before: Tree, outcome: Outcome, outputs: Sequence[str], caches: Sequence[str]
) -> Iterator[str]:
    """Nothing half written, nothing left, and nothing touched beside the outputs."""
    after = tree(folder)
    allowed = (*caches, *(outputs if outcome.code == 0 else ()))
    if changed := difference(before, after, allowed):
        yield f"changed, new or gone: {', '.join(changed[:4])}"
    for name in outputs if outcome.code == 0 else ():
        yield from check_output(folder / name)
    for root in caches:
        yield from check_records(folder / root)


def check_output(path: Path) -> Iterator[str]:
    """A result is whole."""
    if (path / STATE).is_file() and (fault := result_fault(path)):
        yield f"{path.name} is half written: {fault}"


def result_fault(folder: Path) -> str:
    """Why a folder is no whole result, or ""."""
    try:
        report = read_result(folder).report
    except (G2SError, OSError) as error:
        return str(error)
    return ", ".join(missing_files(folder, report))


def check_records(root: Path) -> Iterator[str]:
    """No temporary file is left in a cache, and every recorded file is as recorded."""
    for path in root.rglob("*") if root.is_dir() else ():
        if path.name.endswith(".part") or path.name.startswith(SCRATCH):
            yield f"{path.name} is left in the cache"
        record = json.loads(path.read_text()) if path.suffix == ".json" and "models--" not in str(path) else {}
        if {"path", "sha256"} <= record.keys():
            file = path.parent / record["path"]
            if not file.is_file() or hashlib.sha256(file.read_bytes()).hexdigest() != record["sha256"]:
                yield f"{file.name} is not as recorded"


def check_killed(outcome: Outcome, sent: signal.Signals) -> Iterator[str]:
    """The exit code of a command that got a signal; it may have ended before, or not have begun."""
    if outcome.code not in {0, -sent, SIGNAL_CODES.get(sent)}:
        yield f"exit code {outcome.code} after {sent.name}"


def nothing_lost(earlier: Tree, folder: Path, whole: Callable[[Path], str]) -> Iterator[str]:
    """An earlier result is whole where it was, or replaced by a whole one, or all its files are kept aside."""
    if not (fault := whole(folder)):
        return
    kept = set(tree(folder.parent).values())
    lost = [name for name, content in earlier.items() if content not in kept and content != "folder"]
    if lost:
        yield f"{', '.join(lost[:3])} of the earlier result is lost ({fault})"
