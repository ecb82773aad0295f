"""Write down which names a TensorRT module has: the record that the backend is checked against.

    PYTHON-WITH-TENSORRT record_surface.py tensorrt tests/unit/engines/surfaces/tensorrt-8.6.0.json

Standard library only, Python 3.8 and later; needs no GPU. TensorRT 8 imports under Python 3.10 and earlier, with
stand-ins for cuBLAS and cuDNN (standins.py) in LD_LIBRARY_PATH. Of TensorRT 10 and 11 the bindings' wheel
(``pip download --no-deps tensorrt-cu12-bindings==10.3.0``, unpacked) is enough, as ``tensorrt_bindings``, with
stand-ins for TensorRT's own libraries.
"""

from __future__ import annotations

import argparse
import importlib
import json
import re
from pathlib import Path

CLASSES = (
    "Builder",
    "BuilderFlag",
    "DataType",
    "DeviceType",
    "Dims",
    "EngineInspector",
    "HardwareCompatibilityLevel",
    "IBuilderConfig",
    "ICudaEngine",
    "IDequantizeLayer",
    "IExecutionContext",
    "IHostMemory",
    "ILayer",
    "ILogger",
    "INetworkDefinition",
    "IOptimizationProfile",
    "IProfiler",
    "ITensor",
    "ITimingCache",
    "LayerInformationFormat",
    "MemoryPoolType",
    "NetworkDefinitionCreationFlag",
    "OnnxParser",
    "OnnxParserRefitter",
    "ParserError",
    "ProfilingVerbosity",
    "Refitter",
    "Runtime",
    "TacticSource",
    "TensorFormat",
    "TensorIOMode",
    "Weights",
)


def signature(member: object) -> str:
    """The first line of a pybind11 method's documentation, without the module's name; "" for a property."""
    text = (getattr(member, "__doc__", None) or "").strip()
    lines = text.splitlines()
    if not callable(member) or not lines:
        return ""
    overloads = [line.split(". ", 1)[1] for line in lines if re.match(r"\d+\. \w+\(", line.strip())]
    return " | ".join(re.sub(r"[\w.]*tensorrt\w*\.(\w)", r"\1", line.strip()) for line in overloads or lines[:1])


def describe(kind: type) -> dict[str, object]:
    """Members of an enumeration, or attributes of a class with their signatures."""
    members = getattr(kind, "__members__", None)
    if members is not None:
        return {"members": sorted(members)}
    names = [name for name in dir(kind) if not name.startswith("_")]
    return {"attributes": {name: signature(getattr(kind, name, None)) for name in sorted(names)}}


def record(module_name: str) -> dict[str, object]:
    """The module's surface."""
    module = importlib.import_module(module_name)
    classes = {}
    for name in CLASSES:
        kind = getattr(module, name, None)
        if kind is not None:
            classes[name] = describe(kind)
    names = sorted(name for name in dir(module) if not name.startswith(("_", "tensorrt")))
    kind = module_name.replace("_bindings", "")
    return {"module": kind, "version": module.__version__, "names": names, "classes": classes}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("module", choices=("tensorrt", "tensorrt_bindings", "tensorrt_rtx"))
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    options.out.write_text(json.dumps(record(options.module), indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
