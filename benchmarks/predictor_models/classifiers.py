"""Classification networks, from their papers; channel tables as in torchvision (BSD-3) and timm (Apache-2.0)."""

from __future__ import annotations

import math

import onnx

from .builder import Builder

RESNETS = {
    "resnet18": ("basic", (2, 2, 2, 2)), "resnet34": ("basic", (3, 4, 6, 3)),
    "resnet50": ("bottleneck", (3, 4, 6, 3)), "resnet152": ("bottleneck", (3, 8, 36, 3)),
    "resnext50": ("resnext", (3, 4, 6, 3)),
}  # fmt: skip


def basic(g: Builder, x: str, planes: int, stride: int, dilation: int = 1) -> str:
    """He et al. 2015, figure 5 left."""
    y = g.conv(x, planes, 3, stride, act="relu")
    y = g.conv(y, planes, 3, dilation=dilation)
    same = stride == 1 and g.shape[x][1] == planes
    return g.add(y, x if same else g.conv(x, planes, 1, stride), "relu")


def bottleneck(g: Builder, x: str, planes: int, stride: int, groups: int = 1, inner: int = 0) -> str:
    """He et al. 2015, figure 5 right, with the stride in the 3x3 convolution; ResNeXt with groups."""
    y = g.conv(x, inner or planes, act="relu")
    y = g.conv(y, inner or planes, 3, stride, groups=groups, act="relu")
    y = g.conv(y, planes * 4)
    same = stride == 1 and g.shape[x][1] == planes * 4
    return g.add(y, x if same else g.conv(x, planes * 4, 1, stride), "relu")


def resnet_stages(g: Builder, name: str, x: str = "input") -> list[str]:
    """Outputs of the four stages."""
    kind, counts = RESNETS[name]
    x = g.pool(g.conv(x, 64, 7, 2, act="relu"), 3, 2, 1)
    ends = []
    for stage, count in enumerate(counts):
        for block in range(count):
            stride, planes = 2 if stage and not block else 1, 64 << stage
            if kind == "basic":
                x = basic(g, x, planes, stride)
            elif kind == "bottleneck":
                x = bottleneck(g, x, planes, stride)
            else:
                x = bottleneck(g, x, planes, stride, 32, planes * 2)
        ends.append(x)
    return ends


def resnet(name: str, size: int, classes: int) -> onnx.ModelProto:
    """ResNet or ResNeXt classifier."""
    g = Builder(3, size, size)
    return g.model([g.fc(g.gap(resnet_stages(g, name)[-1]), classes)], name)


VGG = {"vgg11": "1 1 2 2 2", "vgg13": "2 2 2 2 2", "vgg16": "2 2 3 3 3", "vgg19": "2 2 4 4 4"}


def vgg(name: str, size: int, classes: int) -> onnx.ModelProto:
    """Simonyan and Zisserman 2014, table 1."""
    g = Builder(3, size, size)
    x = "input"
    for planes, count in zip((64, 128, 256, 512, 512), VGG[name].split(), strict=True):
        for _ in range(int(count)):
            x = g.conv(x, planes, 3, act="relu")
        x = g.pool(x, 2, 2)
    return g.model([g.fc(g.fc(g.fc(x, 4096, "relu"), 4096, "relu"), classes)], name)


def alexnet(size: int, classes: int) -> onnx.ModelProto:
    """Krizhevsky 2014, "One weird trick"."""
    g = Builder(3, size, size)
    x = g.pool(g.conv("input", 64, 11, 4, pad=2, act="relu"), 3, 2)
    x = g.pool(g.conv(x, 192, 5, act="relu"), 3, 2)
    x = g.conv(g.conv(g.conv(x, 384, 3, act="relu"), 256, 3, act="relu"), 256, 3, act="relu")
    return g.model([g.fc(g.fc(g.fc(g.pool(x, 3, 2), 4096, "relu"), 4096, "relu"), classes)], "alexnet")


