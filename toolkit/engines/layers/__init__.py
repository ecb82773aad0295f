"""What an engine really runs: its layers as a table, a drawing, a lint and a difference of two engines.

Reads the engine inspector's JSON of TensorRT 8.5 to 11, trtexec's ``--exportLayerInfo``, the builder's log, and
ONNX Runtime's optimized graph. Needs the standard library only; ONNX files also need onnx and onnxruntime.
"""

from toolkit.engines.layers.difference import Difference, Pair, compare_graphs
from toolkit.engines.layers.drawing import draw
from toolkit.engines.layers.files import layers_path, read_graph
from toolkit.engines.layers.graph import EngineGraph, EngineLayer, EngineTensor, LayerInfoError
from toolkit.engines.layers.lint import Finding, lint_layers
from toolkit.engines.layers.schemas import parse_information
from toolkit.engines.layers.table import rows, to_text

__all__ = [
    "Difference",
    "EngineGraph",
    "EngineLayer",
    "EngineTensor",
    "Finding",
    "LayerInfoError",
    "Pair",
    "compare_graphs",
    "draw",
    "layers_path",
    "lint_layers",
    "parse_information",
    "read_graph",
    "rows",
    "to_text",
]
