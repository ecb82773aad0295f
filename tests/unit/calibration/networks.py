"""Small edge halves for the tests, built node by node, and pictures that look like pictures."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIZE = 32


class Net:
    """Builds an FP32 edge half with He-initialised layers."""

    def __init__(self, seed: int = 0, channels: int = 3) -> None:
        self.random = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, np.ndarray] = {}
        self.channels = {"picture": channels}

    def add(self, operator: str, inputs: list[str], output: str, channels: int | None = None, **attributes) -> str:
        self.nodes.append(helper.make_node(operator, inputs, [output], f"{output}/{operator}", **attributes))
        self.channels[output] = self.channels.get(inputs[0], 0) if channels is None else channels
        return output

    def const(self, name: str, value) -> str:
        self.constants[name] = np.asarray(value)
        return name

    def normalize(self, source: str = "picture") -> str:
        mean = self.const("mean", np.asarray([0.485, 0.456, 0.406], np.float32).reshape(1, 3, 1, 1))
        std = self.const("std", np.asarray([0.229, 0.224, 0.225], np.float32).reshape(1, 3, 1, 1))
        return self.add("Div", [self.add("Sub", [source, mean], "centred"), std], "normalized")

    def conv(
        self, source: str, name: str, out: int, kernel: int = 3, stride: int = 1, groups: int = 1, bias=True
    ) -> str:
        into = self.channels[source]
        weight = self.random.normal(
            0, np.sqrt(2 / (into / groups * kernel**2)), (out, into // groups, kernel, kernel)
        )
        inputs = [source, self.const(f"{name}.weight", weight.astype(np.float32))]
        if bias:
            inputs.append(self.const(f"{name}.bias", self.random.normal(0, 0.1, out).astype(np.float32)))
        pad = kernel // 2
        return self.add(
            "Conv",
            inputs,
            name,
            out,
            kernel_shape=[kernel] * 2,
            strides=[stride] * 2,
            pads=[pad] * 4,
            group=groups,
        )

    def norm(self, source: str, name: str) -> str:
        count = self.channels[source]
        values = {
            "scale": self.random.uniform(0.5, 1.5, count),
            "shift": self.random.normal(0, 0.2, count),
            "mean": self.random.normal(0, 0.1, count),
            "variance": self.random.uniform(0.5, 2, count),
        }
        names = [self.const(f"{name}.{key}", value.astype(np.float32)) for key, value in values.items()]
        return self.add("BatchNormalization", [source, *names], name)

    def relu(self, source: str, name: str) -> str:
        return self.add("Relu", [source], name)

    def finish(
        self, feature: str, size: int, bits: int = 8, step: float = 0.03125, signed: bool = False
    ) -> onnx.ModelProto:
        high = 2 ** (bits - 1) - 1 if signed or bits == 8 else 2**bits - 1
        low = -high - 1 if signed else 0
        bounds = [
            self.const(f"wire.{k}", np.float32(v * np.float32(step))) for k, v in (("low", low), ("high", high))
        ]
        clipped = self.add("Clip", [feature, *bounds], "clipped")
        scale = self.const("wire.step", np.float32(step))
        self.add("QuantizeLinear", [clipped, scale, self.const("wire.zero", np.int8(0))], "wire")
        graph = helper.make_graph(
            self.nodes,
            "edge",
            [
                helper.make_tensor_value_info(
                    "picture", TensorProto.FLOAT, ["batch", self.channels["picture"], SIZE, SIZE]
                )
            ],
            [
                helper.make_tensor_value_info(
                    "wire", TensorProto.INT8, ["batch", self.channels[feature], size, size]
                )
            ],
            [numpy_helper.from_array(value, name) for name, value in self.constants.items()],
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def residual(
    seed: int = 0, norms: bool = False, bits: int = 8, step: float = 0.0625, width: int = 32
) -> onnx.ModelProto:
    """Stem with pooling, an identity block and a block with a downsampling shortcut."""
    net = Net(seed)

    def conv(source: str, name: str, out: int, kernel: int = 3, stride: int = 1) -> str:
        made = net.conv(source, f"{name}.conv" if norms else name, out, kernel, stride, bias=not norms)
        return net.norm(made, name) if norms else made

    x = net.relu(conv(net.normalize(), "stem", width, 3, 2), "stem.out")
    x = net.add("MaxPool", [x], "pool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    y = net.relu(conv(x, "block1.a", width), "block1.mid")
    x = net.relu(net.add("Add", [conv(y, "block1.b", width), x], "block1.add"), "block1.out")
    y = net.relu(conv(x, "block2.a", 2 * width, 3, 2), "block2.mid")
    short = conv(x, "block2.down", 2 * width, 1, 2)
    x = net.relu(net.add("Add", [conv(y, "block2.b", 2 * width), short], "block2.add"), "block2.out")
    return net.finish(x, 4, bits, step)


def inverted(seed: int = 0) -> onnx.ModelProto:
    """Linear bottlenecks with depthwise convolutions, Relu6 and a residual between linear tensors; signed wire."""
    net = Net(seed)
    limits = [net.const("zero", np.float32(0)), net.const("six", np.float32(6))]

    def relu6(source: str, name: str) -> str:
        return net.add("Clip", [source, *limits], name)

    x = relu6(net.conv(net.normalize(), "stem", 32, 3, 2), "stem.out")
    x = net.conv(x, "project0", 16, 1)
    for block in ("one", "two"):
        y = relu6(net.conv(x, f"{block}.expand", 64, 1), f"{block}.expanded")
        y = relu6(net.conv(y, f"{block}.depth", 64, 3, 1, groups=64), f"{block}.deep")
        y = net.conv(y, f"{block}.project", 16, 1)
        x = net.add("Add", [x, y], f"{block}.add")
    return net.finish(x, 16, 8, 0.09375, signed=True)


def branching(seed: int = 0) -> onnx.ModelProto:
    """Two branches that are concatenated and pooled."""
    net = Net(seed)
    x = net.relu(net.conv(net.normalize(), "stem", 32, 3, 2), "stem.out")
    left = net.relu(net.conv(x, "left", 32, 1), "left.out")
    right = net.relu(net.conv(x, "right", 32, 3), "right.out")
    x = net.add("Concat", [left, right], "joined", 64, axis=1)
    x = net.add("AveragePool", [x], "pooled", kernel_shape=[2, 2], strides=[2, 2])
    return net.finish(net.relu(net.conv(x, "last", 32), "last.out"), 8, 8, 0.05)


def instance(seed: int = 0) -> onnx.ModelProto:
    """Half of the channels through InstanceNormalization, half through BatchNormalization (as in IBN-a)."""
    net = Net(seed)
    x = net.relu(net.conv(net.normalize(), "stem", 32, 3, 2), "stem.out")
    x = net.conv(x, "mixed", 32, bias=False)
    sizes = net.const("sizes", np.asarray([16, 16], np.int64))
    net.nodes.append(helper.make_node("Split", [x, sizes], ["left", "right"], "mixed/Split", axis=1))
    net.channels.update(left=16, right=16)
    scale, shift = net.const("in.scale", np.ones(16, np.float32)), net.const("in.shift", np.zeros(16, np.float32))
    left = net.add("InstanceNormalization", ["left", scale, shift], "left.norm")
    x = net.add("Concat", [left, net.norm("right", "right.norm")], "joined", 32, axis=1)
    x = net.relu(net.conv(net.relu(x, "mixed.out"), "last", 32), "last.out")
    return net.finish(x, 16, 8, 0.05)


def transposed(seed: int = 0) -> onnx.ModelProto:
    """A transposed convolution with BatchNorm behind it, whose channels lie on the weight's axis 1."""
    net = Net(seed)
    x = net.relu(net.conv(net.normalize(), "stem", 32, 3, 2), "stem.out")
    weight = net.random.normal(0, 0.1, (32, 48, 2, 2)) * net.random.uniform(0.1, 3, (1, 48, 1, 1))
    names = [x, net.const("up.weight", weight.astype(np.float32))]
    x = net.norm(net.add("ConvTranspose", names, "up", 48, kernel_shape=[2, 2], strides=[2, 2]), "up.norm")
    return net.finish(net.relu(net.conv(net.relu(x, "up.out"), "last", 32), "last.out"), 32, 8, 0.08)


