"""Stage ``quantize``: calibrated INT8 forms of the edge half that is deployed."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import replace

import numpy as np

from toolkit.runs import text_sha256
from toolkit.stages.base import Context, Stage
from toolkit.stages.data import RunData
from toolkit.stages.export import EDGE, batches_of, exported, networks_of

logger = logging.getLogger(__name__)
FORMS = ("a", "b", "cpu")
BATCH = 16


class QuantizeStage(Stage):
    """Q/DQ networks for TensorRT 8.x (a), strongly typed TensorRT (b) and ONNX Runtime (cpu)."""

    name = "quantize"
    version = 1
    sections = ("quantize",)
    inputs = ("data", "export")

    def run(self, context: Context) -> None:
        from calibration import lint, quantize, refuse_unreal

        data = RunData.load(context)
        rows = data.rows["calibration"]
        pictures = np.ascontiguousarray(data.pictures[rows])
        refuse_unreal(pictures)
        names = [data.paths[row] for row in rows]
        settings = replace(
            context.settings.quantize,
            pictures_hash=hashlib.sha256(pictures.tobytes()).hexdigest(),
            preprocess_hash=text_sha256(context.run.path("data", "preprocess.json").read_text(encoding="utf-8")),
            threads=context.settings.thread_count(),
        )
        context.write_json("pictures.json", {"pictures": names, "sha256": settings.pictures_hash})
        _, final = networks_of(context)
        result = quantize(exported(context, final, EDGE), batches_of(data, rows, BATCH), settings)
        for form in FORMS:
            (context.folder / f"edge.{form}.onnx").write_bytes(result.forms[form].SerializeToString(deterministic=True))
        context.write_json("decisions.json", result.report())
        (context.folder / "calibration.cache").write_text(result.cache.to_text(), encoding="utf-8")
        findings = {form: [str(finding) for finding in lint(result.forms[form], form)] for form in FORMS}
        context.write_json("lint.json", findings)
        for pair, agreement in result.agreement.items():
            logger.info("codes of %s agree: %s", pair, agreement)
        context.summary.update(pictures=len(rows), findings=sum(len(lines) for lines in findings.values()))
