"""Time of one layer: a roofline over tiles, waves and memory, plus launch and reformat.

A layer takes ``(compute^q + memory^q)^(1/q) + launch``. Compute: the matrix product is cut into output tiles that
the SMs work off in waves; the library is assumed to pick the fastest of some tile sizes and splits of the depth.
Memory: weights and activations over the DRAM bandwidth, activations that fit the L2 cache cheaper.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from targets.jetson.predictor.table import COPY, DEPTHWISE, MATRIX, Array, Table

MACS_PER_CLOCK = {
    "maxwell": (128.0, 256.0, 256.0),
    "pascal": (128.0, 256.0, 256.0),
    "volta": (64.0, 512.0, 1024.0),
    "ampere": (256.0, 1024.0, 2048.0),
    "blackwell": (256.0, 1024.0, 2048.0),
}
"""Multiply-accumulates per SM and clock in FP32 (or TF32), FP16, INT8 (without fast INT8 that of FP16)."""

CHANNEL_MULTIPLE = {
    "maxwell": (1.0, 2.0, 2.0),
    "pascal": (1.0, 2.0, 2.0),
    "volta": (1.0, 8.0, 32.0),
    "ampere": (4.0, 8.0, 32.0),
    "blackwell": (4.0, 8.0, 32.0),
}
CUDA_CORES = {"maxwell": 128.0, "pascal": 128.0, "volta": 64.0, "ampere": 128.0, "blackwell": 128.0}
L2_BYTES = {"maxwell": 256e3, "pascal": 512e3, "volta": 512e3, "ampere": 4e6, "blackwell": 32e6}
FIRST_CHANNELS = 4.0
"""First convolutions have kernels of their own that pad RGB to four channels."""

TILES = ((256, 128), (128, 128), (128, 64), (64, 64), (64, 32), (32, 32), (16, 32))
SPLITS = (1, 2, 4, 8)
SHARPNESS = 3.0
INT8 = 2


@dataclass(frozen=True)
class Machine:
    """What a power mode leaves of a module; numbers, or columns with one entry per layer.

    Attributes:
        macs: per SM and clock, ``(..., 3)`` for FP32, FP16, INT8.
        multiple: channels a tensor core works on at once, like ``macs``.
        cuda_cores: per SM.
        l2: bytes.
        sms: powered.
        ghz: of the GPU.
        gbps: of the DRAM.
    """

    macs: Array
    multiple: Array
    cuda_cores: Array
    l2: Array
    sms: Array
    ghz: Array
    gbps: Array


def machine(generation: str, sms: float, ghz: float, gbps: float) -> Machine:
    """A machine from a generation's constants and the numbers of a power mode."""
    return Machine(
        np.asarray(MACS_PER_CLOCK[generation]),
        np.asarray(CHANNEL_MULTIPLE[generation]),
        np.asarray(CUDA_CORES[generation]),
        np.asarray(L2_BYTES[generation]),
        np.asarray(float(sms)),
        np.asarray(float(ghz)),
        np.asarray(float(gbps)),
    )


@dataclass(frozen=True)
class Coefficients:
    """What is fitted per generation; numbers, or columns with one entry per layer.

    Attributes:
        fp32, fp16, int8: share of the peak that a large matrix product reaches.
        tile: loss by small tiles, in elements of a tile's side.
        depth: work before and behind a tile, in units of the depth.
        winograd: gain of 3x3 convolutions of stride 1 over others.
        product: gain of matrix products over convolutions of the same size.
        depthwise: share of the CUDA cores' peak.
        bandwidth: share of the DRAM bandwidth.
        cached: share of the traffic that the L2 cache keeps, for small tensors.
        launch, launch_int8: kilocycles per layer of a float and of an INT8 engine.
        host: microseconds per layer that no clock of the GPU changes.
        copy: share of copies that are not eliminated.
        smooth: share of smooth activations that are kernels of their own.
        reformat: share of reformats that are.
        window: changes of layout around pooling and resizing, in passes over their tensors.
        fixed: milliseconds per inference.
    """

    fp32: Array
    fp16: Array
    int8: Array
    tile: Array
    depth: Array
    winograd: Array
    product: Array
    depthwise: Array
    bandwidth: Array
    cached: Array
    launch: Array
    launch_int8: Array
    host: Array
    copy: Array
    smooth: Array
    reformat: Array
    window: Array
    fixed: Array


