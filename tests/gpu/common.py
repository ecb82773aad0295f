"""What the GPU tests share."""

from toolkit.engines import BuildSettings, form_for

# Share of codes equal to ONNX Runtime's, and the largest difference in codes, for each precision.
BOUNDS = {"fp32": (0.99, 1), "fp16": (0.90, 2), "int8": (0.85, 3)}
NOISE = 1.5  # steps of private noise
PRIVATE = "private-"  # before the name of the same model with private noise


def settings(kind, step, **changes):
    """Without cuBLAS and cuDNN, which a host without internet has not."""
    return BuildSettings(engine=kind, tactics="no_external", max_batch=16, wire_step=step, **changes)


def sources(kind):
    """Prepared model of each precision."""
    weak = form_for(kind) == "a"
    return {"fp32": "float", "fp16": "float" if weak else "fp16", "int8": form_for(kind)}
