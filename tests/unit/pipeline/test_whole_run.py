"""All eleven stages on a tiny fleet: what is left, what is skipped, what is made again."""

import math
import shutil
import xml.etree.ElementTree as ElementTree

import pytest

from targets.errors import PredictionError
from tests.unit.pipeline.commands import hashes, read_json, sha256
from toolkit.metrics import MetricSet
from toolkit.settings import load_settings
from toolkit.stages import ORDER, predicted
from toolkit.stages.base import Context

DENSE, SLIM, INT8 = (
    "dense-fp32-float-w8-onnxruntime",
    "slim-fp32-float-w8-onnxruntime",
    "slim-int8-cpu-w8-onnxruntime",
)
WHOLE = "whole-fp32-float-w8-onnxruntime"


def stages_that_ran(outcome):
    """Names of the stages that the log says were done."""
    return [line.split("] ")[1].split(":")[0] for line in outcome.lines if ": done in" in line]


def skipped(outcome):
    return [line.split("] ")[1].split(":")[0] for line in outcome.lines if line.endswith("unchanged, skipped")]


def test_every_stage_ran_and_every_file_is_in_the_manifest(finished):
    assert stages_that_ran(finished.outcome) == list(ORDER)
    run = finished.run
    assert list(run.manifest.stages) == list(ORDER)
    for stage, record in run.manifest.stages.items():
        folder = run.root / stage
        files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
        assert files == set(record.artifacts), stage
        for name, artifact in record.artifacts.items():
            assert sha256(folder / name) == artifact.sha256
            assert (folder / name).stat().st_size == artifact.size
    assert not list(run.root.glob("*.partial"))
    assert {path.name for path in run.root.iterdir() if path.is_file()} == {"manifest.json", ".lock"}


def test_stages_are_recorded_with_the_inputs_that_made_them(finished):
    stages = finished.run.manifest.stages
    assert stages["data"].inputs == {}
    assert stages["slim"].inputs == {name: stages[name].digest() for name in ("data", "train")}
    assert stages["check"].inputs == {"report": stages["report"].digest()}


def test_manifest_says_what_made_the_run(finished):
    manifest = finished.run.manifest
    assert manifest.settings["seed"] == 1
    assert manifest.settings["model"]["backbone"] == "resnet18"
    assert "torch" in manifest.environment["packages"]
    assert "cores" in manifest.environment["machine"]


def test_duration_and_disk_are_said_before_anything_is_done(finished):
    first = finished.outcome.lines[0]
    assert "run tiny: about" in first
    assert "MiB of disk" in first
    assert "[1/11] data:" in finished.outcome.lines[1]


def test_output_ends_with_the_report_and_the_verdict(finished):
    lines = finished.outcome.out.splitlines()
    assert lines == [f"report: {finished.runs / 'tiny' / 'report' / 'report.html'}", "check: 1 passed, 0 failed"]


def test_slack_of_the_edge_budget_is_a_metric_and_in_the_summary(finished):
    (slack,) = MetricSet.load(finished.run.path("report", "metrics.json")).find("edge.slack.macs")
    assert 0 <= slack.value < 0.5 and slack.protocol == "0.5 of the dense edge half"
    costs = read_json(finished.run.path("slim", "cost.json"))
    assert slack.value == pytest.approx(1 - costs["slim"]["macs"] / (0.5 * costs["dense"]["macs"]))
    assert finished.run.manifest.stages["slim"].summary["slack"] == f"{slack.value:.1%} of macs"


def test_log_lines_are_plain_when_not_on_a_terminal(finished):
    assert "\x1b" not in finished.outcome.log + finished.outcome.out
    assert "[11/11] check: done" in finished.outcome.lines[-1]


def test_report_is_one_file(finished):
    page = finished.run.path("report", "report.html").read_text(encoding="utf-8")
    assert page.lstrip().lower().startswith("<!doctype html>")
    for outside in ('src="http', "src='http", 'rel="stylesheet"', "<script src", 'src="/', "url(http"):
        assert outside not in page
    assert "data:image/" in page
    for key in (DENSE, SLIM, INT8):
        assert key in page


