"""MTCNN weights from the PyPI package `mtcnn`, read without running code of the package or of its pickles.

The files are LZ4-compressed joblib pickles: a list of array headers, each followed by padding and raw values.
"""

from __future__ import annotations

import importlib.util
import io
import math
import pickle
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import lz4.frame
import numpy as np
import torch
from jaxtyping import Float

from g2s_cli.errors import WeightsError
from g2s_cli.photo.mtcnn import CascadeNet, output_net, proposal_net, refine_net

REINSTALL = "Install it again: pip install --force-reinstall --no-deps mtcnn"


@cache
def load_mtcnn() -> tuple[CascadeNet, CascadeNet, CascadeNet]:
    """P-Net, R-Net and O-Net with their weights.

    Raises:
        WeightsError: the package is not installed, or its files are damaged or name other objects than arrays.
    """
    package = importlib.util.find_spec("mtcnn")
    if package is None or package.origin is None:
        raise WeightsError("The face detector's weights, the package mtcnn, are not installed.", REINSTALL)
    folder = Path(package.origin).parent / "assets" / "weights"
    networks = (proposal_net(), refine_net(), output_net())
    try:
        for network, name in zip(networks, ("pnet", "rnet", "onet"), strict=True):
            arrays = read_arrays(lz4.frame.decompress((folder / f"{name}.lz4").read_bytes()))
            network.load_arrays([torch.from_numpy(array) for array in arrays])
    except Exception as error:  # an unpickler raises whatever a damaged file leads to
        raise WeightsError(f"The face detector's weights in {folder} are damaged.", REINSTALL) from error
    return networks


def read_arrays(data: bytes) -> list[Float[np.ndarray, ...]]:
    """The float32 arrays of a joblib pickle.

    Raises:
        Exception: the pickle is damaged or holds other objects; none of its code is run.
    """
    arrays = _Unpickler(io.BytesIO(data)).load()
    if not isinstance(arrays, list) or not all(isinstance(array, np.ndarray) for array in arrays):
        raise pickle.UnpicklingError("no list of arrays")
    return arrays


class _Record:
    """Stand-in for joblib's array headers and for numpy.dtype."""

    state: Any = None

    def __init__(self, *args: Any) -> None:
        self.args = args


def _build(unpickler: Any) -> None:
    """The opcode BUILD. An array's header is replaced by the values that follow it in the file."""
    state, record = unpickler.stack.pop(), unpickler.stack[-1]
    if not isinstance(record, _Record):
        raise pickle.UnpicklingError("state of another object than an array")
    record.state = state
    if isinstance(state, dict):
        unpickler.stack[-1] = _read_values(unpickler.file, **state)


def _read_values(file: io.BytesIO, shape: Any, order: Any, dtype: Any, **_: Any) -> Float[np.ndarray, ...]:
    if (order, dtype.args[0], dtype.state[1]) != ("C", "f4", "<"):
        raise pickle.UnpicklingError("another layout than float32 in C order")
    file.read(file.read(1)[0])  # padding, preceded by its length
    return np.frombuffer(bytearray(file.read(4 * math.prod(shape))), "<f4").reshape(shape)


class _Unpickler(pickle._Unpickler):
    """An unpickler that creates arrays and records only.

    It is Python's implementation: C's lets a file allocate any amount of memory by numbering its objects.
    """

    dispatch: ClassVar = {**pickle._Unpickler.dispatch, pickle.BUILD[0]: _build}

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self.file = file

    def find_class(self, module: str, name: str, /) -> type:
        """A stand-in for the globals of array pickles; any other global is refused."""
        if f"{module}.{name}" not in ("joblib.numpy_pickle.NumpyArrayWrapper", "numpy.ndarray", "numpy.dtype"):
            raise pickle.UnpicklingError(f"{module}.{name} is no part of an array")
        return _Record
