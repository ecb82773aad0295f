"""Stage ``quantize``: calibrated INT8 forms of the edge half that is deployed."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from calibration.settings import Form
from toolkit.errors import ModelError
from toolkit.preprocess import to_input
from toolkit.runs import text_sha256
from toolkit.stages.base import Context, Stage
from toolkit.stages.data import RunData
from toolkit.stages.development import Development
from toolkit.stages.export import EDGE, batches_of, exported, networks_of
from toolkit.stages.quantize_loss import measure_layers, reduce_loss

if TYPE_CHECKING:
    from calibration import Quantized

FORMS: tuple[Form, ...] = ("a", "b", "cpu")
BATCH = 16
SENSITIVITY = "sensitivity.json"
LEAST_DRIFT, MOST_DRIFT = 4, 256
logger = logging.getLogger(__name__)


def _pictures_sha256(data: RunData, rows: np.ndarray) -> str:
    """Of the pictures' bytes, in order; never all of them in memory."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(np.ascontiguousarray(data.pictures[row]).tobytes())
    return digest.hexdigest()


class QuantizeStage(Stage):
    """Q/DQ networks for TensorRT 8.x (a), strongly typed TensorRT (b) and ONNX Runtime (cpu)."""

    name = "quantize"
    version = 4
    sections = ("quantize", "devices")
    inputs = ("data", "slim", "export")

    def run(self, context: Context) -> None:
        from calibration import (
            acceptance,
            coverage,
            lint,
            quantize,
            refusals,
            refuse_unreal,
            write_cache,
            write_picture_list,
        )

        data = RunData.load(context)
        rows = data.rows["calibration"]
        refuse_unreal(data.pictures, rows=rows)
        names = [data.paths[row] for row in rows]
        options = context.settings.quantize
        settings = options.calibration(
            forms=tuple(dict.fromkeys((*FORMS, *options.forms))),
            pictures_hash=_pictures_sha256(data, rows),
            preprocess_hash=text_sha256(context.run.path("data", "preprocess.json").read_text(encoding="utf-8")),
            threads=context.settings.thread_count(),
        )
        write_picture_list(context.folder / "pictures.json", names)
        _, final = networks_of(context)
        development = Development(context, data, final, options.development)
        result = quantize(exported(context, final, EDGE), batches_of(data, rows, BATCH), settings)
        result = reduce_loss(context, data, final, result, development)
        self._drift(context, data, result)
        for form in result.forms:
            content = result.forms[form].SerializeToString(deterministic=True)
            (context.folder / f"edge.{form}.onnx").write_bytes(content)
        context.write_json("decisions.json", result.report())
        for scored in dict.fromkeys(("feature", *options.sensitivity)):
            name = SENSITIVITY if scored == "feature" else f"sensitivity.{scored}.json"
            context.write_json(name, asdict(measure_layers(result, scored, development)))
        write_cache(context.folder / "calibration.cache", result.cache)
        findings = {form: [asdict(item) for item in lint(result.forms[form], "efficiency")] for form in ("a", "b")}
        context.write_json("lint.json", findings)
        judged = acceptance({form: result.forms[form] for form in FORMS})
        context.write_json("acceptance.json", [asdict(row) for row in judged])
        if refused := refusals(judged):
            raise ModelError(f"form {refused[0].form} is refused by {refused[0].judge}: {refused[0].detail}")
        for pair, found in result.agreement.items():
            fields: dict[str, Any] = {"n": found.codes, "variant": final, "protocol": pair}
            context.measure("quantize.agreement", found.equal, **fields)
            context.measure("quantize.within_one_step", found.within_one, **fields)
        for form, fidelity in result.fidelity.items():
            fields = {"n": len(rows), "variant": final, "protocol": form}
            context.measure("quantize.coverage", coverage(result.forms[form]).share, **fields)
            context.measure("quantize.sqnr", fidelity.sqnr_db, unit="dB", **fields)
        context.summary.update(pictures=len(rows), findings=sum(len(lines) for lines in findings.values()))

    def _drift(self, context: Context, data: RunData, result: Quantized) -> None:
        """How far the calibration pictures lie from others that are not test, by the network's features."""
        from calibration import feature_drift, pooled_features

        rows = {name: data.rows[name] for name in ("calibration", "attacker_validation")}
        if min(len(part) for part in rows.values()) < LEAST_DRIFT:
            logger.warning("too few pictures to compare the calibration set with others")
            return
        features = []
        for part in rows.values():
            few = part[np.linspace(0, len(part) - 1, min(len(part), MOST_DRIFT)).astype(np.int64)]
            inputs = to_input(np.ascontiguousarray(data.pictures[few]))
            features.append(pooled_features(result.reference, inputs, BATCH, context.settings.thread_count()))
        drift = feature_drift(features[0], features[1], context.settings.seed)
        context.write_json("drift.json", asdict(drift))
        context.measure("quantize.drift", drift.distance, n=len(features[0]), protocol="energy coefficient")