def test_every_metric_says_where_it_comes_from(finished):
    metrics = MetricSet.load(finished.run.path("report", "metrics.json"))
    assert len(metrics) > 50
    body = read_json(finished.run.path("report", "metrics.json"))
    for row in body["metrics"]:
        jetson = row["machine"].startswith("orin-nano-8gb")
        assert row["provenance"] == ("predicted" if jetson else "measured"), row
        assert row["n"] >= 1, row
        assert row["unit"] is not None and "unit" in row
        assert row["machine"], row
        assert math.isfinite(row["value"]), row
    names = {row["name"] for row in body["metrics"]}
    assert names >= {
        "reid.map",
        "reid.rank1",
        "reid.rank5",
        "reid.minp",
        "privacy.ssim",
        "privacy.psnr",
        "privacy.measurable",
        "privacy.floor_ssim",
        "latency.p50",
        "latency.p90",
        "latency.p99",
        "latency.ratio",
        "throughput",
        "memory.peak",
        "size.engine",
        "wire.bytes_raw",
        "edge.macs",
        "slim.deviation",
    }
    can_tell = {row["value"] for row in body["metrics"] if row["name"] == "privacy.measurable"}
    assert ("privacy.r2" in names) == ("privacy.ssim_normalized" in names) == (1.0 in can_tell), (
        "absent, never zero"
    )
    for name in ("reid.map", "privacy.ssim", "latency.p50", "wire.bytes_raw"):
        measured = [row for row in body["metrics"] if row["name"] == name and row["provenance"] == "measured"]
        assert {row["variant"] for row in measured} == {DENSE, SLIM, INT8, WHOLE}


def test_wire_bytes_are_the_codes_of_the_cut(finished):
    metrics = MetricSet.load(finished.run.path("report", "metrics.json"))
    raw = {item.variant: item.value for item in metrics if item.name == "wire.bytes_raw"}
    assert raw[DENSE] == 32 * 4 * 4
    assert raw[INT8] == raw[SLIM] <= raw[DENSE]
    macs = {item.variant: item.value for item in metrics if item.name == "edge.macs"}
    assert macs[INT8] == macs[SLIM] < 0.7 * macs[DENSE], "asked for was one half, aligned to 8 channels"


def test_junit_and_verdicts_agree(finished):
    tree = ElementTree.parse(finished.run.path("check", "junit.xml")).getroot()
    suite = tree if tree.tag == "testsuite" else tree.find("testsuite")
    verdicts = read_json(finished.run.path("check", "verdicts.json"))
    assert int(suite.get("tests")) == len(verdicts) == len(suite.findall("testcase")) == 1
    assert int(suite.get("failures")) == 0
    assert verdicts[0]["ok"] is True


def test_second_run_skips_every_stage(repeated):
    before = hashes(repeated.run, *ORDER)
    outcome = repeated.again()
    assert outcome.code == 0
    assert skipped(outcome) == list(ORDER)
    assert stages_that_ran(outcome) == []
    assert "about" not in outcome.lines[0], "nothing is left to be announced"
    assert hashes(repeated.run, *ORDER) == before


@pytest.mark.parametrize(
    ("change", "made_again"),
    [
        ("evaluate.bootstrap=150", ["evaluate", "report", "check"]),
        ("quantize.percentile=99.9", ["quantize", "build", "profile", "attack", "evaluate", "report", "check"]),
    ],
)
def test_changed_setting_makes_again_what_depends_on_it(copied, change, made_again):
    outcome = copied.again("--set", change)
    assert outcome.code == 0, outcome.log
    announced = outcome.lines[0].partition("(")[2]
    assert made_again[0] in announced and "train" not in announced
    ran = stages_that_ran(outcome)
    assert ran == [stage for stage in made_again if stage in ran]
    # What is made again and comes out the same bytes stops there.
    assert set(made_again) - set(ran) <= set(made_again[1:])
    assert made_again[0] in ran and "report" in ran
    assert skipped(outcome) == [stage for stage in ORDER if stage not in ran]


def test_failed_limit_ends_with_exit_code_one(copied):
    limits = "check.limits=[{metric: reid.map, variant: slim-int8-*, min: 1.1}, {metric: absent.metric, max: 1}]"
    outcome = copied.again("--set", limits)
    assert outcome.code == 1
    assert outcome.out.splitlines()[-1] == "check: 0 passed, 2 failed"
    assert sum(line.startswith("FAILED") for line in outcome.out.splitlines()) == 2
    suite = ElementTree.parse(copied.run.path("check", "junit.xml")).getroot()
    assert len(list(suite.iter("failure"))) == 2
    assert copied.again("--set", limits).code == 1, "a skipped check still fails"


