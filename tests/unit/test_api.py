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


def test_the_package_is_typed() -> None:
    assert (Path(g2s_cli.__file__).parent / "py.typed").exists()


@pytest.mark.parametrize(
    ("code", "library"),
    [
        ("import g2s_cli; dir(g2s_cli); g2s_cli.ReconstructOptions()", "torch"),
        ("import g2s_cli.result.page, g2s_cli.result.paste_back, g2s_cli.result.read", "trimesh"),
    ],
)
def test_a_library_that_is_not_needed_is_not_imported(code: str, library: str) -> None:
    """Each takes a second or more."""
    subprocess.run([sys.executable, "-c", f"{code}; import sys; assert '{library}' not in sys.modules"], check=True)
