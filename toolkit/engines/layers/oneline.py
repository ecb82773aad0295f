"""The text form of layer information, as TensorRT 10 and 11 print it into the builder's log, as JSON's values.

``Name: x, LayerType: kgen, Inputs: [ { Name: y, Dimensions: [1,3] }], ... Metadata: `` on a line for each layer.
A build without a GPU (TensorRT-RTX) cannot be asked by an inspector, but says this in its log.
"""

from __future__ import annotations

import re
from typing import Any

BEGIN = "Layers:"
_PAIR = re.compile(r"([A-Z][\w/]*): ")


def from_log(message: str) -> dict[str, Any] | None:
    """The values of the inspector's JSON, or None when a message of the log holds no layers."""
    head, _, rest = message.partition("\n")
    if head.strip() != BEGIN:
        return None
    layers, _, tail = rest.partition("\nI/O Tensors:")
    tensors = tail.partition("\nEngine Metadata:")[0]
    found: dict[str, Any] = {"Layers": [_line(text) for text in _lines(layers)]}
    if tail:
        found["I/O Tensors"] = [_line(text) for text in _lines(tensors)]
    else:
        found["Bindings"] = []
    return found


def _lines(text: str) -> list[str]:
    # Not splitlines: ONNX names are joined with 0x1e, which that takes for the end of a line.
    return [line.strip() for line in text.split("\n") if line.strip().startswith("Name: ")]


def _line(text: str) -> dict[str, Any]:
    """Top-level ``Key: value`` pairs. A name may hold anything but ``, Key: `` and may not be bracketed."""
    starts, depth = [], 0
    matches = {match.start(): match for match in _PAIR.finditer(text)}
    for index, character in enumerate(text):
        if character in "[{":
            depth += 1
        elif character in "]}":
            depth = max(depth - 1, 0)
        elif depth == 0 and index in matches and (index == 0 or text[index - 2 : index] == ", "):
            starts.append(matches[index])
    pairs = zip(starts, [*(match.start() for match in starts[1:]), len(text) + 2], strict=True)
    return {match.group(1): _value(text[match.end() : end - 2].strip()) for match, end in pairs}


def _value(text: str) -> Any:
    if text.startswith("[") and text.endswith("]") and not text.startswith("[ONNX"):
        inside = text[1:-1].strip()
        if not inside:
            return []
        if inside.startswith("{"):
            return [_line(part) for part in _objects(inside)]
        parts = [part.strip() for part in inside.split(",")]
        return [int(part) if part.lstrip("-").isdigit() else part for part in parts]
    return text


def _objects(text: str) -> list[str]:
    """Contents of ``{ ... }, { ... }``."""
    found, depth, start = [], 0, 0
    for index, character in enumerate(text):
        if character == "{":
            depth += 1
            if depth == 1:
                start = index + 1
        elif character == "}":
            depth -= 1
            if depth == 0:
                found.append(text[start:index].strip())
    return found
