"""First look at a GPU host: driver, TensorRT, a small network built and run. Writes probe.json into a folder."""

from __future__ import annotations

import json
import platform
import sys
import traceback
from pathlib import Path
from typing import Any

from toolkit.engines import BuildSettings, build_engine, open_engine, probe
from toolkit.engines.driver import driver_problem, list_gpus
from toolkit.profiling.telemetry import open_telemetry


def main() -> None:
    """Every fact by itself, so that one that fails hides no other."""
    out, models = Path(sys.argv[1]), Path(sys.argv[2])
    out.mkdir(parents=True, exist_ok=True)
    body: dict[str, Any] = {"python": sys.version, "platform": platform.platform()}
    body["driver_problem"] = driver_problem()
    body["gpus"] = [vars(gpu) for gpu in list_gpus()]
    body["engines"] = [vars(status) for status in probe()]
    kind: Any = next((one.engine for one in probe() if one.engine.startswith("tensorrt") and one.can_run), None)
    steps = {"telemetry": _telemetry, "green_contexts": _green, "first_engine": lambda: _first(kind, models, out)}
    for name, step in steps.items():
        try:
            body[name] = step()
        except Exception:
            body[name] = traceback.format_exc()[-1500:]
        (out / "probe.json").write_text(json.dumps(body, indent=1, default=str) + "\n", encoding="utf-8")
    print(json.dumps(body, indent=1, default=str))


def _telemetry() -> Any:
    telemetry = open_telemetry("GPU")
    return vars(telemetry.read()) if telemetry is not None else None


def _green() -> Any:
    from toolkit.engines import driver_calls
    from toolkit.engines.emulation import CALLS, GreenContext

    if not driver_calls.has(*CALLS):
        return "the driver has none"
    found = {}
    for wanted in (4, 8, 14, 16):
        try:
            with GreenContext(0, wanted) as partition:
                found[wanted] = partition.sms
        except Exception as error:
            found[wanted] = str(error)
    return found


def _first(kind: Any, models: Path, out: Path) -> Any:
    if kind is None:
        return "no TensorRT runs here"
    from toolkit.profiling.pair import noise

    table = json.loads((models / "models.json").read_text(encoding="utf-8"))
    step = table["float"]["step"]
    found = {}
    for precision in ("fp32", "fp16"):
        settings = BuildSettings(engine=kind, precision=precision, tactics="no_external", wire_step=step)  # type: ignore[arg-type]
        built = build_engine(models / "float.onnx", out / f"first-{precision}.plan", settings)
        engine = open_engine(built.path)
        result = engine.run(noise(engine, 2))["wire"]
        engine.close()
        found[precision] = {"build_s": built.sidecar.build_s, "wire": str(result.dtype), "shape": result.shape}
    return found


if __name__ == "__main__":
    main()
