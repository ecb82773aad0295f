"""Networks with attention, from their papers and Apache-2.0 or MIT definitions."""

from __future__ import annotations

import onnx

from .builder import Builder
from .classifiers import inverted


def _block(g: Builder, x: str, heads: int, inner: int, act: str = "gelu", scaled: bool = False) -> str:
    """Transformer encoder block with the norms first; ``scaled`` is LayerScale (Touvron et al. 2021)."""
    width = g.shape[x][-1] // heads
    y = g.attention(g.norm(x), heads, width, width)
    x = g.add(g.scale(y) if scaled else y, x)
    y = g.linear(g.linear(g.norm(x), inner, act), g.shape[x][-1])
    return g.add(g.scale(y) if scaled else y, x)


def _tokens(g: Builder, x: str) -> str:
    """(1, C, H, W) to (1, H x W, C)."""
    _, channels, height, width = g.shape[x]
    return g.transpose(g.reshape(x, (1, channels, height * width)), (0, 2, 1))


def _patches(g: Builder, patch: int, width: int) -> str:
    """Patch embedding with a class token and positions."""
    x = _tokens(g, g.conv("input", width, patch, patch, pad=0))
    tokens = g.shape[x][1] + 1
    x = g.node("Concat", [g.floats(1, 1, width), x], (1, tokens, width), axis=1)
    return g.node("Add", [x, g.floats(1, tokens, width)], (1, tokens, width))


def vit_tiny(size: int, classes: int) -> onnx.ModelProto:
    """Dosovitskiy et al. 2020 in the tiny size of DeiT (Touvron et al. 2020, Apache-2.0): 12 blocks, 3 heads."""
    g = Builder(3, size, size)
    x = _patches(g, 16, 192)
    for _ in range(12):
        x = _block(g, x, 3, 768)
    x = g.reshape(g.slice(g.norm(x), 0, 1, 1), (1, 192))
    return g.model([g.fc(x, classes)], "vit_tiny")


def efficientformer_l1(size: int, classes: int) -> onnx.ModelProto:
    """Li et al. 2022 (Apache-2.0): pooling blocks, then one of attention, 8 heads, keys of 32, values of 128."""
    g = Builder(3, size, size)
    x = g.conv(g.conv("input", 24, 3, 2, act="relu"), 48, 3, 2, act="relu")
    for stage, (width, count) in enumerate(((48, 3), (96, 2), (224, 6), (448, 4))):
        if stage:
            x = g.conv(x, width, 3, 2)
        for _ in range(count - (stage == 3)):
            pooled = g.pool(x, 3, 1, 1, kind="AveragePool")
            x = g.add(g.scale(g.node("Sub", [pooled, x], g.shape[x])), x)
            x = g.add(g.conv(g.conv(x, 4 * width, act="gelu"), width), x)
    x = _tokens(g, x)
    x = g.add(g.scale(g.attention(g.norm(x), 8, 32, 128, biased=True)), x)
    x = g.add(g.scale(g.linear(g.linear(g.norm(x), 1792, "gelu"), 448)), x)
    mean = g.node("ReduceMean", [g.norm(x)], (1, 448), axes=[1], keepdims=0)
    return g.model([g.fc(mean, classes)], "efficientformer_l1")


def mobilevit_s(size: int, classes: int) -> onnx.ModelProto:
    """Mehta and Rastegari 2021, table 4, size S; also in timm (Apache-2.0)."""
    g = Builder(3, size, size)
    x = g.conv("input", 16, 3, 2, act="silu")
    for out, stride in ((32, 1), (64, 2), (64, 1), (64, 1)):
        x = inverted(g, x, 4 * g.shape[x][1], out, 3, stride, "silu")
    for out, width, count in ((96, 144, 2), (128, 192, 4), (160, 240, 3)):
        x = inverted(g, x, 4 * g.shape[x][1], out, 3, 2, "silu")
        x = _mobilevit_block(g, x, width, count)
    return g.model([g.fc(g.gap(g.conv(x, 640, act="silu")), classes)], "mobilevit_s")


def _mobilevit_block(g: Builder, x: str, width: int, count: int) -> str:
    """Figure 1b: transformers over the four pixels of all patches of 2x2."""
    _, channels, height, wide = g.shape[x]
    rows, columns = height // 2, wide // 2
    y = g.conv(g.conv(x, channels, 3, act="silu"), width)
    y = g.transpose(g.reshape(y, (width * rows, 2, columns, 2)), (0, 2, 1, 3))
    y = g.transpose(g.reshape(y, (1, width, rows * columns, 4)), (0, 3, 2, 1))
    y = g.reshape(y, (4, rows * columns, width))
    for _ in range(count):
        y = _block(g, y, 4, 2 * width, "silu")
    y = g.reshape(g.norm(y), (1, 4, rows * columns, width))
    y = g.reshape(g.transpose(y, (0, 3, 2, 1)), (width * rows, columns, 2, 2))
    y = g.reshape(g.transpose(y, (0, 2, 1, 3)), (1, width, height, wide))
    y = g.conv(y, channels, act="silu")
    return g.conv(g.concat([x, y]), channels, 3, act="silu")


DEPTH = {"s": (384, 6, 64, (48, 96, 192, 384)), "b": (768, 12, 128, (96, 192, 384, 768))}


def depth_anything_v2(kind: str, size: int) -> onnx.ModelProto:
    """Yang et al. 2024 (code Apache-2.0): DINOv2 (Oquab et al. 2023) and the head of DPT (Ranftl et al. 2021)."""
    width, heads, features, levels = DEPTH[kind]
    g = Builder(3, size, size)
    x = _patches(g, 14, width)
    grid = size // 14
    ends = []
    for block in range(12):
        x = _block(g, x, heads, 4 * width, scaled=True)
        if block % 3 == 2:
            tokens = g.slice(g.norm(x), 1, grid * grid + 1, 1)
            ends.append(g.reshape(g.transpose(tokens, (0, 2, 1)), (1, width, grid, grid)))
    maps = [g.conv(end, out) for end, out in zip(ends, levels, strict=True)]
    maps[0], maps[1] = g.deconv(maps[0], levels[0], 4), g.deconv(maps[1], levels[1], 2)
    maps[3] = g.conv(maps[3], levels[3], 3, 2)
    maps = [g.conv(one, features, 3) for one in maps]
    path = _fuse(g, maps[3], "")
    for level in (2, 1, 0):
        path = _fuse(g, maps[level], path)
    x = g.resize(g.conv(path, features // 2, 3), size / g.shape[path][2], "linear")
    return g.model([g.conv(g.conv(x, 32, 3, act="relu"), 1, act="relu")], f"depth_anything_v2_{kind}")


def _fuse(g: Builder, x: str, path: str) -> str:
    """Feature fusion block of DPT."""
    if path:
        x = g.add(_unit(g, x), path)
    return g.conv(g.resize(_unit(g, x), 2, "linear"), g.shape[x][1])


def _unit(g: Builder, x: str) -> str:
    """Residual convolution unit, activation first."""
    width = g.shape[x][1]
    return g.add(g.conv(g.conv(g.act(x, "relu"), width, 3, act="relu"), width, 3), x)
