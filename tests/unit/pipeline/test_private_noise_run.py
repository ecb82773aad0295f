"""A run whose wire has private noise: from the engines to the report, the bundle and the gate."""

import json
import shutil

import numpy as np
import onnx
import pytest

from calibration.session import open_session
from targets.jetson.device.bundle import read_manifest
from tests.unit.command_line import patrol_edge
from tests.unit.pipeline.commands import hashes, read_json
from toolkit.checks.remeasure import measure_against
from toolkit.metrics import MetricSet
from toolkit.profiling import ProfileSettings
from toolkit.stages.build import noise_random
from toolkit.wire import WireFormat, decode, encode, standard_normal

NOISE = 1.5
DENSE, SLIM, INT8, WHOLE = (
    "dense-fp32-float-w8-onnxruntime",
    "slim-fp32-float-w8-onnxruntime",
    "slim-int8-cpu-w8-onnxruntime",
    "whole-fp32-float-w8-onnxruntime",
)
LESS = (
    "--set", "attack.attackers=[{kind: ridge}]", "--set", "attack.leaks=null", "--set", "attack.seeds=1",
    "--set", "attack.references=[noise]", "--set", "attack.augmented=1", "--set", "attack.bounds=null",
    "--set", "attack.synthetic=0", "--set", "attack.certificate_scenes=2",
)  # fmt: skip


@pytest.fixture(scope="module")
def noisy(finished, tmp_path_factory):
    """The tiny run again, with noise on its wire."""
    copied = finished.copy(tmp_path_factory.mktemp("noisy"))
    outcome = copied.again("--set", f"wire.noise={NOISE}", *LESS)
    assert outcome.code == 0, outcome.log
    yield type(copied)(copied.config, copied.runs, outcome)
    shutil.rmtree(copied.runs, ignore_errors=True)


def report_metrics(finished):
    return MetricSet.load(finished.run.path("report", "metrics.json"))


def test_training_export_and_calibration_do_not_run_again(finished, noisy):
    before = hashes(finished.run, "train", "slim", "export", "quantize")
    assert hashes(noisy.run, "train", "slim", "export", "quantize") == before
    assert "trained with other noise than it sends" in noisy.outcome.log


def test_the_deployed_network_has_noise_and_the_references_do_not(noisy):
    rows = {row["key"]: row for row in read_json(noisy.run.path("build", "variants.json"))["variants"]}
    assert {key: rows[key].get("noise", 0) for key in (DENSE, SLIM, INT8, WHOLE)} == {
        DENSE: 0, SLIM: NOISE, INT8: NOISE, WHOLE: 0,
    }  # fmt: skip
    found = {item.variant: item for item in report_metrics(noisy) if item.name == "wire.noise"}
    assert {SLIM, INT8} <= set(found) and DENSE not in found
    assert found[INT8].value == NOISE and found[INT8].unit == "steps"
    page = noisy.run.path("report", "report.html").read_text(encoding="utf-8")
    assert f"private noise of {NOISE:g} steps" in page


def test_codes_are_the_noise_free_ones_and_the_seeded_noise(finished, noisy):
    fmt = WireFormat.from_json(noisy.run.path("export", "slim", "wire.json").read_text(encoding="utf-8"))
    plain, sent = (np.load(one.run.path("build", "codes", f"{INT8}.npy")) for one in (finished, noisy))
    random = noise_random(1, f"codes {INT8}")
    parts = [standard_normal((len(plain[i : i + 32]), *fmt.shape), random) for i in range(0, len(plain), 32)]
    sigma = np.float32(NOISE) * np.float32(fmt.step)
    assert np.array_equal(sent, encode(decode(plain, fmt) + np.concatenate(parts) * sigma, fmt))
    dense = [np.load(one.run.path("build", "codes", f"{DENSE}.npy")) for one in (finished, noisy)]
    assert np.array_equal(*dense)


