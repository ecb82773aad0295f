"""Records of devices in the report: only of this run's network, measured where it says, nothing invented."""

import json

import pytest

from targets.errors import BundleError
from targets.jetson.remote import Deployed
from tests.unit.command_line import patrol_edge
from tests.unit.pipeline.commands import sha256
from toolkit.commands.bundle import save_records
from toolkit.errors import ArtifactError
from toolkit.metrics import MetricSet
from toolkit.stages.measured import machine_of, read_measured, record_files

DEVICE = {
    "model": "NVIDIA Jetson Orin Nano Developer Kit",
    "module": "orin-nano-8gb",
    "mode": {"id": 0, "name": "15W"},
    "l4t": {"version": "36.4.3"},
    "tensorrt": "10.3.0",
}
MACHINE = "NVIDIA Jetson Orin Nano Developer Kit, 15W, L4T 36.4.3, TensorRT 10.3.0"


def record(run, **changes):
    """As deploy --save writes it."""
    metrics = {
        "n": 400,
        "device": DEVICE,
        "latency_ms": {"p50": 0.5, "p90": 0.6, "p95": 0.7, "p99": 0.9},
        "throttled": False,
        "gpu_mhz": [611.0, 624.75],
        "power_w": 6.0,
        "power_samples": 40,
        "power_rails": ["VDD_IN"],
        "power_curve": [[0.0, 5.0], [0.1, 6.0], [0.2, 6.1]],
    }
    return {
        "schema": 1,
        "network": {"form": "b", "sha256": sha256(run.path("quantize", "edge.b.onnx"))},
        "precision": "int8",
        "build": {"equal": 0.998},
        "metrics": {**metrics, **changes},
    }


def written(folder, body):
    folder.mkdir(exist_ok=True)
    (folder / "user-device.json").write_text(json.dumps(body))
    return folder


def test_a_device_s_numbers_stand_in_the_report(copied, tmp_path):
    folder = written(tmp_path / "records", record(copied.run))
    outcome = copied.again("--set", f"report.measured=[{folder}]", command="report")
    assert outcome.code == 0, outcome.log
    metrics = MetricSet.load(copied.run.path("report", "metrics.json"))
    found = {metric.name: metric for metric in metrics if metric.machine == MACHINE}
    latencies = {f"latency.p{percent}" for percent in (50, 90, 95, 99)}
    assert set(found) == {*latencies, "power.mean", "energy.per_picture"}
    assert all(metric.provenance == "measured" for metric in found.values())
    assert found["latency.p50"].variant == "slim-int8-b-w8-tensorrt" and found["latency.p50"].n == 400
    assert found["energy.per_picture"].value == pytest.approx(3.0) and found["energy.per_picture"].unit == "mJ"
    page = copied.run.path("report", "report.html").read_text(encoding="utf-8")
    for said in (MACHINE, "99.80%", "611 to 625", "Power at the device"):
        assert said in page
    assert "user-device" not in page, "names of hosts are not published"


def test_without_samples_of_the_rails_power_is_absent(finished, tmp_path):
    body = record(finished.run)
    for name in ("power_w", "power_samples", "power_rails", "power_curve"):
        del body["metrics"][name]
    (item,) = read_measured((written(tmp_path / "records", body),), finished.run, 8)
    assert {metric.name.partition(".")[0] for metric in item.metrics()} == {"latency"}
    assert item.power == [] and item.cells()[4] == ""


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda body: body["network"].update(sha256="0" * 64), "another network"),
        (lambda body: body.update(schema=2), "not a device record"),
        (lambda body: body["metrics"].pop("latency_ms"), "not a device record"),
        (lambda body: body["metrics"].update(n=0), "not a device record"),
        (lambda body: body["metrics"].update(power_curve=[["a"]]), "not a device record"),
    ],
)
def test_wrong_records_are_refused_by_name(finished, tmp_path, change, words):
    body = record(finished.run)
    change(body)
    with pytest.raises(ArtifactError, match=words) as caught:
        read_measured((written(tmp_path / "records", body),), finished.run, 8)
    assert "user-device.json" in str(caught.value)


def test_what_deploy_saves_is_of_the_network_in_the_bundle(finished, tmp_path):
    archive = tmp_path / "tiny.tar.gz"
    outcome = patrol_edge("bundle", finished.runs / "tiny", archive, "--vectors", "1")
    assert outcome.code == 0, outcome.log
    body = record(finished.run)
    build = {"form": "b", "rebuilt": True, "equal": 0.998}
    done = Deployed("user@jetson:22", build=build, metrics=body["metrics"])
    (path,) = save_records([done, Deployed("other", error="no route")], archive, tmp_path / "records")
    assert path.name == "user-jetson-22.json"
    assert json.loads(path.read_text()) == body | {"build": build}
    assert read_measured((tmp_path / "records",), finished.run, 8)[0].machine == MACHINE
    with pytest.raises(BundleError, match="is no bundle"):
        save_records([done], finished.config, tmp_path / "records")


def test_a_path_without_records_is_refused(tmp_path):
    with pytest.raises(ArtifactError, match="deploy --save"):
        record_files((tmp_path / "absent",))


def test_a_device_that_says_little():
    assert machine_of({"module": "orin-nano-8gb", "mode": None, "l4t": None}) == "orin-nano-8gb"
    assert machine_of({}) == "a Jetson"
