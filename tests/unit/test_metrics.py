"""The metrics file and the variant's key."""

import pytest
from pydantic import ValidationError

from toolkit.errors import ArtifactError, SettingsError
from toolkit.metrics import Metric, MetricSet
from toolkit.variants import Variant


def test_round_trip(tmp_path):
    metrics = MetricSet(
        [Metric(name="reid.map", value=0.5, n=204, interval=(0.4, 0.6), variant="v", split="test")]
    )
    path = tmp_path / "metrics.json"
    path.write_text(metrics.to_json())
    assert list(MetricSet.load(path)) == list(metrics)


def test_same_metric_twice_is_refused():
    metric = Metric(name="reid.map", value=0.5, n=1)
    metrics = MetricSet([metric])
    with pytest.raises(ValueError, match="added twice"):
        metrics.add(metric.model_copy(update={"value": 0.6}))


def test_find_narrows():
    metrics = MetricSet(
        Metric(name="privacy.ssim", value=0.1, n=9, variant=variant, protocol=attacker)
        for variant in ("a", "b")
        for attacker in ("ridge", "inverse")
    )
    assert len(metrics.find("privacy.ssim")) == 4
    assert len(metrics.find("privacy.ssim", variant="a")) == 2
    assert len(metrics.find("privacy.ssim", variant="a", protocol="ridge")) == 1
    assert metrics.find("privacy.psnr") == []


@pytest.mark.parametrize(
    "field", [{"value": float("nan")}, {"n": 0}, {"name": "has space"}, {"provenance": "guessed"}, {"extra": 1}]
)
def test_bad_metric_is_refused(field):
    with pytest.raises(ValidationError):
        Metric.model_validate({"name": "reid.map", "value": 1.0, "n": 1, **field})


@pytest.mark.parametrize(
    "text", ["", "[]", '{"schema": 2, "metrics": []}', '{"schema": 1, "metrics": [{"name": "x"}]}']
)
def test_bad_file_is_named(tmp_path, text):
    path = tmp_path / "metrics.json"
    path.write_text(text)
    with pytest.raises(ArtifactError, match=r"metrics\.json"):
        MetricSet.load(path)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(ArtifactError, match=r"none\.json"):
        MetricSet.load(tmp_path / "none.json")


def test_variant_key_round_trip():
    variant = Variant("slim", "int8", "cpu", 8, "onnxruntime")
    assert Variant.from_key(variant.key) == variant
    assert "INT8" in variant.title


@pytest.mark.parametrize("key", ["", "slim", "slim-int8-cpu-8-onnxruntime", "fat-int8-cpu-w8-onnxruntime"])
def test_wrong_variant_key(key):
    with pytest.raises(SettingsError):
        Variant.from_key(key)
