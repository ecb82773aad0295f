"""The channel step: stairs of tensor cores are found, and memory that grows with every channel has none."""

import pytest

from targets.errors import PredictionError
from targets.jetson.catalogue import find_module
from targets.jetson.layers import Layer, LayerGraph, Tensor
from targets.jetson.predictor import predict, staircase

ORIN = find_module("agx-orin-64gb")


def _convolution(inputs: int, outputs: int, side: int, kernel: int = 3, groups: int = 1) -> Layer:
    positions, weights = side * side, inputs // groups * outputs * kernel * kernel
    return Layer(
        name=f"conv{inputs}x{outputs}",
        kind="conv",
        operators=("Conv",),
        inputs=(Tensor(inputs * positions, producer=0),),
        outputs=(Tensor(outputs * positions),),
        macs=weights * positions,
        weights=weights + outputs,
        in_channels=inputs,
        out_channels=outputs,
        groups=groups,
        kernel=(kernel, kernel),
        positions=positions,
    )


NET = LayerGraph("net", 1, (_convolution(3, 64, 56), _convolution(64, 64, 56), _convolution(64, 128, 28)))


def test_tensor_cores_of_orin_want_32_in_int8_and_8_in_fp16():
    mode = ORIN.mode(None)
    assert staircase(NET, ORIN, mode, "int8").step == 32
    assert staircase(NET, ORIN, mode, "fp16").step == 8


def test_costs_are_those_of_the_predictor_and_rise_with_the_step():
    mode = ORIN.mode(None)
    costs = staircase(NET, ORIN, mode, "fp16").costs
    assert 0 <= costs[8] < costs[16] < costs[32] < 1
    wide, aligned = (LayerGraph("one", 1, (_convolution(64, width, 56),)) for width in (33, 64))
    times = [predict(graph, ORIN, mode, "int8").layers[0].ms for graph in (wide, aligned)]
    assert times[0] == pytest.approx(times[1], rel=0.02), "a stair of the predictor itself"


def test_no_step_where_every_channel_costs():
    """The first Nano has no tensor cores, and small layers there are bound by memory."""
    nano = find_module("nano-4gb")
    found = staircase(LayerGraph("net", 1, (_convolution(64, 64, 56, 1),)), nano, nano.mode(None), "fp16")
    assert found.step is None and min(found.costs.values()) > 0.02


def test_pictures_and_grouped_convolutions_do_not_count():
    mode = ORIN.mode(None)
    more = LayerGraph("more", 1, (*NET.layers, _convolution(512, 512, 7, 3, 512)))
    assert staircase(more, ORIN, mode, "int8") == staircase(NET, ORIN, mode, "int8")
    assert staircase(LayerGraph("none", 1, more.layers[-1:]), ORIN, mode, "int8").step is None


def test_unknown_precision_is_refused():
    with pytest.raises(PredictionError, match="int4"):
        staircase(NET, ORIN, ORIN.mode(None), "int4")
