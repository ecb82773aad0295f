"""The process in which :func:`toolkit.profiling.memory.measure_memory` opens and runs one engine."""

from __future__ import annotations

import gc
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from toolkit.device import memory_status, reset_peak
from toolkit.engines import open_engine
from toolkit.engines.base import TensorSpec
from toolkit.engines.settings import RunSettings
from toolkit.engines.sidecar import Sidecar
from toolkit.optional import require
from toolkit.profiling.memory import MARK
from toolkit.profiling.statistics import ProfilingError


def _child(order: dict[str, Any]) -> dict[str, Any]:
    require(order["engine"], "host")
    sidecar = Sidecar.load(Path(order["path"]))
    inputs = {}
    for values in sidecar.inputs:
        spec = TensorSpec(values["name"], values["dtype"], tuple(values["shape"]))
        shape = tuple(order["batch"] if side == -1 else side for side in spec.shape)
        inputs[spec.name] = np.zeros(shape, dtype=spec.dtype)
    gc.collect()
    try:
        reset_peak()
    except OSError as error:
        raise ProfilingError(f"the kernel's peak counter cannot be reset here ({error.strerror})") from error
    baseline = memory_status("VmRSS")
    engine = open_engine(Path(order["path"]), RunSettings.model_validate(order["settings"]))
    for _ in range(order["runs"]):
        engine.run(inputs)
    return {
        "peak_bytes": memory_status("VmHWM") - baseline,
        "resident_bytes": memory_status("VmRSS") - baseline,
        "baseline_bytes": baseline,
        "device_bytes": engine.describe().get("device_bytes"),
        "batch": order["batch"],
        "runs": order["runs"],
    }


if __name__ == "__main__":
    sys.stdout.write(MARK + json.dumps(_child(json.loads(sys.argv[1]))) + "\n")
