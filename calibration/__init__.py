"""Post-training quantization of an edge half: pictures, observers, thresholds, Q/DQ placement, forms, lint.

Without onnx, as in a base install, only the errors and the settings are there.
"""

from importlib.util import find_spec

from calibration.errors import CalibrationError
from calibration.settings import CalibrationSettings

if find_spec("onnx") is not None:
    from calibration.acceptance import Acceptance, acceptance, refusals
    from calibration.cache import CalibrationCache, cache_key, read_cache, write_cache
    from calibration.drift import Drift, feature_drift, pooled_features
    from calibration.learned import learned
    from calibration.lint import Coverage, Finding, coverage, lint
    from calibration.pictures import (
        PictureLimits,
        choose_pictures,
        picture_list_hash,
        read_picture_list,
        refuse_unreal,
        write_picture_list,
    )
    from calibration.placement import Plan, place
    from calibration.prepare import Prepared, prepare
    from calibration.quantize import Quantized, quantize, write_forms
    from calibration.scales import Scales
    from calibration.sensitivity import FloatChoice, Sensitivity, choose_float_layers, sensitivity, wire_score
    from calibration.sensitivity_plot import sensitivity_svg
    from calibration.table import TABLE, read_table

__all__ = [
    "TABLE",
    "Acceptance",
    "CalibrationCache",
    "CalibrationError",
    "CalibrationSettings",
    "Coverage",
    "Drift",
    "Finding",
    "FloatChoice",
    "PictureLimits",
    "Plan",
    "Prepared",
    "Quantized",
    "Scales",
    "Sensitivity",
    "acceptance",
    "cache_key",
    "choose_float_layers",
    "choose_pictures",
    "coverage",
    "feature_drift",
    "learned",
    "lint",
    "picture_list_hash",
    "place",
    "pooled_features",
    "prepare",
    "quantize",
    "read_cache",
    "read_picture_list",
    "read_table",
    "refusals",
    "refuse_unreal",
    "sensitivity",
    "sensitivity_svg",
    "wire_score",
    "write_cache",
    "write_forms",
    "write_picture_list",
]