def test_every_form_was_judged(noisy):
    rows = read_json(noisy.run.path("build", "private", "acceptance.json"))
    assert {row["verdict"] for row in rows} <= {"accepted", "not run"}
    assert {row["form"] for row in rows} == {"a", "b", "cpu"}


def test_the_sandwich_is_reported_for_one_and_more_frames(noisy):
    metrics = report_metrics(noisy)
    for key in (SLIM, INT8):
        body = read_json(noisy.run.path("attack", key, "certificates.json"))["background"]
        assert body["noise_steps"] == NOISE
        assert [item["frames"] for item in body["sandwiches"]] == [1, 4, 16]
        bounds = []
        for item, suffix in zip(body["sandwiches"], ("", ".frames4", ".frames16"), strict=True):
            name = f"privacy.certificate.background{suffix}"
            (bound,), (truth,), (attack,) = (metrics.find(name + side, key) for side in ("", ".truth", ".attack"))
            assert bound.value == item["certificate"]["accuracy"] and f"noise of {NOISE:g} steps" in bound.protocol
            slack = np.sqrt(-np.log(1e-6) / 2 / item["truth"]["trials"])
            assert truth.value <= bound.value + slack
            assert attack.value <= truth.value + 2 * slack
            assert truth.interval[0] <= truth.value <= truth.interval[1]
            bounds.append(bound.value)
        assert bounds == sorted(bounds)
    (plain,) = metrics.find("privacy.certificate.background", DENSE)
    assert not metrics.find("privacy.certificate.background.truth", DENSE)
    assert "noise" not in plain.protocol
    assert not metrics.find("privacy.reference.noise.ssim"), "the wire itself is the row"
    page = noisy.run.path("report", "report.html").read_text(encoding="utf-8")
    assert "best guess on the codes" in page


def test_a_run_without_noise_shows_the_sandwich_of_its_row_with_noise(finished):
    metrics = report_metrics(finished)
    for content in ("background", "occupants"):
        for suffix in ("", ".frames4", ".frames16"):
            name = f"privacy.certificate.with_noise.{content}{suffix}"
            (bound,), (truth,) = (metrics.find(name + side, INT8) for side in ("", ".truth"))
            assert truth.value <= bound.value + 0.5
    assert finished.run.has("attack", "reference-noise", "certificates.json")


def test_a_bundle_carries_the_noisy_forms_and_the_noise_of_its_vectors(noisy, tmp_path):
    done = patrol_edge("bundle", noisy.runs / "tiny", tmp_path / "tiny.tar.gz", "--vectors", "2")
    assert done.code == 0, done.log
    shutil.unpack_archive(tmp_path / "tiny.tar.gz", tmp_path, filter="data")
    root = tmp_path / "tiny"
    manifest = read_manifest(root)
    assert [port.name for port in manifest.inputs] == ["picture", "noise"]
    assert manifest.noise.shape == manifest.output.shape
    model = onnx.load(str(root / manifest.networks["a"]))
    assert (root / manifest.networks["a"]).read_bytes() == noisy.run.path(
        "build", "private", "edge.a.onnx"
    ).read_bytes()
    session = open_session(model, 1)
    for vector in manifest.vectors:
        inputs = {
            port.name: np.fromfile(root / name, "<f4").reshape(port.shape)
            for port, name in zip(manifest.inputs, (vector.input, vector.noise), strict=True)
        }
        codes = session.run(["wire"], inputs)[0]
        assert np.array_equal(codes.ravel(), np.fromfile(root / vector.expected, np.int8))
        assert abs(inputs["noise"].std() - 1) < 0.3


def test_engines_are_timed_again_against_a_run_without_noise(finished, noisy):
    quick = ProfileSettings(warmup_s=0, warmup_limit_s=0.01, duration_s=0.01, rounds=10)
    [found] = measure_against(noisy.run, finished.run, [INT8], "here", quick)
    assert found.ratio.value > 0 and json.loads(found.ratio.model_dump_json())["protocol"] == "against:baseline"
