"""The engine of a bundle: built by the same builder as a run's, verified against the test vectors."""

import json
import tarfile

import numpy as np
import onnx
import pytest
from typer.testing import CliRunner

from targets.errors import BundleError
from targets.jetson.bundle import BundleSpec, TestVector, write_bundle
from tests.unit.test_bundle_command import edge
from toolkit.cli import app
from toolkit.engines.bundled import build_bundled
from toolkit.engines.errors import EngineBuildError, EngineMismatchError, NoDeviceError
from toolkit.engines.ort import open_session
from toolkit.engines.settings import RunSettings
from toolkit.engines.sidecar import Sidecar, sidecar_path
from toolkit.errors import SettingsError
from toolkit.export.private_noise import attach_private_noise
from toolkit.profiling.bundled import time_bundled
from toolkit.wire import WireFormat

runner = CliRunner()


def bundle(folder, shift=0):
    """An unpacked bundle of a real network; ``shift`` is added to the expected codes."""
    networks = {}
    for form in "ab":
        networks[form] = folder / f"edge.{form}.onnx"
        onnx.save(edge(), str(networks[form]))
    picture = np.random.default_rng(0).random((1, 3, 4, 4), np.float32)
    (codes,) = open_session(networks["a"].read_bytes(), RunSettings()).run(["wire"], {"picture": picture})
    vectors = (TestVector(picture, (codes + shift).astype(np.int8)),)
    wire = {"wire.json": json.dumps({"step": 0.05})}
    write_bundle(BundleSpec("small", networks, vectors, texts=wire), folder / "small.tar.gz")
    with tarfile.open(folder / "small.tar.gz") as opened:
        opened.extractall(folder, filter="data")
    return folder / "small"


def test_an_engine_is_built_and_verified(tmp_path):
    root, out = bundle(tmp_path), tmp_path / "edge.engine"
    shown = runner.invoke(app, ["engine", str(root), "--out", str(out), "--engine", "onnxruntime", "--json"])
    said = json.loads(shown.stdout)
    assert said == {"path": str(out), "form": "a", "equal": 1.0, "within_one": 1.0}
    assert Sidecar.load(out).engine == "onnxruntime" and out.is_file()
    shown = runner.invoke(app, ["engine", str(root), "--out", str(out), "--engine", "onnxruntime", "--form", "b"])
    assert "form b, 1.0000 of the codes equal the host's" in shown.output


def test_wrong_codes_leave_no_engine(tmp_path):
    root, out = bundle(tmp_path, shift=3), tmp_path / "edge.engine"
    with pytest.raises(EngineBuildError, match=r"0\.0000 are equal \(at least 0\.9\)"):
        build_bundled(root, out, "onnxruntime")
    assert not out.exists() and not sidecar_path(out).exists()


def test_what_cannot_be_built_says_so(tmp_path):
    root, out = bundle(tmp_path), tmp_path / "edge.engine"
    with pytest.raises(EngineBuildError, match="no network in form float; it has a, b"):
        build_bundled(root, out, "onnxruntime", "float")
    with pytest.raises(SettingsError, match="none of tensorrt"):
        runner.invoke(app, ["engine", str(root), "--out", str(out), "--engine", "x"], catch_exceptions=False)
    (root / "wire.json").write_text("{}")
    with pytest.raises(BundleError, match=r"wire\.json has 2 bytes"):
        build_bundled(root, out, "onnxruntime")


def test_an_engine_that_cannot_run_here_is_not_kept(tmp_path):
    """TensorRT-RTX builds form B for real; without a GPU nothing can verify it."""
    pytest.importorskip("tensorrt_rtx")
    from toolkit.engines.driver import list_gpus

    if list_gpus():
        pytest.skip("there is a GPU here, so that the engine can be verified")
    root, out = bundle(tmp_path), tmp_path / "edge.engine"
    with pytest.raises(NoDeviceError, match="built but cannot be verified here"):
        build_bundled(root, out, "tensorrt_rtx")
    assert not out.exists() and not sidecar_path(out).exists()


def test_an_engine_is_timed(tmp_path):
    root, out = bundle(tmp_path), tmp_path / "edge.engine"
    build_bundled(root, out, "onnxruntime")
    words = ["engine-times", str(root), "--engine", str(out), "--seconds", "0.2"]
    said = json.loads(runner.invoke(app, [*words, "--json"]).stdout)
    assert len(said["times_ms"]) >= 100 and min(said["times_ms"]) > 0
    assert said["protocol"].startswith("CPU") and "without transfers" in said["protocol"]
    shown = runner.invoke(app, words).stdout
    assert shown.startswith("p50 ") and "batch 1" in shown
    out.write_bytes(out.read_bytes() + b"!")
    with pytest.raises(EngineMismatchError):
        runner.invoke(app, words, catch_exceptions=False)


def test_a_network_with_private_noise_is_verified_and_timed_with_it(tmp_path):
    fmt = WireFormat(2, 4, 4, 8, 0.05, True)
    network = tmp_path / "edge.a.onnx"
    onnx.save(attach_private_noise(edge(), fmt, 2.0), str(network))
    random = np.random.default_rng(0)
    picture, noise = random.random((1, 3, 4, 4), np.float32), random.standard_normal((1, 2, 4, 4), np.float32)
    session = open_session(network.read_bytes(), RunSettings())
    (codes,) = session.run(["wire"], {"picture": picture, "noise": noise})
    write_bundle(BundleSpec("small", {"a": network}, (TestVector(picture, codes, noise),)), tmp_path / "n.tar.gz")
    with tarfile.open(tmp_path / "n.tar.gz") as opened:
        opened.extractall(tmp_path, filter="data")
    out = tmp_path / "edge.engine"
    assert build_bundled(tmp_path / "small", out, "onnxruntime", "a").equal == 1.0
    assert time_bundled(tmp_path / "small", out, 0.01).profile.p50 > 0
    changed = TestVector(picture, codes, np.zeros_like(noise))
    write_bundle(BundleSpec("other", {"a": network}, (changed,)), tmp_path / "o.tar.gz")
    with tarfile.open(tmp_path / "o.tar.gz") as opened:
        opened.extractall(tmp_path, filter="data")
    with pytest.raises(EngineBuildError, match="are equal"):
        build_bundled(tmp_path / "other", out, "onnxruntime", "a")
