"""From a network to two ONNX halves that meet at the wire."""

from toolkit.export.cutting import Cut, cut_model, find_cuts
from toolkit.export.foreign import ForeignResult, check_onnx, split_onnx
from toolkit.export.halves import ExportResult, SplitNet, export_halves
from toolkit.export.parity import ParityStep
from toolkit.export.private_noise import attach_private_noise
from toolkit.export.settings import ExportSettings
from toolkit.export.wire_ends import attach_cloud_wire, attach_edge_wire

__all__ = [
    "Cut",
    "ExportResult",
    "ExportSettings",
    "ForeignResult",
    "ParityStep",
    "SplitNet",
    "attach_cloud_wire",
    "attach_edge_wire",
    "attach_private_noise",
    "check_onnx",
    "cut_model",
    "export_halves",
    "find_cuts",
    "split_onnx",
]
