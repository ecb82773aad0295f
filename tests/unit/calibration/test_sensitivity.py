"""Leave-one-out, one-only and the search for layers to keep in float."""

import functools

import numpy as np
import pytest

from calibration import CalibrationSettings, choose_float_layers, quantize, sensitivity, sensitivity_svg
from calibration.agreement import sqnr
from calibration.errors import SettingsError
from calibration.session import open_session, run_all
from tests.unit.calibration.networks import batch, replace_constant, residual

SETTINGS = CalibrationSettings("minmax", "minmax", bias_correction=False, forms=("a",), threads=1)


@functools.cache
def calibrated():
    """A network whose layer block1.a is made hard to quantize by one huge weight per channel."""
    weight = np.random.default_rng(0).normal(0, 0.08, (32, 32, 3, 3)).astype(np.float32)
    weight[:, 0, 0, 0] = 20.0
    model = replace_constant(residual(), "block1.a.weight", weight)
    return quantize(model, [batch(8)], SETTINGS)


@functools.cache
def reference():
    return run_all(open_session(calibrated().prepared.model, 1), batch(4, 7), 4)


def score(model) -> float:
    codes = run_all(open_session(model, 1, integer_kernels=False), batch(4, 7), 4)
    return min(sqnr(reference(), codes), 99.0)


def cost(layers) -> float:
    macs = {layer.node: layer.macs for layer in calibrated().plan.layers}
    return sum(value * (2 if name in layers else 1) for name, value in macs.items()) / 1e6


@functools.cache
def measured():
    return sensitivity(calibrated(), score)


def test_the_hard_layer_is_found_both_ways():
    rows = {row.layer: row for row in measured().layers}
    assert list(rows) == [layer.node for layer in calibrated().plan.int8_layers]
    assert max(rows.values(), key=lambda row: row.loss_only).layer == "block1.a/Conv"
    assert max(rows.values(), key=lambda row: row.gain_without).layer == "block1.a/Conv"
    assert measured().float_score > measured().int8_score


def test_differences_are_consistent():
    for row in measured().layers:
        assert row.loss_only == measured().float_score - row.only
        assert row.gain_without == row.without - measured().int8_score


def test_a_limit_that_holds_already_keeps_nothing():
    choice = choose_float_layers(calibrated(), measured(), score, cost, 1000.0)
    assert choice.layers == ()
    assert choice.met
    assert choice.cost == cost(())


def test_a_tight_limit_keeps_the_hard_layer_and_is_met():
    target = measured().float_score - max(row.without for row in measured().layers) + 0.01
    choice = choose_float_layers(calibrated(), measured(), score, cost, target)
    assert choice.layers == ("block1.a/Conv",)
    assert choice.met
    assert choice.drop <= target
    model = calibrated().keeping_float(choice.layers).forms["a"]
    assert score(model) == pytest.approx(choice.score, abs=1.0)


def test_no_loss_at_all_keeps_everything():
    choice = choose_float_layers(calibrated(), measured(), score, cost, 0.0)
    assert choice.met
    assert choice.score >= measured().float_score
    assert len(choice.layers) >= 1


def test_an_impossible_limit_is_reported_as_not_met():
    from dataclasses import replace

    better = replace(measured(), float_score=1e6)
    assert not choose_float_layers(calibrated(), better, score, cost, 1.0).met


def test_wrong_use_is_named():
    with pytest.raises(SettingsError, match="no INT8 layer"):
        sensitivity(calibrated(), score, layers=["nothing"])
    with pytest.raises(SettingsError, match="no form"):
        sensitivity(calibrated(), score, form="b")
    with pytest.raises(SettingsError, match="max_drop"):
        choose_float_layers(calibrated(), measured(), score, cost, -1.0)


def test_the_plot_is_svg_with_every_layer():
    from xml.etree import ElementTree

    root = ElementTree.fromstring(sensitivity_svg(measured(), "dB <SQNR>"))
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {row.layer for row in measured().layers} <= set(texts)
    circles = list(root.iter("{http://www.w3.org/2000/svg}circle"))
    assert len(circles) == 2 + 2 * len(measured().layers)
    width = float(root.get("width"))
    assert all(0 < float(circle.get("cx")) < width for circle in circles)
