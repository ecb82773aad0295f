"""The stages in their order. Importing this is light; :func:`all_stages` imports what they need."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from toolkit.stages.base import Stage

ORDER = (
    "data",
    "train",
    "slim",
    "export",
    "quantize",
    "build",
    "profile",
    "attack",
    "evaluate",
    "report",
    "check",
)
SUMMARIES = {
    "data": "read the data set, split it by identity, decode every picture once",
    "train": "train the dense network, then PATROL",
    "slim": "remove the masked channels for real and fine-tune what is left",
    "export": "write ONNX halves and compare them with PyTorch on real pictures",
    "quantize": "calibrate on training pictures and write the INT8 forms",
    "build": "build the engines and run every picture through them",
    "profile": "measure latency of all variants in one interleaved run, memory and sizes",
    "attack": "attack the codes of every variant with freshly trained decoders",
    "evaluate": "measure re-identification of edge engine, frames and cloud half",
    "report": "write the report",
    "check": "hold the metrics against the limits",
}


def all_stages() -> list[Stage]:
    """One object per stage, in order."""
    stages = []
    for name in ORDER:
        module = importlib.import_module(f"toolkit.stages.{name}")
        stages.append(getattr(module, f"{name.capitalize()}Stage")())
    return stages
