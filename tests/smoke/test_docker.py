"""The Dockerfile copies what the package is built from, and where Docker runs, its image makes a mesh."""

from __future__ import annotations

import re
import shlex
import subprocess
import tomllib
from pathlib import Path
from shutil import copy, which

import pytest

ROOT = Path(__file__).parents[2]
DOCKER = which("docker")
RUNS = DOCKER is not None and subprocess.run([DOCKER, "info"], capture_output=True, check=False).returncode == 0


def instructions() -> list[list[str]]:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    return [shlex.split(line) for line in lines if line and not line.startswith("#")]


def test_it_copies_what_the_package_is_built_from() -> None:
    copied = {name for word, *names in instructions() if word == "COPY" for name in names[:-1]}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {"pyproject.toml", project["project"]["readme"], *project["project"]["license-files"]}
    needed |= {*wheel["packages"], *wheel["force-include"], "constraints.txt"}
    assert copied == needed
    assert all((ROOT / name).exists() for name in copied)
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert ignored[0] == "*"
    assert {line[1:] for line in ignored if line.startswith("!")} == copied


def test_its_versions_are_those_that_are_tested() -> None:
    install = next(words for words in instructions() if "https://download.pytorch.org/whl/cpu" in words)
    assert install[-1] in (ROOT / "constraints.txt").read_text().splitlines()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = re.search(r"/src\[(.*)\]", (ROOT / "Dockerfile").read_text())
    assert extras and set(extras[1].split(",")) <= set(project["optional-dependencies"])
    [base] = [words[1] for words in instructions() if words[0] == "FROM"]
    version = tuple(map(int, base.removeprefix("python:").removesuffix("-slim").split(".")))
    least = tuple(map(int, project["requires-python"].removeprefix(">=").split(".")))
    assert version >= least
    assert ["ENTRYPOINT", "[g2s]"] in instructions()
    assert "g2s" in project["scripts"]


@pytest.mark.slow
@pytest.mark.skipif(not RUNS, reason="Docker does not run here")
def test_its_image_makes_a_mesh(tmp_path: Path) -> None:
    copy(ROOT / "examples" / "face.png", tmp_path)
    subprocess.run([DOCKER, "build", "-t", "g2s-test", ROOT], check=True, timeout=1800)
    command = [DOCKER, "run", "--rm", "-v", f"{tmp_path}:/photos", "g2s-test"]
    subprocess.run([*command, "reconstruct", "face.png", "--preset", "instant", "-o", "out"], check=True, timeout=1200)
    assert (tmp_path / "out" / "mesh.glb").read_bytes().startswith(b"glTF")
