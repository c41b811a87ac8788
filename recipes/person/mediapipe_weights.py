"""The weights of MediaPipe's selfie segmentation (Apache-2.0) out of its TensorFlow Lite file."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float

# Axes of a kernel in TensorFlow Lite → PyTorch: convolution, depthwise and transposed convolution.
AXES = {"CONV_2D": (0, 3, 1, 2), "DEPTHWISE_CONV_2D": (3, 0, 1, 2), "Convolution2DTransposeBias": (3, 0, 1, 2)}
DTYPES = {0: np.float32, 1: np.float16, 2: np.int32}  # of TensorFlow Lite's TensorType


def read_selfie_segmentation(data: bytes) -> list[Float[np.ndarray, ...]]:
    """Kernels and biases in the order of the graph, which is that of `PersonNet`'s parameters."""
    import tflite  # type: ignore[import-not-found,unused-ignore]  # noqa: PLC0415

    model = tflite.Model.GetRootAsModel(data, 0)
    graph = model.Subgraphs(0)
    names = {code: name for name, code in vars(tflite.BuiltinOperator).items() if isinstance(code, int)}
    values: dict[int, Any] = {}
    weights = []
    for index in range(graph.OperatorsLength()):
        operator = graph.Operators(index)
        code = model.OperatorCodes(operator.OpcodeIndex())
        name = names[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())]
        name = code.CustomCode().decode() if name == "CUSTOM" else name
        inputs = operator.InputsAsNumpy()
        if name == "DEQUANTIZE":
            tensor = graph.Tensors(inputs[0])
            array = model.Buffers(tensor.Buffer()).DataAsNumpy().view(DTYPES[tensor.Type()])
            values[operator.OutputsAsNumpy()[0]] = array.reshape(tensor.ShapeAsNumpy()).astype(np.float32)
        elif name in AXES:
            weights += [values[inputs[1]].transpose(AXES[name]), values[inputs[2]]]
    return weights
