"""A category's model.toml as plain data: read, change, write."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from g2s_cli.files import atomic_write

MODEL_TOML, README = "model.toml", "README.md"


def read_model_toml(folder: Path) -> dict[str, Any]:
    """The content of a category's model.toml."""
    return tomllib.loads((folder / MODEL_TOML).read_text(encoding="utf-8"))


def derived_model_toml(folder: Path) -> dict[str, Any]:
    """A category's model.toml for one like it with files of its own: without files, and where they come from."""
    return {key: value for key, value in read_model_toml(folder).items() if key not in ("release", "hub", "weights")}


def write_model_toml(folder: Path, data: Mapping[str, Any]) -> None:
    """Write a category's model.toml atomically."""
    with atomic_write(folder / MODEL_TOML) as temporary:
        temporary.write_text("\n".join(_table(data, "")).lstrip() + "\n", encoding="utf-8")


def set_file(data: dict[str, Any], part: str, file: str, sha256: str, gan_sha256: str = "") -> None:
    """State a part's file and hash in the [weights] of a model.toml.

    Args:
        gan_sha256: of networks, the hash of the GAN's file that they were trained with.
    """
    entry = data.setdefault("weights", {}).setdefault(part, {})
    entry.pop("gan_sha256", None)
    entry |= {"file": file, "sha256": sha256} | ({"gan_sha256": gan_sha256} if gan_sha256 else {})


def _table(table: Mapping[str, Any], name: str) -> Iterator[str]:
    """The lines of a TOML table and the tables in it."""
    values = {key: value for key, value in table.items() if not isinstance(value, dict)}
    if name and (values or not table):
        yield f"\n[{name}]"
    for key, value in values.items():
        yield f"{_key(key)} = {_value(value)}"
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _table(value, f"{name}.{_key(key)}" if name else _key(key))


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _value(key)


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_key(key)} = {_value(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_value, value)) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    # TOML's basic strings are JSON's, except that they escape DEL; numbers and dates are written as Python's.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f") if isinstance(value, str) else str(value)
