"""One way to open ONNX Runtime on the CPU."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime

from calibration.errors import UnsupportedOperatorError


def open_session(
    model: onnx.ModelProto, threads: int, *, integer_kernels: bool = True
) -> onnxruntime.InferenceSession:
    """A CPU session.

    Args:
        model: to run.
        threads: inside operators; 0 lets ONNX Runtime choose.
        integer_kernels: False keeps Q/DQ as written (float arithmetic between them), so that the result is
            what the network means and not what this runtime makes of it.

    Raises:
        UnsupportedOperatorError: ONNX Runtime refuses the model.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if not integer_kernels:
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    try:
        return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions share no public base class
        reason = str(error).strip().splitlines()[0]
        raise UnsupportedOperatorError(f"ONNX Runtime refuses the model: {reason}") from error


def run_all(session: onnxruntime.InferenceSession, pictures: np.ndarray, batch: int) -> np.ndarray:
    """The only output for all pictures, ``batch`` at a time."""
    [name] = [item.name for item in session.get_inputs()]
    parts = [session.run(None, {name: pictures[i : i + batch]})[0] for i in range(0, len(pictures), batch)]
    return np.concatenate(parts)
