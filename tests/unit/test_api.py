"""What `import g2s_cli` offers."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import g2s_cli


@pytest.mark.parametrize("name", sorted(set(g2s_cli.__all__) - {"__version__"}))
def test_every_public_name_exists_and_has_a_docstring(name: str) -> None:
    assert name in dir(g2s_cli)
    assert inspect.getdoc(getattr(g2s_cli, name))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'g2s_cli' has no attribute 'magic'"):
        _ = g2s_cli.magic


def test_the_package_is_typed_and_its_import_loads_no_torch() -> None:
    assert (Path(g2s_cli.__file__).parent / "py.typed").exists()
    code = "import g2s_cli, sys; dir(g2s_cli); g2s_cli.ReconstructOptions(); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
