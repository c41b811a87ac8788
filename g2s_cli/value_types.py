"""Whether values that come from a file are of the types that dataclasses state."""

from __future__ import annotations

import math
from dataclasses import fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

MAX_COUNT = 10**9
MAX_SHOWN = 60  # characters of a value in a message


def check_type(value: Any, kind: Any, name: str) -> None:
    """Raise TypeError, with its name, unless a value is of an annotated type, with all that is in it.

    Integers are counts, and floats are finite.
    """
    origin, inner = get_origin(kind), get_args(kind)
    if kind is Any:
        return
    if origin in (Union, UnionType):
        if value is None and NoneType in inner:
            return
        [kind] = [one for one in inner if one is not NoneType]
        check_type(value, kind, name)
        return
    if origin is Literal:
        fits = any(value is one or value == one for one in inner)
    elif origin is tuple:
        fits = isinstance(value, tuple) and (inner[1:] == (...,) or len(value) == len(inner))
        for index, one in enumerate(value if fits else ()):
            check_type(one, inner[0 if inner[1:] == (...,) else index], f"{name}[{index}]")
    elif origin is dict:
        fits = isinstance(value, dict)
        for key, one in value.items() if fits else ():
            check_type(one, inner[1], f"{name}.{key}".lstrip("."))
    elif isinstance(kind, type) and is_dataclass(kind):
        fits, hints = isinstance(value, kind), get_type_hints(kind)
        for one in fields(kind) if fits else ():
            check_type(getattr(value, one.name), hints[one.name], f"{name}.{one.name}".lstrip("."))
    elif kind is int:
        fits = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_COUNT
    elif kind is float:
        fits = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    else:
        fits = isinstance(value, kind)
    if not fits:
        wanted = "number" if kind is float else "count" if kind is int else getattr(kind, "__name__", str(kind))
        raise TypeError(f"{name} is {repr(value)[:MAX_SHOWN]}, no {wanted}")
