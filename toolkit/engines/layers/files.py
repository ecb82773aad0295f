"""Layer information on the disk: ``<engine>.layers.json`` beside an engine, trtexec's files, ONNX files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from toolkit.engines.layers.graph import EngineGraph, LayerInfoError
from toolkit.engines.layers.schemas import parse_information


def layers_path(engine: Path) -> Path:
    """``<engine file>.layers.json``."""
    return engine.with_name(engine.name + ".layers.json")


def write_information(engine: Path, information: Mapping[str, Any]) -> Path:
    """Write it beside the engine, atomically; returns its path."""
    path = layers_path(engine)
    temporary = path.with_name(path.name + ".part")
    temporary.write_text(json.dumps(information, indent=1) + "\n", encoding="utf-8")
    temporary.replace(path)
    return path


def read_graph(path: Path) -> EngineGraph:
    """The layers of an engine file, of an inspector's or trtexec's JSON, or of an ONNX model in ONNX Runtime.

    Raises:
        LayerInfoError: there is no such file, or nothing is known of its layers.
        EngineBuildError: ONNX Runtime refuses the model.
    """
    if not path.is_file():
        raise LayerInfoError(f"there is no file {path}")
    if path.suffix == ".json":
        return parse_information(_text(path))
    if layers_path(path).is_file():
        return parse_information(_text(layers_path(path)))
    if path.suffix == ".onnx":
        from toolkit.engines.layers.runtime import graph_of_onnx

        return graph_of_onnx(path.read_bytes())
    raise LayerInfoError(
        f"{layers_path(path).name} is not beside {path}; build the engine again, or give its JSON"
    )


def read_times(path: Path) -> dict[str, float]:
    """Median milliseconds by layer name, from trtexec's ``--exportProfile`` or ``{name: ms}``.

    Raises:
        LayerInfoError: neither of them.
    """
    try:
        body = json.loads(_text(path), strict=False)
        if isinstance(body, Mapping):
            return {str(name): float(value) for name, value in body.items()}
        rows = [row for row in body if isinstance(row, Mapping) and "name" in row]
        return {str(row["name"]): float(row.get("medianMs", row.get("averageMs"))) for row in rows}
    except (ValueError, TypeError) as error:
        raise LayerInfoError(f"{path} holds no times of layers ({error})") from error


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise LayerInfoError(f"cannot read {path}: {error.strerror}") from error
