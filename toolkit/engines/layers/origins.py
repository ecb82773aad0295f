"""Which node of the exported model a kernel of ONNX Runtime computes."""

from __future__ import annotations

import re
from typing import Any

_TOKEN = re.compile(r"_token_\d+$")
_SUFFIXES = ("_nchwc", "_quant", "_nhwc")
_PREFIXES = ("fused ",)
_ORIGINS = {
    "Conv": ("Conv",),
    "FusedConv": ("Conv",),
    "NhwcFusedConv": ("Conv",),
    "QLinearConv": ("Conv",),
    "Gemm": ("Gemm", "MatMul"),
    "FusedGemm": ("Gemm", "MatMul"),
    "QGemm": ("Gemm", "MatMul"),
    "FusedMatMul": ("MatMul",),
    "MatMulInteger": ("MatMul",),
    "QLinearMatMul": ("MatMul",),
    "QLinearAdd": ("Add",),
}


class Origins:
    """From a fused kernel back to the node, and so the module, that it computes.

    Args:
        graph: of the ONNX model as it was exported; its node names carry the module names.
    """

    def __init__(self, graph: Any) -> None:
        self._by_name = {node.name: node for node in graph.node if node.name}
        self._producer = {name: node for node in graph.node for name in node.output}

    def module(self, kernel: str, operator: str) -> str:
        """The module of a kernel, "" when it belongs to none."""
        return self.node(kernel, operator).rpartition("/")[0]

    def node(self, kernel: str, operator: str) -> str:
        """Name of the node that a kernel computes, "" when it computes none of the model's."""
        start = self._find(kernel)
        if start is None:
            return ""
        wanted = _ORIGINS.get(operator, (start.op_type,))
        # Fusion names a kernel after the last tensor of its chain: the convolution is a few nodes before it.
        level: list[Any] = [start]
        seen: set[int] = set()
        for _ in range(4):
            for candidate in level:
                if candidate.op_type in wanted:
                    return str(candidate.name)
            seen.update(id(candidate) for candidate in level)
            parents = [self._producer.get(name) for candidate in level for name in candidate.input]
            level = [parent for parent in parents if parent is not None and id(parent) not in seen]
        return str(start.name)

    def _find(self, name: str) -> Any | None:
        name = _TOKEN.sub("", name)
        for prefix in _PREFIXES:
            name = name.removeprefix(prefix)
        for suffix in ("", *_SUFFIXES):
            plain = name.removesuffix(suffix) if suffix else name
            found = self._by_name.get(plain) or self._producer.get(plain)
            if found is not None:
                return found
        return None
