"""What ONNX Runtime really runs: the graph after its own optimizations."""

from __future__ import annotations

import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toolkit.engines.errors import EngineBuildError
from toolkit.engines.ort import first_line, session_options
from toolkit.engines.settings import RunSettings
from toolkit.optional import require

INTEGER_OPERATORS = ("QLinearConv", "QLinearMatMul", "QGemm", "QLinearAdd", "ConvInteger", "MatMulInteger")
FLOAT_CONVOLUTIONS = ("Conv", "FusedConv", "NhwcFusedConv")


@dataclass(frozen=True)
class GraphReport:
    """Operators of an optimized graph.

    Attributes:
        operators: how many of each, as ONNX Runtime runs them.
        integer_convolutions: run on int8 (QLinearConv, in either layout).
        float_convolutions: run on floats.
    """

    operators: dict[str, int]
    integer_convolutions: int
    float_convolutions: int

    @property
    def runs_as_integers(self) -> bool:
        """Whether at least one convolution, and more than half of them, run on integers."""
        return self.integer_convolutions > self.float_convolutions


def inspect_onnx(model: bytes, settings: RunSettings | None = None) -> GraphReport:
    """Optimize a model as a session would, and count what comes out.

    Args:
        model: the file's bytes.
        settings: as the engine is run.
    """
    operators = Counter(node.op_type for node in optimized(model, settings or RunSettings()).graph.node)
    return GraphReport(
        dict(sorted(operators.items())),
        operators["QLinearConv"],
        sum(operators[name] for name in FLOAT_CONVOLUTIONS),
    )


def optimized(model: bytes, settings: RunSettings) -> Any:
    """The model as a session runs it, after ONNX Runtime's own optimizations.

    Raises:
        EngineBuildError: ONNX Runtime refuses the model.
    """
    runtime, onnx = require("onnxruntime", "host"), require("onnx", "host")
    options = session_options(settings)
    with tempfile.TemporaryDirectory(prefix="patrol-edge-") as work:
        path = Path(work) / "optimized.onnx"
        options.optimized_model_filepath = str(path)
        try:
            runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's exceptions share no base class
            raise EngineBuildError(f"ONNX Runtime refuses the model: {first_line(error)}") from error
        return onnx.load(path)