def test_deleted_stage_is_made_again(copied):
    before = hashes(copied.run, "quantize")
    shutil.rmtree(copied.runs / "tiny" / "quantize")
    outcome = copied.again()
    assert outcome.code == 0, outcome.log
    assert stages_that_ran(outcome) == ["quantize"]
    assert "quantize: its folder is gone" in outcome.log
    assert hashes(copied.run, "quantize") == before


def test_jetsons_are_predicted_and_never_called_measured(finished):
    metrics = MetricSet.load(finished.run.path("report", "metrics.json"))
    predicted = [metric for metric in metrics if metric.provenance == "predicted"]
    assert {(metric.name, metric.variant.split("-")[1]) for metric in predicted} == {
        (name, precision) for name in ("latency.p50", "memory.peak") for precision in ("fp16", "int8")
    }
    assert all(metric.machine.startswith("orin-nano-8gb, ") and metric.interval for metric in predicted)
    assert {metric.provenance for metric in metrics if metric.variant.endswith("-tensorrt")} == {"predicted"}
    assert "Jetson Orin Nano" in finished.run.path("report", "report.html").read_text(encoding="utf-8")


def test_certificates_are_given_for_every_variant(finished):
    metrics = MetricSet.load(finished.run.path("report", "metrics.json"))
    for key in (DENSE, SLIM, INT8):
        for content in ("occupants", "background"):
            found = metrics.find(f"privacy.certificate.{content}", key)
            assert len(found) == 1
            (attack,) = metrics.find(f"privacy.certificate.{content}.attack", key)
            assert attack.value <= found[0].value + 1e-9
            assert 0 < found[0].value <= 1


def test_leaks_are_read_by_name_on_the_reference_and_on_the_deployed_variant(finished):
    metrics = MetricSet.load(finished.run.path("report", "metrics.json"))
    for key in (DENSE, INT8):
        suite = metrics.find("privacy.converged", key)[0].protocol.partition(":")[0]
        (camera,) = metrics.find("leak.camera", key)
        assert camera.protocol.startswith(f"{suite}: ")
        assert metrics.find("leak.camera.original", key)[0].n == metrics.find("leak.camera.chance", key)[0].n == 32
        assert metrics.find("leak.background.ssim", key) and metrics.find("leak.background.ssim_floor", key)
    assert not metrics.find("leak.camera", SLIM)
    page = finished.run.path("report", "report.html").read_text(encoding="utf-8")
    assert "Leaks by name" in page
    assert not list(finished.run.folder("attack").glob("leaks-*"))


def test_rows_beside_the_anchors_and_several_seeds(finished):
    metrics = MetricSet.load(finished.run.path("report", "metrics.json"))
    for name, variant in (("embedding", INT8), ("noise", INT8), ("shallow", DENSE)):
        (row,) = metrics.find(f"privacy.reference.{name}.ssim")
        assert row.variant == variant
        assert row.n == 32
        (over,) = metrics.find(f"privacy.reference.{name}.seeds.ssim", variant)
        assert over.n == 2
        assert over.interval[0] <= over.value <= over.interval[1]
    for key in (DENSE, SLIM, INT8):
        (over,) = metrics.find("privacy.seeds.ssim", key)
        assert over.n == 2
        assert over.interval[0] <= over.value <= over.interval[1]
    page = finished.run.path("report", "report.html").read_text(encoding="utf-8")
    assert "Beside the anchors" in page
    assert "the dense network, cut earlier, mean over the attackers" in page


def test_rows_meet_the_same_attackers_and_say_which_do_not_apply(finished):
    every = {"ridge", "few", "white_box", "shadow"}
    folder = finished.run.folder("attack")
    for name, missing in (("embedding", {"shadow"}), ("shallow", set()), ("noise", set())):
        body = read_json(folder / f"reference-{name}" / "attack.json")
        assert {one["label"] for one in body["attackers"]} == every - missing, name
        assert {label for label, _ in body["left_out"]} == missing
        assert not body["failed"]
    assert "no cloud half" in read_json(folder / "reference-embedding" / "attack.json")["left_out"][0][1]


