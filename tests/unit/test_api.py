"""What `import g2s_cli` offers."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import g2s_cli


@pytest.mark.parametrize("name", sorted(set(g2s_cli.__all__) - {"__version__"}))
def test_every_name_is_there_and_says_what_it_is(name: str) -> None:
    assert name in dir(g2s_cli)
    assert inspect.getdoc(getattr(g2s_cli, name))


def test_there_is_nothing_else() -> None:
    with pytest.raises(AttributeError, match="'g2s_cli' has no attribute 'magic'"):
        _ = g2s_cli.magic


def test_it_has_types_and_loads_no_torch() -> None:
    assert (Path(g2s_cli.__file__).parent / "py.typed").exists()
    code = "import g2s_cli, sys; dir(g2s_cli); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
