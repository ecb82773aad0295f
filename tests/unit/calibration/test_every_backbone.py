"""Every backbone's edge half, in every form, before every judge; and the same half in PyTorch."""

import functools
import warnings

import numpy as np
import pytest
import torch

from calibration import CalibrationSettings, acceptance, coverage, lint, quantize
from calibration.session import open_session, run_all
from tests.unit.calibration.networks import batch, pictures
from toolkit.export import ExportSettings, export_halves
from toolkit.models.architecture import Architecture
from toolkit.models.network import build_network
from toolkit.patrol.quantized_edge import QuantizedEdge
from toolkit.preprocess import Preprocess
from toolkit.wire import WireFormat, choose_step

SIDE = 32
CUTS = {
    "resnet18": "layer2",
    "resnet34": "layer1.2",
    "resnet50": "layer2.0",
    "resnet50_ibn_a": "layer1.1",
    "mobilenet_v2": "features.4",
    "vgg16_bn": "features.13",
    "pooled bottleneck": "layer2",
}
OPTIONS = {"pooled bottleneck": {"backbone": "resnet18", "bottleneck": 8, "bottleneck_pool": 2}}
SETTINGS = CalibrationSettings(threads=1, method="mse", weight_method="minmax")


@functools.cache
def quantized(backbone, folder):
    torch.manual_seed(0)
    options = OPTIONS.get(backbone, {"backbone": backbone})
    net = build_network(Architecture(identities=2, cut=CUTS[backbone], width=0.5, **options)).eval()
    inputs = batch(8, size=SIDE)
    with torch.inference_mode():
        feature = net.edge(torch.from_numpy(inputs)).numpy()
    signed = bool(feature.min() < 0)
    fmt = WireFormat(*feature.shape[1:], 8, choose_step(feature, 8, signed), signed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        preprocess, options = Preprocess(height=SIDE, width=SIDE), ExportSettings(simplify="off")
        made = export_halves(net, fmt, preprocess, pictures(8, size=SIDE), folder, options)
    return quantize(made.edge, [inputs], SETTINGS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("halves")


@pytest.mark.parametrize("backbone", CUTS)
def test_every_form_is_accepted_by_every_judge(backbone, folder):
    result = quantized(backbone, folder)
    assert set(result.forms) == {"a", "b", "cpu", "fp16"}
    rows = acceptance(result.forms)
    assert {row.verdict for row in rows if row.judge != "tensorrt-rtx"} == {"accepted"}
    rtx = {row.form: row.verdict for row in rows if row.judge == "tensorrt-rtx"}
    assert rtx == {"a": "accepted", "b": "accepted", "fp16": "accepted", "cpu": "not run"}, rows
    assert coverage(result.forms["a"]).share > 0.95
    assert not [item for item in lint(result.forms["a"], "a") if item.severity == "error"]
    assert not [item for item in lint(result.forms["b"], "b") if item.severity == "error"]


@pytest.mark.parametrize("backbone", CUTS)
def test_fine_tuning_would_begin_at_the_exported_codes(backbone, folder):
    """Equal but where float sums in another order fall on the other side of a rounding edge."""
    result, inputs = quantized(backbone, folder), batch(4, seed=9, size=SIDE)
    here = QuantizedEdge(result.prepared, result.plan, result.scales).codes(torch.from_numpy(inputs)).numpy()
    there = run_all(open_session(result.forms["a"], 1, integer_kernels=False), inputs, 4)
    ties = backbone == "pooled bottleneck"  # the mean of four codes often lies halfway between two
    assert np.mean(here == there) > (0.95 if ties else 0.995)
    assert np.abs(here.astype(int) - there).max() <= 2
