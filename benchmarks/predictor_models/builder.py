"""Builds ONNX graphs layer by layer; weights are graph inputs, so that a graph of any size costs nothing."""

from __future__ import annotations

from collections.abc import Sequence

import onnx
from onnx import TensorProto, helper


class Builder:
    """A graph under construction. Tensors are names; ``shape`` knows theirs (NCHW, batch 1)."""

    def __init__(self, channels: int, height: int, width: int) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.ValueInfoProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.shape: dict[str, tuple[int, ...]] = {"input": (1, channels, height, width)}
        self.count = 0

    def _name(self, kind: str) -> str:
        self.count += 1
        return f"{kind}_{self.count}"

    def _weight(self, name: str, shape: Sequence[int]) -> str:
        self.weights.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape)))
        return name

    def node(self, kind: str, inputs: Sequence[str], shape: tuple[int, ...], **attributes: object) -> str:
        """Any operator with one output."""
        name = self._name(kind.lower())
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        self.shape[name] = shape
        return name

    def conv(
        self, x: str, out: int, kernel: int | tuple[int, int] = 1, stride: int = 1, *, groups: int = 1,
        pad: int | tuple[int, int] | None = None, dilation: int = 1, act: str = "",
    ) -> str:  # fmt: skip
        """Convolution with folded BatchNorm, then an activation."""
        kh, kw = (kernel, kernel) if isinstance(kernel, int) else kernel
        default = ((kh - 1) // 2 * dilation, (kw - 1) // 2 * dilation)
        ph, pw = default if pad is None else (pad, pad) if isinstance(pad, int) else pad
        _, channels, height, width = self.shape[x]
        name = self._name("conv")
        weight = self._weight(f"{name}.weight", (out, channels // groups, kh, kw))
        bias = self._weight(f"{name}.bias", (out,))
        oh = (height + 2 * ph - dilation * (kh - 1) - 1) // stride + 1
        ow = (width + 2 * pw - dilation * (kw - 1) - 1) // stride + 1
        y = self.node(
            "Conv", [x, weight, bias], (1, out, oh, ow), kernel_shape=[kh, kw], strides=[stride] * 2, group=groups,
            pads=[ph, pw, ph, pw], dilations=[dilation] * 2,
        )  # fmt: skip
        return self.act(y, act)

    def act(self, x: str, kind: str) -> str:
        """An activation by its short name; ``""`` is none."""
        shape = self.shape[x]
        if kind == "relu":
            return self.node("Relu", [x], shape)
        if kind == "relu6":
            return self.node("Clip", [x], shape)
        if kind == "leaky":
            return self.node("LeakyRelu", [x], shape)
        if kind == "silu":
            return self.node("Mul", [x, self.node("Sigmoid", [x], shape)], shape)
        if kind == "hswish":
            return self.node("HardSwish", [x], shape)
        if kind == "hsigmoid":
            return self.node("HardSigmoid", [x], shape)
        if kind == "sigmoid":
            return self.node("Sigmoid", [x], shape)
        if kind == "gelu":
            inner = self.node("Erf", [self.node("Div", [x, self.floats(1)], shape)], shape)
            spread = self.node("Mul", [x, self.node("Add", [inner, self.floats(1)], shape)], shape)
            return self.node("Mul", [spread, self.floats(1)], shape)
        assert kind == "", kind
        return x

    def add(self, a: str, b: str, act: str = "") -> str:
        """Addition."""
        return self.act(self.node("Add", [a, b], self.shape[a]), act)

    def mul(self, a: str, b: str) -> str:
        """Product; ``b`` may be one value a channel."""
        return self.node("Mul", [a, b], self.shape[a])

    def concat(self, tensors: Sequence[str]) -> str:
        """Along channels."""
        first = self.shape[tensors[0]]
        return self.node("Concat", tensors, (1, sum(self.shape[t][1] for t in tensors), *first[2:]), axis=1)

    def constant(self, values: Sequence[int]) -> str:
        """An int64 vector."""
        name = self._name("const")
        self.initializers.append(helper.make_tensor(name, TensorProto.INT64, [len(values)], list(values)))
        return name

    def floats(self, *shape: int) -> str:
        """A constant; its values do not matter."""
        name = self._name("floats")
        size = 1
        for dim in shape:
            size *= dim
        self.initializers.append(
            helper.make_tensor(name, TensorProto.FLOAT, list(shape), bytes(4 * size), raw=True)
        )
        return name

    def scale(self, x: str) -> str:
        """Times a constant, of any broadcast shape: the count of its values decides nothing."""
        return self.node("Mul", [x, self.floats(1)], self.shape[x])

    def linear(self, x: str, out: int, act: str = "") -> str:
        """Fully connected layer on the last axis, with bias."""
        shape = self.shape[x]
        name = self._name("linear")
        weight = self._weight(f"{name}.weight", (shape[-1], out))
        y = self.node("MatMul", [x, weight], (*shape[:-1], out))
        return self.act(self.node("Add", [y, self.floats(out)], self.shape[y]), act)

    def matmul(self, a: str, b: str) -> str:
        """Product of two activations over their last two axes."""
        return self.node("MatMul", [a, b], (*self.shape[a][:-1], self.shape[b][-1]))

    def norm(self, x: str) -> str:
        """LayerNorm over the last axis."""
        width = self.shape[x][-1]
        return self.node("LayerNormalization", [x, self.floats(width), self.floats(width)], self.shape[x], axis=-1)

    def attention(self, x: str, heads: int, key: int, value: int, biased: bool = False) -> str:
        """Self-attention (Vaswani et al. 2017) of a (batch, tokens, channels) tensor, up to its projection."""
        batch, tokens, width = self.shape[x]
        joint = self.linear(x, heads * (2 * key + value))
        joint = self.reshape(joint, (batch, tokens, heads, 2 * key + value))
        joint = self.transpose(joint, (0, 2, 1, 3))
        q = self.slice(joint, 0, key, 3)
        k = self.transpose(self.slice(joint, key, 2 * key, 3), (0, 1, 3, 2))
        v = self.slice(joint, 2 * key, 2 * key + value, 3)
        scores = self.scale(self.matmul(q, k))
        if biased:
            scores = self.node("Add", [scores, self.floats(heads, tokens, tokens)], self.shape[scores])
        weights = self.node("Softmax", [scores], self.shape[scores], axis=-1)
        mixed = self.transpose(self.matmul(weights, v), (0, 2, 1, 3))
        return self.linear(self.reshape(mixed, (batch, tokens, heads * value)), width)

    def deconv(self, x: str, out: int, factor: int) -> str:
        """Transposed convolution whose kernel is its stride."""
        _, channels, height, width = self.shape[x]
        name = self._name("deconv")
        weight = self._weight(f"{name}.weight", (channels, out, factor, factor))
        return self.node(
            "ConvTranspose", [x, weight], (1, out, height * factor, width * factor), kernel_shape=[factor] * 2,
            strides=[factor] * 2,
        )  # fmt: skip

    def slice(self, x: str, start: int, end: int, axis: int = 1, step: int = 1) -> str:
        """A part along one axis."""
        shape = list(self.shape[x])
        shape[axis] = (min(end, shape[axis]) - start + step - 1) // step
        parts = [self.constant([v]) for v in (start, end, axis, step)]
        return self.node("Slice", [x, *parts], tuple(shape))

    def pool(
        self, x: str, kernel: int, stride: int, pad: int = 0, *, kind: str = "MaxPool", ceil: bool = False
    ) -> str:
        """Max or average pooling."""
        _, channels, height, width = self.shape[x]
        up = stride - 1 if ceil else 0
        oh, ow = ((s + 2 * pad - kernel + up) // stride + 1 for s in (height, width))
        return self.node(
            kind, [x], (1, channels, oh, ow), kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[pad] * 4,
            ceil_mode=int(ceil),
        )  # fmt: skip

    def gap(self, x: str) -> str:
        """Global average pooling."""
        return self.node("GlobalAveragePool", [x], (1, self.shape[x][1], 1, 1))

    def resize(self, x: str, factor: float, mode: str = "nearest") -> str:
        """Nearest or linear scaling."""
        _, channels, height, width = self.shape[x]
        shape = (1, channels, int(height * factor), int(width * factor))
        name = self._name("scales")
        self.initializers.append(helper.make_tensor(name, TensorProto.FLOAT, [4], [1.0, 1.0, factor, factor]))
        return self.node(
            "Resize", [x, "", name], shape, mode=mode, coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        )  # fmt: skip

    def fc(self, x: str, out: int, act: str = "") -> str:
        """Fully connected layer on the flattened tensor."""
        shape = self.shape[x]
        if len(shape) > 2:
            size = 1
            for dim in shape[1:]:
                size *= dim
            x = self.node("Flatten", [x], (1, size))
        name = self._name("fc")
        inner = self.shape[x][1]
        names = [self._weight(f"{name}.weight", (out, inner)), self._weight(f"{name}.bias", (out,))]
        return self.act(self.node("Gemm", [x, *names], (1, out), transB=1), act)

    def reshape(self, x: str, shape: Sequence[int]) -> str:
        """The same numbers in another shape."""
        return self.node("Reshape", [x, self.constant(shape)], tuple(shape))

    def transpose(self, x: str, order: Sequence[int]) -> str:
        """Axes in another order."""
        return self.node("Transpose", [x], tuple(self.shape[x][i] for i in order), perm=list(order))

    def model(self, outputs: Sequence[str], name: str) -> onnx.ModelProto:
        """The finished model (opset 17)."""
        info = [helper.make_tensor_value_info("input", TensorProto.FLOAT, list(self.shape["input"]))]
        ends = [helper.make_tensor_value_info(o, TensorProto.FLOAT, list(self.shape[o])) for o in outputs]
        graph = helper.make_graph(self.nodes, name, info + self.weights, ends, self.initializers)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
