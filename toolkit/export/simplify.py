"""onnxsim, in a process of its own: a crash or a hang there must not take the run with it."""

from __future__ import annotations

import logging
import subprocess
import sys
import tempfile
from pathlib import Path

import onnx

from toolkit.export.tidy import plain, to_bytes

logger = logging.getLogger(__name__)
_SCRIPT = """
import sys
import onnx, onnxsim
model, valid = onnxsim.simplify(onnx.load(sys.argv[1]), check_n=0)
if not valid:
    sys.exit(3)
with open(sys.argv[2], "wb") as file:
    file.write(model.SerializeToString(deterministic=True))
"""


def simplify(model: onnx.ModelProto, timeout_s: float) -> tuple[onnx.ModelProto | None, str]:
    """The simplified model, or None and the reason why there is none.

    Args:
        model: any model under 2 GB.
        timeout_s: after which the process is ended.
    """
    with tempfile.TemporaryDirectory(prefix="patrol-edge-") as work:
        source, target = Path(work) / "in.onnx", Path(work) / "out.onnx"
        source.write_bytes(to_bytes(model))
        command = [sys.executable, "-c", _SCRIPT, str(source), str(target)]
        try:
            done = subprocess.run(command, timeout=timeout_s, capture_output=True, text=True, check=False)
        except subprocess.TimeoutExpired:
            return None, f"onnxsim took longer than {timeout_s:g} s"
        if done.returncode != 0 or not target.is_file():
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            return None, f"onnxsim ended with code {done.returncode}: {last}"
        try:
            result = onnx.load_from_string(target.read_bytes())
            plain(result)
            onnx.checker.check_model(result)
        except (onnx.checker.ValidationError, ValueError) as error:
            return None, f"onnxsim wrote an invalid model: {error}"
        return result, "simplified"
