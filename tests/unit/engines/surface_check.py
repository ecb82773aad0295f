"""Which names of the TensorRT module the backend uses, read from its source, and whether a version has them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Names under which the backend's source holds TensorRT's objects.
VARIABLES = {
    "builder": "Builder",
    "config": "IBuilderConfig",
    "network": "INetworkDefinition",
    "parser": "OnnxParser",
    "error": "ParserError",
    "profile": "IOptimizationProfile",
    "engine": "ICudaEngine",
    "_engine": "ICudaEngine",
    "context": "IExecutionContext",
    "_context": "IExecutionContext",
    "_runtime": "Runtime",
    "cache": "ITimingCache",
    "tensor": "ITensor",
    "codes": "ITensor",
    "restored": "ITensor",
    "layer": "ILayer",
    "inspector": "EngineInspector",
    "runtime": "Runtime",
    "changer": "Refitter",
    "reader": "OnnxParserRefitter",
}
# Names that came with the class that is asked for.
TOGETHER = {
    "hardware_compatibility_level": "HardwareCompatibilityLevel",
    "node_operator": "node_name",
    "refit_cuda_engine": "OnnxParserRefitter",
}
NOT_TENSORRT = {"__members__", "__version__"}


@dataclass(frozen=True)
class Use:
    """One name that one function uses: of the module (``owner`` empty), of a class or of an enumeration."""

    owner: str
    name: str
    guarded: bool
    place: str


def uses(path: Path) -> Iterator[Use]:
    """Every use of a TensorRT name in a source file."""
    for function in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(function, ast.FunctionDef):
            yield from _in_function(function, path.name)


def _in_function(function: ast.FunctionDef, file: str) -> Iterator[Use]:
    asked = {
        node.args[1].value
        for node in ast.walk(function)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in ("hasattr", "getattr")
        and isinstance(node.args[1], ast.Constant)
    }
    aliases = dict(_aliases(function))
    for node in ast.walk(function):
        if not isinstance(node, ast.Attribute) or node.attr in NOT_TENSORRT:
            continue
        owner = _owner(node.value, aliases)
        if owner is not None:
            guarded = node.attr in asked or owner in asked or TOGETHER.get(node.attr) in asked
            yield Use(owner, node.attr, guarded, f"{file}:{node.lineno}")


def _aliases(function: ast.FunctionDef) -> Iterator[tuple[str, str]]:
    for node in ast.walk(function):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and _is_module(node.value):
            yield node.targets[0].id, node.value.attr  # type: ignore[attr-defined]


def _is_module(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "trt"


def _owner(node: ast.AST, aliases: dict[str, str]) -> str | None:
    if isinstance(node, ast.Name):
        if node.id == "trt":
            return ""
        return aliases.get(node.id) or VARIABLES.get(node.id)
    if _is_module(node):
        return node.attr  # type: ignore[attr-defined]
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self":
        return VARIABLES.get(node.attr)
    return None


def has(surface: dict[str, Any], use: Use) -> bool:
    """Whether a recorded version has the name."""
    if not use.owner:
        return use.name in surface["names"]
    kind = surface["classes"].get(use.owner)
    if kind is None:
        return False
    return use.name in kind.get("members", ()) or use.name in kind.get("attributes", ())
