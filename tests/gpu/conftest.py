"""Everything here builds and runs real engines; elsewhere it is skipped with the reason."""

import json

import numpy as np
import pytest

from tests.gpu.common import settings, sources
from toolkit.engines import build_engine
from toolkit.engines.driver import driver_problem
from toolkit.engines.probe import probe
from toolkit.errors import EngineError


@pytest.fixture(scope="session")
def tensorrt():
    """The TensorRT that can build and run here; skips where there is none."""
    problem = driver_problem()
    if problem:
        pytest.skip(f"no GPU: {problem}")
    found = {status.engine: status for status in probe()}
    for kind in ("tensorrt", "tensorrt_rtx"):
        if found[kind].can_run:
            return kind
    pytest.skip("no TensorRT that runs: " + "; ".join(f"{kind}: {found[kind].note}" for kind in found))


@pytest.fixture(scope="session")
def models(request):
    """Folder with prepared models: ONNX files, one .npz of inputs and outputs of ONNX Runtime for each.

    ``python -m tests.gpu.prepare FOLDER`` writes it on a machine with the host extra; a GPU host without onnx
    and torch needs nothing but the folder.
    """
    folder = request.config.rootpath / "build" / "gpu-models"
    if not (folder / "models.json").is_file():
        pytest.skip(f"no models in {folder}; write them with: python -m tests.gpu.prepare {folder}")
    return folder


@pytest.fixture(scope="session")
def known(models):
    """What is known of each prepared model: form, step, and its reference arrays."""
    table = json.loads((models / "models.json").read_text(encoding="utf-8"))

    def load(name):
        with np.load(models / f"{name}.npz", allow_pickle=False) as arrays:
            return {**table[name], "picture": arrays["picture"], "wire": arrays["wire"]}

    return load


@pytest.fixture(scope="session")
def built(tensorrt, models, known, tmp_path_factory):
    """(engine, name of its model) for each precision that this TensorRT builds; why, for one that it does not."""
    folder = tmp_path_factory.mktemp("engines")
    engines = {}
    for precision, name in sources(tensorrt).items():
        options = settings(tensorrt, known(name)["step"], precision=precision)
        try:
            engines[precision] = build_engine(models / f"{name}.onnx", folder / f"{precision}.plan", options), name
        except EngineError as error:
            engines[precision] = str(error)
    return engines
