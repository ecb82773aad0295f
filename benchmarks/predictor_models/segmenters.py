"""PIDNet-S (Xu et al. 2022, figure 4; MIT) as it is deployed: without the auxiliary heads of training."""

from __future__ import annotations

import onnx

from .builder import Builder

PLANES, PYRAMID, HEAD = 32, 96, 128


def pidnet_s(size: int, classes: int) -> onnx.ModelProto:
    """Three branches: details (P), context (I) and boundaries (D); the output is an eighth of the input."""
    g = Builder(3, size, size)
    c = PLANES
    x = g.conv(g.conv("input", c, 3, 2, act="relu"), c, 3, 2, act="relu")
    x = g.act(_basics(g, x, c, 2, 1), "relu")
    x = g.act(_basics(g, x, 2 * c, 2, 2), "relu")
    p, d = _basics(g, x, 2 * c, 2, 1), _basic(g, x, c, 1, "")
    i = g.act(_basics(g, x, 4 * c, 3, 2), "relu")
    p = _guide(g, p, g.conv(i, 2 * c))
    d = g.add(d, g.resize(g.conv(i, c, 3), 2, "linear"))
    i = g.act(_basics(g, i, 8 * c, 3, 2), "relu")
    p = _basics(g, g.act(p, "relu"), 2 * c, 2, 1)
    d = _bottleneck(g, g.act(d, "relu"), c, 1, "")
    p = _guide(g, p, g.conv(i, 2 * c))
    d = g.add(d, g.resize(g.conv(i, 2 * c, 3), 4, "linear"))
    p = _bottleneck(g, g.act(p, "relu"), 2 * c, 1, "")
    d = _bottleneck(g, g.act(d, "relu"), 2 * c, 1, "")
    i = _bottleneck(g, _bottleneck(g, i, 8 * c, 2, "relu"), 8 * c, 1, "")
    i = g.resize(_pyramid(g, i, 4 * c), 8, "linear")
    x = g.act(_bag(g, p, i, d), "relu")
    return g.model([g.conv(g.conv(x, HEAD, 3, act="relu"), classes)], "pidnet_s")


def _basic(g: Builder, x: str, out: int, stride: int, act: str) -> str:
    y = g.conv(g.conv(x, out, 3, stride, act="relu"), out, 3)
    same = stride == 1 and g.shape[x][1] == out
    return g.add(y, x if same else g.conv(x, out, 1, stride), act)


def _basics(g: Builder, x: str, out: int, count: int, stride: int) -> str:
    """Residual blocks, the last without its activation."""
    for block in range(count):
        x = _basic(g, x, out, 1 if block else stride, "" if block == count - 1 else "relu")
    return x


def _bottleneck(g: Builder, x: str, planes: int, stride: int, act: str) -> str:
    y = g.conv(g.conv(g.conv(x, planes, act="relu"), planes, 3, stride, act="relu"), 2 * planes)
    same = stride == 1 and g.shape[x][1] == 2 * planes
    return g.add(y, x if same else g.conv(x, 2 * planes, 1, stride), act)


def _guide(g: Builder, x: str, other: str) -> str:
    """Pixel-attention-guided fusion: x (1 - s) + y s, with s the sigmoid of a product of embeddings."""
    factor = g.shape[x][2] // g.shape[other][2]
    embedded = g.resize(g.conv(other, PLANES), factor, "linear")
    _, _, height, width = g.shape[x]
    product = g.mul(g.conv(x, PLANES), embedded)
    summed = g.node("ReduceSum", [product, g.constant([1])], (1, 1, height, width), keepdims=1)
    share = g.act(summed, "sigmoid")
    rest = g.node("Sub", [g.floats(1), share], g.shape[share])
    return g.add(g.mul(x, rest), g.mul(g.resize(other, factor, "linear"), share))


def _pyramid(g: Builder, x: str, out: int) -> str:
    """Parallel aggregation of pooled contexts (PAPPM)."""
    size = g.shape[x][2]
    own = g.conv(g.act(x, "relu"), PYRAMID)
    levels = []
    for kernel, stride in ((5, 2), (9, 4), (17, 8)):
        pooled = g.pool(x, kernel, stride, kernel // 2, kind="AveragePool")
        small = g.conv(g.act(pooled, "relu"), PYRAMID)
        levels.append(g.add(g.resize(small, size / g.shape[small][2], "linear"), own))
    levels.append(g.add(g.resize(g.conv(g.act(g.gap(x), "relu"), PYRAMID), size, "linear"), own))
    joined = g.act(g.concat(levels), "relu")
    mixed = g.conv(joined, 4 * PYRAMID, 3, groups=4)
    y = g.conv(g.act(g.concat([own, mixed]), "relu"), out)
    return g.add(y, g.conv(g.act(x, "relu"), out))


def _bag(g: Builder, p: str, i: str, d: str) -> str:
    """Light boundary-attention-guided fusion."""
    share = g.act(d, "sigmoid")
    rest = g.node("Sub", [g.floats(1), share], g.shape[share])
    width = g.shape[p][1]
    left = g.conv(g.add(g.mul(i, rest), p), width)
    return g.add(left, g.conv(g.add(g.mul(p, share), i), width))