def squeezenet(version: str, size: int, classes: int) -> onnx.ModelProto:
    """Iandola et al. 2016, versions 1.0 and 1.1."""
    g = Builder(3, size, size)
    new = version == "1_1"
    x = g.conv("input", 64, 3, 2, pad=0, act="relu") if new else g.conv("input", 96, 7, 2, pad=0, act="relu")
    x = g.pool(x, 3, 2, ceil=True)
    pools = (1, 3) if new else (2, 6)
    for i, (s, e) in enumerate(
        [(16, 64), (16, 64), (32, 128), (32, 128), (48, 192), (48, 192), (64, 256), (64, 256)]
    ):
        y = g.conv(x, s, act="relu")
        x = g.concat([g.conv(y, e, act="relu"), g.conv(y, e, 3, act="relu")])
        if i in pools:
            x = g.pool(x, 3, 2, ceil=True)
    return g.model([g.gap(g.conv(x, classes, act="relu"))], f"squeezenet{version}")


def densenet121(size: int, classes: int) -> onnx.ModelProto:
    """Huang et al. 2016, table 1; the BatchNorm before a convolution cannot be folded into it."""
    g = Builder(3, size, size)
    x = g.pool(g.conv("input", 64, 7, 2, act="relu"), 3, 2, 1)
    for stage, count in enumerate((6, 12, 24, 16)):
        for _ in range(count):
            y = g.conv(g.act(x, "relu"), 128, act="relu")
            x = g.concat([x, g.conv(y, 32, 3)])
        if stage < 3:
            x = g.pool(g.conv(g.act(x, "relu"), g.shape[x][1] // 2), 2, 2, kind="AveragePool")
    return g.model([g.fc(g.gap(g.act(x, "relu")), classes)], "densenet121")


def inverted(
    g: Builder, x: str, expand: int, out: int, kernel: int, stride: int, act: str, squeeze: int = 0, gate: str = ""
) -> str:
    """Inverted residual (Sandler et al. 2018), with squeeze-and-excitation of ``squeeze`` channels."""
    y = x if expand == g.shape[x][1] else g.conv(x, expand, act=act)
    y = g.conv(y, expand, kernel, stride, groups=expand, act=act)
    if squeeze:
        s = g.conv(g.gap(y), squeeze, act="relu")
        y = g.mul(y, g.conv(s, expand, act=gate))
    y = g.conv(y, out)
    return g.add(y, x) if stride == 1 and g.shape[x][1] == out else y


def mnasnet(size: int, classes: int) -> onnx.ModelProto:
    """Tan et al. 2018, MNASNet-B1, depth multiplier 1."""
    g = Builder(3, size, size)
    x = g.conv("input", 32, 3, 2, act="relu")
    x = g.conv(g.conv(x, 32, 3, groups=32, act="relu"), 16)
    for k, s, t, c, n in ((3, 2, 3, 24, 3), (5, 2, 3, 40, 3), (5, 2, 6, 80, 3), (3, 1, 6, 96, 2),
                          (5, 2, 6, 192, 4), (3, 1, 6, 320, 1)):  # fmt: skip
        for i in range(n):
            x = inverted(g, x, g.shape[x][1] * t, c, k, s if i == 0 else 1, "relu")
    return g.model([g.fc(g.gap(g.conv(x, 1280, act="relu")), classes)], "mnasnet1_0")


V3_LARGE = (
    (3, 16, 16, 0, "relu", 1), (3, 64, 24, 0, "relu", 2), (3, 72, 24, 0, "relu", 1), (5, 72, 40, 1, "relu", 2),
    (5, 120, 40, 1, "relu", 1), (5, 120, 40, 1, "relu", 1), (3, 240, 80, 0, "hswish", 2),
    (3, 200, 80, 0, "hswish", 1), (3, 184, 80, 0, "hswish", 1), (3, 184, 80, 0, "hswish", 1),
    (3, 480, 112, 1, "hswish", 1),
    (3, 672, 112, 1, "hswish", 1), (5, 672, 160, 1, "hswish", 2), (5, 960, 160, 1, "hswish", 1),
    (5, 960, 160, 1, "hswish", 1),
)  # fmt: skip
V3_SMALL = (
    (3, 16, 16, 1, "relu", 2), (3, 72, 24, 0, "relu", 2), (3, 88, 24, 0, "relu", 1), (5, 96, 40, 1, "hswish", 2),
    (5, 240, 40, 1, "hswish", 1), (5, 240, 40, 1, "hswish", 1), (5, 120, 48, 1, "hswish", 1),
    (5, 144, 48, 1, "hswish", 1), (5, 288, 96, 1, "hswish", 2), (5, 576, 96, 1, "hswish", 1),
    (5, 576, 96, 1, "hswish", 1),
)  # fmt: skip


def round8(value: float) -> int:
    """To a multiple of 8, not below 90 %."""
    rounded = max(8, int(value + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * value else rounded


def mobilenet_v3(kind: str, size: int, classes: int) -> onnx.ModelProto:
    """Howard et al. 2019, tables 1 and 2."""
    g = Builder(3, size, size)
    x = g.conv("input", 16, 3, 2, act="hswish")
    for k, e, c, se, act, s in V3_LARGE if kind == "large" else V3_SMALL:
        x = inverted(g, x, e, c, k, s, act, round8(e / 4) if se else 0, "hsigmoid")
    x = g.gap(g.conv(x, 960 if kind == "large" else 576, act="hswish"))
    return g.model([g.fc(g.fc(x, 1280 if kind == "large" else 1024, "hswish"), classes)], f"mobilenet_v3_{kind}")


def mobilenet_v2(size: int, classes: int) -> onnx.ModelProto:
    """Sandler et al. 2018, table 2."""
    g = Builder(3, size, size)
    x = g.conv("input", 32, 3, 2, act="relu6")
    for t, c, n, s in ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2),
                       (6, 320, 1, 1)):  # fmt: skip
        for i in range(n):
            x = inverted(g, x, g.shape[x][1] * t, c, 3, s if i == 0 else 1, "relu6")
    return g.model([g.fc(g.gap(g.conv(x, 1280, act="relu6")), classes)], "mobilenet_v2")


def shufflenet_v2(size: int, classes: int) -> onnx.ModelProto:
    """Ma et al. 2018, width 1.0."""
    g = Builder(3, size, size)
    x = g.pool(g.conv("input", 24, 3, 2, act="relu"), 3, 2, 1)
    for c, n in ((116, 4), (232, 8), (464, 4)):
        for i in range(n):
            x = _shuffle_unit(g, x, c, i == 0)
    return g.model([g.fc(g.gap(g.conv(x, 1024, act="relu")), classes)], "shufflenet_v2_x1_0")


def _shuffle_unit(g: Builder, x: str, out: int, down: bool) -> str:
    half = out // 2
    if down:
        left = g.conv(g.conv(x, g.shape[x][1], 3, 2, groups=g.shape[x][1]), half, act="relu")
        right, stride = x, 2
    else:
        left, right, stride = g.slice(x, 0, half), g.slice(x, half, out), 1
    right = g.conv(right, half, act="relu")
    right = g.conv(g.conv(right, half, 3, stride, groups=half), half, act="relu")
    y = g.concat([left, right])
    _, _, height, width = g.shape[y]
    y = g.transpose(g.reshape(y, (1, 2, half, height * width)), (0, 2, 1, 3))
    return g.reshape(y, (1, out, height, width))


MIX_S = (
    ("3", "1 1", 1, 1, 16, 0, "relu", 1), ("3", "2 2", 2, 6, 24, 0, "relu", 1),
    ("3", "2 2", 1, 3, 24, 0, "relu", 1),
    ("3 5 7", "1 1", 2, 6, 40, 0.5, "silu", 1), ("3 5", "2 2", 1, 6, 40, 0.5, "silu", 3),
    ("3 5 7", "1 2", 2, 6, 80, 0.25, "silu", 1), ("3 5", "1 2", 1, 6, 80, 0.25, "silu", 2),
    ("3 5 7", "2 2", 1, 6, 120, 0.5, "silu", 1), ("3 5 7 9", "2 2", 1, 3, 120, 0.5, "silu", 2),
    ("3 5 7 9 11", "1 1", 2, 6, 200, 0.5, "silu", 1), ("3 5 7 9", "1 2", 1, 6, 200, 0.5, "silu", 2),
)  # fmt: skip
MIX_M = (
    ("3", "1 1", 1, 1, 24, 0, "relu", 1), ("3 5 7", "2 2", 2, 6, 32, 0, "relu", 1),
    ("3", "2 2", 1, 3, 32, 0, "relu", 1),
    ("3 5 7 9", "1 1", 2, 6, 40, 0.5, "silu", 1), ("3 5", "2 2", 1, 6, 40, 0.5, "silu", 3),
    ("3 5 7", "1 1", 2, 6, 80, 0.25, "silu", 1), ("3 5 7 9", "2 2", 1, 6, 80, 0.25, "silu", 3),
    ("3", "1 1", 1, 6, 120, 0.5, "silu", 1), ("3 5 7 9", "2 2", 1, 3, 120, 0.5, "silu", 3),
    ("3 5 7 9", "1 1", 2, 6, 200, 0.5, "silu", 1), ("3 5 7 9", "1 2", 1, 6, 200, 0.5, "silu", 3),
)  # fmt: skip


def mixnet(kind: str, size: int, classes: int) -> onnx.ModelProto:
    """Tan and Le 2019, figure 5; L is M with 1.3 times the channels.

    A row: kernels, parts of the expanding and the projecting convolution, stride, expansion, channels,
    squeeze-and-excitation, activation, count.
    """
    g = Builder(3, size, size)
    wide = 1.3 if kind == "l" else 1.0
    x = g.conv("input", round8((16 if kind == "s" else 24) * wide), 3, 2, act="relu")
    for kernels, parts, stride, expand, out, se, act, count in MIX_S if kind == "s" else MIX_M:
        for i in range(count):
            first, last = (int(part) for part in parts.split())
            sizes = [int(kernel) for kernel in kernels.split()]
            inner = g.shape[x][1] * expand
            y = x if expand == 1 else _mixed(g, x, inner, first, act)
            y = _depthwise_mix(g, y, sizes, stride if i == 0 else 1, act)
            if se:
                squeezed = g.conv(g.gap(y), max(1, math.floor(g.shape[x][1] * se)), act="silu")
                y = g.mul(y, g.conv(squeezed, inner, act="sigmoid"))
            y = _mixed(g, y, round8(out * wide), last, "")
            x = g.add(y, x) if g.shape[y] == g.shape[x] else y
    return g.model([g.fc(g.gap(g.conv(x, 1536, act="relu")), classes)], f"mixnet_{kind}")


def _depthwise_mix(g: Builder, x: str, kernels: list[int], stride: int, act: str) -> str:
    channels = g.shape[x][1]
    sizes = [channels // len(kernels)] * len(kernels)
    sizes[0] += channels - sum(sizes)
    pieces, start = [], 0
    for kernel, size in zip(kernels, sizes, strict=True):
        piece = x if len(kernels) == 1 else g.slice(x, start, start + size)
        pieces.append(g.conv(piece, size, kernel, stride, groups=size))
        start += size
    return g.act(g.concat(pieces) if len(pieces) > 1 else pieces[0], act)


def _mixed(g: Builder, x: str, out: int, parts: int, act: str) -> str:
    """A pointwise convolution split into equal parts of channels."""
    if parts == 1:
        return g.conv(x, out, act=act)
    size = g.shape[x][1] // parts
    pieces = [g.conv(g.slice(x, i * size, (i + 1) * size), out // parts) for i in range(parts)]
    return g.act(g.concat(pieces), act)
