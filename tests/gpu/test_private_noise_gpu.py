"""Private noise inside real TensorRT engines: the signal is the engine's own, and the noise is added to it."""

import numpy as np
import pytest

from tests.gpu.common import BOUNDS, NOISE, PRIVATE, settings, sources
from toolkit.engines import build_engine, open_engine
from toolkit.engines.edge_inputs import edge_inputs, no_noise
from toolkit.wire import standard_normal

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_codes_are_the_engines_own_and_the_noise(
    tensorrt, models, known, built, precision, tmp_path, record_property
):
    name = sources(tensorrt)[precision]
    path = models / f"{PRIVATE}{name}.onnx"
    if not path.is_file():
        pytest.skip(
            f"no model with noise in {models}; write them again with: python -m tests.gpu.prepare {models}"
        )
    reference = known(name)
    file = build_engine(path, tmp_path / "edge.plan", settings(tensorrt, reference["step"], precision=precision))
    engine = open_engine(file.path)
    try:
        pictures = reference["picture"]
        signal = engine.run(edge_inputs(engine, pictures, no_noise))["wire"]
        inputs = edge_inputs(engine, pictures, lambda shape: standard_normal(shape, np.random.default_rng(0)))
        sent = engine.run(inputs)["wire"]
    finally:
        engine.close()
    agreement, largest = BOUNDS[precision]
    off = np.abs(signal.astype(int) - reference["wire"])
    assert (off == 0).mean() >= agreement and off.max() <= largest, "zeros leave the codes as they are"
    wanted = np.clip(np.rint(signal + np.float32(NOISE) * inputs["noise"]), 0, reference["high"])
    difference = np.abs(sent - wanted)
    record_property("equal", float((difference == 0).mean()))
    # FP32 is exact but for ties; a weakly typed TensorRT may add in FP16, an eighth of a step off
    assert (difference == 0).mean() >= (0.999 if file.sidecar.typing == "strong" else 0.9)
    assert difference.max() <= 1
