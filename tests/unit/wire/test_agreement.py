"""numpy, torch and ONNX Runtime give the same codes, bit for bit."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper

from toolkit.wire import WireFormat, decode, decode_tensor, encode, encode_tensor, quantize_ste

CASES = [(8, False, 0.1), (8, True, 0.0371), (4, False, 1 / 3), (3, True, 0.7), (2, False, 1.0), (5, True, 1e-3)]


def features_near_the_edges(fmt: WireFormat) -> np.ndarray:
    """Every code's centre and both rounding edges with their float32 neighbours, both ends, and noise."""
    codes = np.arange(fmt.low - 2, fmt.high + 3, dtype=np.float64)
    points = np.concatenate([codes, codes + 0.5]) * fmt.step
    points = points.astype(np.float32)
    points = np.concatenate(
        [points, np.nextafter(points, np.float32(np.inf)), np.nextafter(points, np.float32(-np.inf))]
    )
    noise = np.random.default_rng(0).uniform(fmt.clip[0] * 1.2 - 0.1, fmt.clip[1] * 1.2, 20_000)
    extreme = np.array([0.0, -0.0, 3e38, -3e38, np.inf, -np.inf, 1e-40])
    values = np.concatenate([points, noise, extreme]).astype(np.float32)
    return np.resize(values, (-(-values.size // 24), 2, 3, 4)).copy()


def onnx_wire(fmt: WireFormat) -> onnxruntime.InferenceSession:
    low, high = fmt.clip
    constants = [
        helper.make_tensor("low", TensorProto.FLOAT, [], [low]),
        helper.make_tensor("high", TensorProto.FLOAT, [], [high]),
        helper.make_tensor("step", TensorProto.FLOAT, [], [fmt.step]),
        helper.make_tensor("zero", TensorProto.INT8, [], [0]),
    ]
    nodes = [
        helper.make_node("Clip", ["feature", "low", "high"], ["clipped"]),
        helper.make_node("QuantizeLinear", ["clipped", "step", "zero"], ["wire"]),
        helper.make_node("DequantizeLinear", ["wire", "step", "zero"], ["restored"]),
    ]
    shape = ["n", *fmt.shape]
    graph = helper.make_graph(
        nodes,
        "wire",
        [helper.make_tensor_value_info("feature", TensorProto.FLOAT, shape)],
        [
            helper.make_tensor_value_info("wire", TensorProto.INT8, shape),
            helper.make_tensor_value_info("restored", TensorProto.FLOAT, shape),
        ],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize(("bits", "signed", "step"), CASES)
def test_three_ways_agree(bits, signed, step):
    fmt = WireFormat(2, 3, 4, bits=bits, step=step, signed=signed)
    features = features_near_the_edges(fmt)
    codes = encode(features, fmt)
    assert {fmt.low, fmt.high} <= set(np.unique(codes).tolist())
    from_onnx, restored = onnx_wire(fmt).run(None, {"feature": features})
    assert np.array_equal(codes, from_onnx)
    assert np.array_equal(codes, encode_tensor(torch.from_numpy(features), fmt).numpy())
    for other in (
        restored,
        decode_tensor(torch.from_numpy(codes), fmt).numpy(),
        quantize_ste(torch.from_numpy(features), fmt).numpy(),
    ):
        assert np.array_equal(decode(codes, fmt), other)


def test_straight_through_gradient_stops_outside_the_range():
    fmt = WireFormat(1, 1, 5, bits=2, step=1.0, signed=False)
    feature = torch.tensor([[[[-0.5, 0.0, 1.3, 3.0, 3.1]]]], requires_grad=True)
    quantize_ste(feature, fmt).mul(2.0).sum().backward()
    assert feature.grad is not None
    assert feature.grad.ravel().tolist() == [0.0, 2.0, 2.0, 2.0, 0.0]


def test_half_precision_features_are_coded_in_float32():
    fmt = WireFormat(2, 3, 4, bits=8, step=0.1, signed=False)
    feature = torch.from_numpy(features_near_the_edges(fmt)).clamp(-60000, 60000).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = quantize_ste(feature, fmt)
    assert result.dtype == torch.float32
    assert np.array_equal(result.numpy(), decode(encode(feature.float().numpy(), fmt), fmt))
