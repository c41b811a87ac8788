"""The examples and commands of README and examples/ run as they are written."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from g2s_cli.app import app

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "examples" / "first_steps.ipynb"


@pytest.mark.slow
def test_the_python_api_in_three_lines(tmp_path: Path) -> None:
    script = [sys.executable, ROOT / "examples" / "three_lines.py", ROOT / "examples" / "face.png", tmp_path / "out"]
    alone = os.environ | {"OMP_NUM_THREADS": "1"}
    stdout = subprocess.run(script, env=alone, capture_output=True, text=True, timeout=300, check=True).stdout
    assert "2 turned, 2 lit pictures of torch.Size([3, " in stdout
    assert (tmp_path / "out" / "mesh.glb").is_file()


def cells_of(notebook: Path) -> list[dict[str, Any]]:
    return [cell for cell in json.loads(notebook.read_text())["cells"] if cell["cell_type"] == "code"]


def test_the_notebook_has_no_outputs_and_plain_python() -> None:
    cells = cells_of(NOTEBOOK)
    assert len(cells) > 3
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells)
    for cell in cells:
        ast.parse("".join(cell["source"]))


@pytest.mark.slow
def test_the_notebook_runs_from_top_to_bottom(tmp_path: Path) -> None:
    shutil.copy(ROOT / "examples" / "portrait.jpg", tmp_path)
    lines = ["".join(cell["source"]) for cell in cells_of(NOTEBOOK)]
    script = "\n".join([*lines, "sheet.save('sheet.png')"])
    alone = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, env=alone, cwd=tmp_path, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr
    assert "vertices" in done.stdout
    assert (tmp_path / "out-first-steps" / "mesh.glb").is_file()
    with Image.open(tmp_path / "sheet.png") as sheet:
        left, middle, right = (sheet.crop((256 * k, 0, 256 * k + 256, 256)) for k in range(3))
    assert left.tobytes() != middle.tobytes() != right.tobytes()


@cache
def help_of(*verb: str) -> str:
    answer = CliRunner(env={"COLUMNS": "200"}).invoke(app, [*verb, "--help"])
    assert answer.exit_code == 0, answer.output
    return answer.output


@pytest.mark.parametrize("page", ["README.md", "examples/README.md", "docs/guide.md"])
def test_every_flag_on_the_page_is_in_its_commands_help(page: str) -> None:
    parts = (ROOT / page).read_text().split("```")
    blocks, prose = "".join(parts[1::2]), "".join(parts[::2])
    lines = [line.split("#")[0] for line in blocks.splitlines() if line.startswith("g2s ")]
    lines += re.findall(r"(?<=`)g2s [a-z][^`]*(?=`)", prose)
    commands = [command.split() for line in lines for command in line.split("&&")]
    assert len(commands) >= 4
    for command in commands:
        text = help_of(*command[1 : 3 if command[1] == "weights" else 2])
        options = [word.split("=")[0] for word in command if word.startswith("--")]
        assert not [option for option in options if option not in text]
