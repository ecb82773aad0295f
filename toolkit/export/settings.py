"""Options of the export."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

OPSET = 17
"""The newest opset that TensorRT 8.5 to 11 all read with float32 Q/DQ scales."""
IR_VERSION = 8
EMBEDDING_BITS = 8
"""Of the wire of a whole network."""


class ExportSettings(BaseModel):
    """How the halves are written.

    Attributes:
        picture_input: ``nchw_float32`` (RGB in [0, 1]) or ``nhwc_uint8`` (what a decoder gives).
        simplify: run onnxsim in a process of its own; its result is taken only when it is equal in parity.
        simplify_timeout_s: seconds after which the unsimplified graph is kept.
        parity_batch: pictures per forward pass of the parity check.
        max_relative_difference: of ONNX Runtime to PyTorch, relative to the largest value; more is an error.
        whole: also export the final network as a whole, with the embedding on the wire: the row that tells what
            the split costs in privacy and saves on the device.
        min_code_agreement: share of codes that must be equal to PyTorch's; less is an error.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    picture_input: Literal["nchw_float32", "nhwc_uint8"] = "nchw_float32"
    simplify: Literal["onnxsim", "off"] = "onnxsim"
    simplify_timeout_s: float = Field(default=120.0, gt=0)
    parity_batch: int = Field(default=16, ge=1)
    max_relative_difference: float = Field(default=1e-4, gt=0)
    whole: bool = True
    min_code_agreement: float = Field(default=0.999, gt=0, le=1)