def test_several_frames_of_a_noisy_wire_are_attacked_and_change_nothing_on_another(
    finished,
):
    metrics = MetricSet.load(finished.run.path("report", "metrics.json"))
    for count in (1, 2):
        (row,) = metrics.find(f"privacy.reference.noise.frames.{count}.ssim")
        assert ("attackers on 2 frames: " in row.protocol) == (count == 2)
    (state,) = (m for m in metrics.find("privacy.trusted", INT8) if "on 2 frames" in m.protocol)
    assert state.value == 0
    folder = finished.run.folder("attack")
    assert read_json(folder / INT8 / "frames.json")["same_codes"] is True
    assert not metrics.find("privacy.frames.2.ssim")
    stacked = read_json(folder / "reference-noise" / "frames-2-stacked" / "attack.json")
    assert {label for label, _ in stacked["left_out"]} == {"white_box", "shadow"}
    page = finished.run.path("report", "report.html").read_text(encoding="utf-8")
    assert "the deployed wire with private noise, 2 frames of each scene" in page


def test_bounds_are_named_with_their_assumptions(finished):
    metrics = MetricSet.load(finished.run.path("report", "metrics.json"))
    for key in (DENSE, SLIM, INT8):
        (raw,), (coded,) = (metrics.find(f"privacy.bound.bits_{kind}", key) for kind in ("raw", "entropy"))
        assert 0 < coded.value <= raw.value
        (fixed,) = metrics.find("privacy.bound.size_entropy_bits", key)
        (packed,) = metrics.find("privacy.bound.size_entropy_bits_zstd", key)
        assert fixed.value == 0 < packed.value
    (bound,) = metrics.find("privacy.bound.null_space_mse", SLIM)
    assert bound.value >= 0 and "assumes: pictures are Gaussian" in bound.protocol
    (stretch,) = metrics.find("privacy.bound.lipschitz", DENSE)
    values = read_json(finished.run.path("attack", "bounds.json"))["dense"]["singular_values"]
    assert stretch.value > 0 and values == sorted(values, reverse=True)


def test_report_shows_plates_and_what_each_layer_costs_in_int8(finished):
    page = finished.run.path("report", "report.html").read_text(encoding="utf-8")
    assert "Number plates" in page
    assert "What quantizing one layer alone costs at the wire." in page
    layers = read_json(finished.run.path("quantize", "sensitivity.json"))["layers"]
    assert len(layers) > 5
    assert all(math.isfinite(row["only"]) and math.isfinite(row["without"]) for row in layers)


def test_a_prediction_that_fails_is_left_out_and_said(finished, tmp_path, monkeypatch, caplog):
    def refuse(*_):
        raise PredictionError("this module has no such engine")

    monkeypatch.setattr(predicted, "predict", refuse)
    context = Context(load_settings(finished.config), finished.run, tmp_path)
    with caplog.at_level("WARNING", logger="toolkit"):
        predicted.predict_devices(context)
    assert read_json(tmp_path / predicted.PREDICTIONS)["rows"] == []
    assert len(context.metrics) == 0
    assert "slim int8 on orin-nano-8gb is not predicted: this module has no such engine" in caplog.text


def test_the_whole_network_on_the_device_stands_beside_the_split(finished):
    metrics = MetricSet.load(finished.run.path("report", "metrics.json"))

    def value(name, key):
        return next(metric.value for metric in metrics.find(name, key) if metric.provenance == "measured")

    wire = read_json(finished.run.path("export", "whole", "wire.json"))
    assert (wire["height"], wire["width"], wire["bits"]) == (1, 1, 8)
    assert value("wire.bytes_raw", WHOLE) == wire["channels"]
    assert value("edge.macs", WHOLE) > value("edge.macs", SLIM)
    assert value("reid.map", WHOLE) == pytest.approx(value("reid.map", SLIM), abs=0.05)
    assert "whole network on the device" in finished.run.path("report", "report.html").read_text(encoding="utf-8")
    assert read_json(finished.run.path("build", "variants.json"))["deployed"] == INT8