def dense_layers(seed: int = 0) -> onnx.ModelProto:
    """Global pooling, then Gemm (transposed weight) and MatMul, back to four dimensions."""
    net = Net(seed)
    x = net.relu(net.conv(net.normalize(), "stem", 32, 3, 2), "stem.out")
    x = net.add("Flatten", [net.add("GlobalAveragePool", [x], "average")], "flat")
    names = [net.const("gemm.weight", net.random.normal(0, 0.2, (48, 32)).astype(np.float32))]
    names.append(net.const("gemm.bias", net.random.normal(0, 0.1, 48).astype(np.float32)))
    x = net.relu(net.add("Gemm", [x, *names], "gemm", 48, transB=1), "gemm.out")
    weight = net.const("product.weight", net.random.normal(0, 0.2, (48, 24)).astype(np.float32))
    x = net.add("MatMul", [x, weight], "product", 24)
    x = net.add("Reshape", [x, net.const("shape", np.asarray([-1, 24, 1, 1], np.int64))], "square")
    return net.finish(x, 1, 8, 0.02, signed=True)


def pooled_wire(seed: int = 0) -> onnx.ModelProto:
    """A VGG-like half that is cut behind a pooling layer."""
    net = Net(seed)
    x = net.relu(net.conv(net.normalize(), "one", 32, 3, 2), "one.out")
    x = net.relu(net.conv(x, "two", 32), "two.out")
    x = net.add("MaxPool", [x], "pool", kernel_shape=[2, 2], strides=[2, 2])
    return net.finish(x, 8, 8, 0.03)


def pictures(count: int, seed: int = 0, size: int = SIZE) -> np.ndarray:
    """uint8 (count, size, size, 3): smooth shades with a few rectangles."""
    random = np.random.default_rng(seed)
    ramp = np.linspace(0, 1, size, dtype=np.float32)
    found = []
    for _ in range(count):
        light = (
            random.uniform(40, 200)
            + random.uniform(-60, 60) * ramp[:, None]
            + random.uniform(-60, 60) * ramp[None]
        )
        image = np.repeat(light[..., None], 3, axis=2) + random.uniform(-20, 20, 3)
        for _ in range(5):
            top, left = random.integers(0, size - 4, 2)
            height, width = random.integers(3, size // 2, 2)
            image[top : top + height, left : left + width] = random.uniform(0, 255) + random.uniform(-30, 30, 3)
        found.append(np.clip(image + random.normal(0, 2, image.shape), 0, 255))
    return np.asarray(found).astype(np.uint8)


def batch(count: int, seed: int = 0, size: int = SIZE) -> np.ndarray:
    """float32 (count, 3, size, size) in [0, 1]."""
    return np.ascontiguousarray(pictures(count, seed, size).transpose(0, 3, 1, 2).astype(np.float32) / 255)


def replace_constant(model: onnx.ModelProto, name: str, value: np.ndarray) -> onnx.ModelProto:
    """A copy with another constant."""
    copy = onnx.ModelProto.FromString(model.SerializeToString())
    [item] = [item for item in copy.graph.initializer if item.name == name]
    item.CopyFrom(numpy_helper.from_array(value, name))
    return copy