def layer_times(table: Table, device: Machine, fitted: Coefficients) -> Array:
    """Milliseconds of every layer, once."""
    compute, memory = compute_ms(table, device, fitted), memory_ms(table, device, fitted)
    work = (compute**SHARPNESS + memory**SHARPNESS) ** (1 / SHARPNESS)
    cycles = np.where(table.arithmetic == INT8, fitted.launch_int8, fitted.launch)
    launch = (cycles / device.ghz + fitted.host) * 1e-3
    kept = np.where(table.kind == COPY, fitted.copy, 1.0)
    speed = device.gbps * 1e6 * fitted.bandwidth
    smooth = table.smooth * fitted.smooth * (2 * table.written / speed + launch)
    reformat = (table.reformat > 0) * fitted.reformat * (table.reformat / speed + launch)
    window = table.window * fitted.window * (table.activation_bytes / speed + launch)
    return np.asarray(kept * (work + launch) + smooth + reformat + window)


def memory_ms(table: Table, device: Machine, fitted: Coefficients) -> Array:
    """Milliseconds that weights and activations take."""
    in_cache = fitted.cached * np.clip(1 - table.largest / device.l2, 0, 1)
    moved = table.weight_bytes + table.activation_bytes * (1 - in_cache)
    return np.asarray(moved / (device.gbps * 1e6 * fitted.bandwidth))


def compute_ms(table: Table, device: Machine, fitted: Coefficients) -> Array:
    """Milliseconds of arithmetic; 0 for layers without weights."""
    matrix = _matrix_cycles(table, device, fitted)
    macs = table.rows * table.columns * table.depth * table.taps * table.groups
    depthwise = macs / (device.cuda_cores * device.sms * fitted.depthwise)
    cycles = np.where(table.kind == MATRIX, matrix, np.where(table.kind == DEPTHWISE, depthwise, 0.0))
    return np.asarray(cycles / (device.ghz * 1e6))


def _matrix_cycles(table: Table, device: Machine, fitted: Coefficients) -> Array:
    """Cycles of the fastest tile and split."""
    pick = table.arithmetic.astype(int)
    rate = _pick(device.macs, pick) * np.choose(pick, [fitted.fp32, fitted.fp16, fitted.int8])
    rate = rate * np.where(table.winograd > 0, fitted.winograd, 1.0)
    rate = rate * np.where(table.product > 0, fitted.product, 1.0)
    multiple = _pick(device.multiple, pick)
    columns = np.ceil(table.columns / multiple) * multiple
    read = np.where(table.depth <= FIRST_CHANNELS, FIRST_CHANNELS, multiple)
    depth = np.ceil(table.depth / read) * read * table.taps
    best = np.full(len(table), np.inf)
    for tall, wide in TILES:
        tiles = np.ceil(table.rows / tall) * np.ceil(columns / wide) * np.maximum(table.groups, 1)
        efficiency = 1 / (1 + fitted.tile * (1 / tall + 1 / wide))
        for split in SPLITS:
            waves = np.ceil(tiles * split / device.sms)
            inner = depth / split + fitted.depth * (1 if split == 1 else 2)
            best = np.minimum(best, waves * tall * wide * inner / (rate * efficiency))
    return best


def _pick(values: Array, index: Array | np.ndarray) -> Array:
    if values.ndim == 1:
        return np.asarray(values[index])
    return np.asarray(values[np.arange(len(index)), index])
