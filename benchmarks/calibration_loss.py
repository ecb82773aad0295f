"""What INT8 loses in mean average precision on the same queries, before and after fine-tuning."""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
import onnx

from benchmarks.calibration_run import Run
from calibration import CalibrationSettings, Quantized, quantize
from calibration.agreement import run_forms
from calibration.session import open_session, run_all
from toolkit.patrol.quantization import finetune_quantized
from toolkit.patrol.quantization_settings import QuantizationTraining
from toolkit.reid.bootstrap import paired_bootstrap

BATCH = 64
FORMS = ("a", "b", "cpu")


def losses(run: Run, network: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """One row per form, after calibration and after fine-tuning from it."""
    cloud = open_session(onnx.load(run.half(network, "cloud")), 0)
    pictures = run.batch(run.test)
    edge = onnx.load(run.half(network, "edge"))
    reference = run.ranking(cloud, run_all(open_session(edge, 0), pictures, BATCH)).per_query

    def rows(stage: str, result: Quantized, seconds: float, extra: dict[str, Any]) -> list[dict[str, Any]]:
        found = []
        forms = {name: result.forms[name] for name in FORMS}
        for form, codes in run_forms(forms, pictures, BATCH, 0).items():
            per_query = run.ranking(cloud, codes).per_query
            loss = paired_bootstrap(per_query.ap, reference.ap, reference.identity, 0)
            found.append(
                {
                    "network": network, "stage": stage, "form": form, "seconds": seconds, "queries": loss.queries,
                    "fp32_map": float(np.mean(reference.ap)), "loss": loss.value, "low": loss.low,
                    "high": loss.high, "at_most": loss.at_most, "sqnr_db": result.fidelity[form].sqnr_db, **extra,
                }
            )  # fmt: skip
        return found

    started = time.perf_counter()
    batches = [run.batch(run.chosen(max(options.counts)))]
    result = quantize(edge, batches, CalibrationSettings(threads=options.threads))
    table = rows("post-training", result, time.perf_counter() - started, {})
    if options.finetune_epochs:
        started = time.perf_counter()
        settings = QuantizationTraining()
        settings = settings.model_copy(
            update={"train": settings.train.model_copy(update={"epochs": options.finetune_epochs})}
        )
        tuned = finetune_quantized(result, run.training_data(), settings, run.network(network))
        extra = {"errors": tuned.errors, "best": tuned.best, "agreement": tuned.agreement}
        table += rows("fine-tuned", tuned.quantized, time.perf_counter() - started, extra)
    return table
