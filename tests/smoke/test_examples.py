"""The examples and commands of README and examples/ run as they are written."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from g2s_cli.app import app

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_python_api_in_three_lines(tmp_path: Path) -> None:
    script = [sys.executable, ROOT / "examples" / "three_lines.py", ROOT / "examples" / "face.png", tmp_path / "out"]
    alone = os.environ | {"OMP_NUM_THREADS": "1"}
    stdout = subprocess.run(script, env=alone, capture_output=True, text=True, timeout=300, check=True).stdout
    assert "2 turned, 2 lit pictures of torch.Size([3, " in stdout
    assert (tmp_path / "out" / "mesh.glb").is_file()


@pytest.mark.parametrize("page", ["README.md", "examples/README.md"])
def test_every_flag_on_the_page_is_in_its_commands_help(page: str) -> None:
    blocks = "".join((ROOT / page).read_text().split("```")[1::2])
    lines = [line.split("#")[0] for line in blocks.splitlines() if line.startswith("g2s ")]
    commands = [command.split() for line in lines for command in line.split("&&")]
    assert len(commands) >= 4
    runner = CliRunner(env={"COLUMNS": "200"})
    for command in commands:
        verb = command[1 : 3 if command[1] == "weights" else 2]
        answer = runner.invoke(app, [*verb, "--help"])
        assert answer.exit_code == 0, answer.output
        options = [word.split("=")[0] for word in command if word.startswith("--")]
        assert not [option for option in options if option not in answer.output]
