"""Detection and segmentation networks, from their papers and Apache-2.0, MIT or BSD definitions."""

from __future__ import annotations

from collections.abc import Sequence

import onnx

from .builder import Builder
from .classifiers import basic, resnet_stages


def fcn_resnet18(width: int, height: int, classes: int) -> onnx.ModelProto:
    """Long et al. 2015 on ResNet-18 without upsampling, as jetson-inference (MIT) ships it."""
    g = Builder(3, height, width)
    x = resnet_stages(g, "resnet18")[-1]
    return g.model([g.conv(g.conv(x, 128, 3, act="relu"), classes)], "fcn_resnet18")


YOLOX = {
    "n": (0.33, 0.25), "t": (0.33, 0.375), "s": (0.33, 0.5), "m": (0.67, 0.75), "l": (1.0, 1.0), "x": (1.33, 1.25),
}  # fmt: skip


def yolox(kind: str, size: int, classes: int) -> onnx.ModelProto:
    """Ge et al. 2021 (YOLOX, Apache-2.0); the nano version uses depthwise separable convolutions."""
    depth, width = YOLOX[kind]
    net = _YoloX(Builder(3, size, size), depth, width, kind == "n")
    return net.build(classes, f"yolox_{kind}")


class _YoloX:
    def __init__(self, g: Builder, depth: float, width: float, separable: bool) -> None:
        self.g, self.width, self.separable = g, width, separable
        self.base = max(round(3 * depth), 1)

    def wide(self, channels: int) -> int:
        return int(channels * self.width)

    def big(self, x: str, out: int, stride: int = 1) -> str:
        """The 3x3 convolution of this size of network."""
        g = self.g
        if not self.separable:
            return g.conv(x, out, 3, stride, act="silu")
        return g.conv(g.conv(x, g.shape[x][1], 3, stride, groups=g.shape[x][1], act="silu"), out, act="silu")

    def csp(self, x: str, out: int, count: int, shortcut: bool) -> str:
        g, inner = self.g, out // 2
        a, b = g.conv(x, inner, act="silu"), g.conv(x, inner, act="silu")
        for _ in range(count):
            y = self.big(g.conv(a, inner, act="silu"), inner)
            a = g.add(y, a) if shortcut else y
        return g.conv(g.concat([a, b]), out, act="silu")

    def backbone(self) -> list[str]:
        g = self.g
        _, _, height, width = g.shape["input"]
        parts = []
        for dy, dx in ((0, 0), (1, 0), (0, 1), (1, 1)):
            parts.append(g.slice(g.slice("input", dy, height, 2, 2), dx, width, 3, 2))
        x = g.conv(g.concat(parts), self.wide(64), 3, act="silu")
        ends = []
        for i, (channels, count) in enumerate(((128, 1), (256, 3), (512, 3), (1024, 1))):
            x = self.big(x, self.wide(channels), 2)
            if i == 3:
                y = g.conv(x, self.wide(512), act="silu")
                x = g.conv(
                    g.concat([y, *(g.pool(y, k, 1, k // 2) for k in (5, 9, 13))]), self.wide(1024), act="silu"
                )
            x = self.csp(x, self.wide(channels), self.base * count, i < 3)
            ends.append(x)
        return ends[1:]

    def neck(self, c3: str, c4: str, c5: str) -> list[str]:
        g, wide, base = self.g, self.wide, self.base
        p5 = g.conv(c5, wide(512), act="silu")
        x = self.csp(g.concat([g.resize(p5, 2), c4]), wide(512), base, False)
        p4 = g.conv(x, wide(256), act="silu")
        n3 = self.csp(g.concat([g.resize(p4, 2), c3]), wide(256), base, False)
        n4 = self.csp(g.concat([self.big(n3, wide(256), 2), p4]), wide(512), base, False)
        n5 = self.csp(g.concat([self.big(n4, wide(512), 2), p5]), wide(1024), base, False)
        return [n3, n4, n5]

    def build(self, classes: int, name: str) -> onnx.ModelProto:
        g = self.g
        rows = []
        for level in self.neck(*self.backbone()):
            x = g.conv(level, self.wide(256), act="silu")
            c = self.big(self.big(x, self.wide(256)), self.wide(256))
            r = self.big(self.big(x, self.wide(256)), self.wide(256))
            y = g.concat([g.conv(r, 4), g.conv(r, 1, act="sigmoid"), g.conv(c, classes, act="sigmoid")])
            _, channels, height, width = g.shape[y]
            rows.append(g.reshape(y, (1, channels, height * width, 1)))
        total = sum(g.shape[row][2] for row in rows)
        joined = g.node("Concat", rows, (1, classes + 5, total, 1), axis=2)
        return g.model([g.transpose(joined, (0, 2, 1, 3))], name)


def ssd_mobilenet(size: int, classes: int) -> onnx.ModelProto:
    """SSD on MobileNetV1 (MLPerf inference, Apache-2.0): Liu et al. 2016, Howard et al. 2017."""
    g = Builder(3, size, size)
    x = g.conv("input", 32, 3, 2, act="relu6")
    ends = []
    for out, stride in ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2),
                        (1024, 1)):  # fmt: skip
        if out == 1024 and stride == 2:
            ends.append(x)
        x = g.conv(g.conv(x, g.shape[x][1], 3, stride, groups=g.shape[x][1], act="relu6"), out, act="relu6")
    ends.append(x)
    for inner, out in ((256, 512), (128, 256), (128, 256), (64, 128)):
        x = g.conv(g.conv(x, inner, act="relu6"), out, 3, 2, act="relu6")
        ends.append(x)
    heads = _ssd_heads(g, ends, (3, 6, 6, 6, 6, 6), classes, 1)
    return g.model(_select(g, heads, classes), "ssd_mobilenet")


def _select(g: Builder, outputs: Sequence[str], classes: int) -> list[str]:
    """What follows the heads in the engine: gathering, softmax, and the first step of the suppression."""
    parts = []
    for head in outputs:
        _, channels, height, width = g.shape[head]
        parts.append(g.reshape(head, (1, channels * height * width)))
    boxes, scores = parts[::2], parts[1::2]
    total = sum(g.shape[part][1] for part in scores) // classes
    joined = g.node("Concat", scores, (1, total * classes), axis=1)
    best = g.node("Softmax", [g.reshape(joined, (1, total, classes))], (1, total, classes), axis=2)
    every = g.node("Concat", boxes, (1, total * 4), axis=1)
    decoded = g.node("Exp", [every], (1, total * 4))
    ranked = g.node("ReduceMax", [best], (1, 1, classes), axes=[1], keepdims=1)
    return [ranked, decoded, best]


def _ssd_heads(
    g: Builder, ends: Sequence[str], anchors: Sequence[int], classes: int, kernel: int, strides: Sequence[int] = ()
) -> list[str]:
    outputs = []
    for i, (end, count) in enumerate(zip(ends, anchors, strict=True)):
        stride = strides[i] if strides else 1
        for width in (4, classes):
            outputs.append(g.conv(end, count * width, kernel, stride))
    return outputs


def ssd_resnet34(size: int, classes: int) -> onnx.ModelProto:
    """SSD on ResNet-34 at 1200 px (MLPerf inference 0.5 to 2.0, Apache-2.0)."""
    g = Builder(3, size, size)
    x = g.pool(g.conv("input", 64, 7, 2, act="relu"), 3, 2, 1)
    for stage, count in enumerate((3, 4, 6)):
        for block in range(count):
            x = basic(g, x, 64 << stage, 2 if stage == 1 and not block else 1)
    ends = [x]
    extra = ((256, 512, 2, 1), (256, 512, 2, 1), (128, 256, 2, 1), (128, 256, 2, 0), (128, 256, 1, 0))
    for inner, out, stride, pad in extra:
        x = g.conv(g.conv(x, inner, act="relu"), out, 3, stride, pad=pad, act="relu")
        ends.append(x)
    heads = _ssd_heads(g, ends, (4, 6, 6, 6, 4, 4), classes, 3, (3, 3, 2, 2, 2, 2))
    return g.model(_select(g, heads, classes), "ssd_resnet34")


def retinanet(size: int, classes: int) -> onnx.ModelProto:
    """RetinaNet on ResNeXt50 at 800 px (MLPerf inference 2.1 and later; torchvision, BSD-3)."""
    g = Builder(3, size, size)
    _, c3, c4, c5 = resnet_stages(g, "resnext50")
    l3, l4, l5 = (g.conv(c, 256) for c in (c3, c4, c5))
    m4 = g.add(l4, _like(g, l5, l4))
    m3 = g.add(l3, _like(g, m4, l3))
    levels = [g.conv(m3, 256, 3), g.conv(m4, 256, 3), g.conv(l5, 256, 3)]
    levels.append(g.conv(levels[2], 256, 3, 2))
    levels.append(g.conv(g.act(levels[3], "relu"), 256, 3, 2))
    outputs = []
    for level in levels:
        for out in (9 * classes, 36):
            x = level
            for _ in range(4):
                x = g.conv(x, 256, 3, act="relu")
            outputs.append(g.conv(x, out, 3, act="sigmoid" if out != 36 else ""))
    flat = [g.reshape(o, (1, g.shape[o][1] * g.shape[o][2] * g.shape[o][3])) for o in outputs]
    scores = g.node("Concat", flat[::2], (1, sum(g.shape[f][1] for f in flat[::2])), axis=1)
    ranked = g.node("ReduceMax", [scores], (1, 1), axes=[1], keepdims=1)
    return g.model([ranked, *flat[1::2]], "retinanet")


def _like(g: Builder, x: str, other: str) -> str:
    """Upsampled to the size of another tensor."""
    return g.resize(x, 2) if g.shape[other][2] == 2 * g.shape[x][2] else g.node("Resize", [x], g.shape[other])
