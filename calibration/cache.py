"""TensorRT's calibration cache in its text form, and the key that ties it to what it was made from.

The format: a header line ``TRT-<version>-EntropyCalibration2``, then ``tensor: hex`` lines, where hex is the
big-endian IEEE-754 float32 of the scale (threshold / 127), without ``0x``. Only DLA on TensorRT below 11 needs it.
The key does not fit into that text; it lies beside it in ``<name>.key.json``.
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from calibration.errors import CacheMismatchError
from calibration.placement import Plan
from calibration.prepare import Prepared
from calibration.scales import Scales
from calibration.table import TABLE

HEADER = "TRT-8502-EntropyCalibration2"
HEADER_FORM = re.compile(r"^TRT-\d+-\w+$")
LINE = re.compile(r"^(?P<tensor>.+): (?P<code>[0-9a-fA-F]{1,8})$")


@dataclass(frozen=True)
class CalibrationCache:
    """Scales of the tensors of an unquantized network.

    Attributes:
        scales: tensor -> scale, in the network's order.
        key: sha256 over model, pictures, preprocessing and method (see :func:`cache_key`).
        header: first line of the text.
    """

    scales: Mapping[str, float]
    key: str
    header: str = HEADER

    def to_text(self) -> str:
        """The text that TensorRT reads."""
        return format_cache(self)


def cache_key(model: bytes, data_hash: str, pictures_hash: str, preprocess_hash: str, method: str) -> str:
    """sha256 over everything that the scales depend on."""
    parts = [hashlib.sha256(model).hexdigest(), data_hash, pictures_hash, preprocess_hash, method]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def format_cache(cache: CalibrationCache) -> str:
    """The text that TensorRT reads."""
    lines = [f"{tensor}: {struct.pack('>f', scale).hex()}" for tensor, scale in cache.scales.items()]
    return "\n".join([cache.header, *lines]) + "\n"


def parse_cache(text: str, key: str = "") -> CalibrationCache:
    """Read the text form.

    Raises:
        CacheMismatchError: it is no calibration cache, or a scale is not a positive number.
    """
    header, _, rest = text.partition("\n")
    if not HEADER_FORM.match(header.strip()):
        raise CacheMismatchError(f"not a TensorRT calibration cache: the first line is {header[:40]!r}")
    scales: dict[str, float] = {}
    for number, line in enumerate(rest.splitlines(), start=2):
        if not line.strip():
            continue
        match = LINE.match(line.rstrip())
        if match is None:
            raise CacheMismatchError(f"line {number} of the calibration cache is not 'tensor: hex': {line[:60]!r}")
        [scale] = struct.unpack(">f", bytes.fromhex(match["code"].zfill(8)))
        if not 0.0 < scale < float("inf"):
            raise CacheMismatchError(
                f"line {number} of the calibration cache holds the scale {scale}; calibrate again"
            )
        scales[match["tensor"]] = scale
    return CalibrationCache(scales, key, header.strip())


def write_cache(path: Path, cache: CalibrationCache) -> None:
    """Write the text and its key file."""
    text = format_cache(cache)
    sidecar = {"key": cache.key, "text_sha256": hashlib.sha256(text.encode()).hexdigest()}
    path.write_text(text, encoding="utf-8")
    key_path(path).write_text(json.dumps(sidecar, indent=1) + "\n", encoding="utf-8")


def read_cache(path: Path, key: str) -> CalibrationCache:
    """Read a cache that was made from exactly what ``key`` stands for.

    Raises:
        CacheMismatchError: a file is missing or changed, or the key is another one.
    """
    if not path.is_file() or not key_path(path).is_file():
        raise CacheMismatchError(f"{path} or its key file is missing; run the quantize stage again")
    text = path.read_text(encoding="utf-8")
    try:
        sidecar = json.loads(key_path(path).read_text(encoding="utf-8"))
        stored, digest = sidecar["key"], sidecar["text_sha256"]
    except (ValueError, KeyError, TypeError) as error:
        raise CacheMismatchError(f"{key_path(path)} cannot be read; run the quantize stage again") from error
    if digest != hashlib.sha256(text.encode()).hexdigest():
        raise CacheMismatchError(f"{path} was changed after it was written; run the quantize stage again")
    if stored != key:
        raise CacheMismatchError(
            f"{path} belongs to another model, picture list, preprocessing or method; run the quantize stage again"
        )
    return parse_cache(text, key)


def key_path(path: Path) -> Path:
    """Where a cache's key lies."""
    return path.with_name(path.name + ".key.json")


def cache_scales(
    prepared: Prepared, plan: Plan, scales: Scales, ranges: Mapping[str, tuple[float, float]]
) -> dict[str, float]:
    """Scales for every float tensor of the unquantized network, from the Q/DQ scales.

    A tensor in front of fused activations gets the scale of what leaves them, as TensorRT fuses them; the wire's
    feature gets the wire's step; tensors that no pair covers get their observed range over 127.
    """
    known: dict[str, float] = {**scales.internal, **scales.activations, prepared.wire.feature: prepared.wire.step}
    graph = prepared.graph
    for node in reversed(tuple(graph.nodes.values())):
        out, source = node.output[0], node.input[0]
        carried = node.op_type in TABLE.saturating | TABLE.share_scale
        if carried and out in known and source not in known and source not in graph.constants:
            known[source] = known[out]
    result: dict[str, float] = {}
    for name in [prepared.picture, *(out for node in graph.nodes.values() for out in node.output)]:
        if name == prepared.wire.output:
            continue
        low, high = ranges.get(name, (0.0, 0.0))
        observed = max(abs(low), abs(high)) / TABLE.activation_codes[1]
        scale = known.get(name, observed)
        if scale > 0:
            result[name] = float(scale)
    return result
