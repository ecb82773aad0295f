import numpy as np
import pytest

from toolkit.metrics import MetricSet
from toolkit.profiling import Profile, compare, percentile
from toolkit.profiling.statistics import ProfilingError


def make(key, rounds, machine="m", batch=2):
    return Profile(
        key, np.asarray(rounds, dtype=np.float64), batch, 10, True, "CPU", machine, "test", bootstrap=400
    )


def test_percentiles_are_trtexecs():
    samples = np.arange(1.0, 101.0)[::-1]
    # n - 1 - int((1 - p/100) n) of 100 sorted samples: the 50th, 90th and 99th value.
    assert [float(percentile(samples, p)) for p in (50, 90, 99, 100, 0)] == [50, 90, 99, 100, 1]
    assert float(percentile(np.array([3.0]), 99)) == 3.0
    assert percentile(np.array([[3.0, 1, 2], [6, 5, 4]]), 50).tolist() == [2, 5]


def test_summary_of_known_samples():
    found = make("a", [[1, 2], [3, 10]])
    assert (found.p50, found.max, found.samples_ms.tolist()) == (2, 10, [1, 2, 3, 10])
    assert found.throughput == pytest.approx(2 * 1000 / 4)
    low, high = found.interval(50)
    assert 1 <= low <= 2 <= high <= 10
    assert found.to_dict()["rounds_ms"] == [[1, 2], [3, 10]]


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(60):
        low, high = make("a", rng.normal(10, 1, (60, 5))).interval(50)
        hits += low <= 10 <= high
    assert 50 <= hits <= 60


def test_a_shared_disturbance_does_not_widen_the_ratio():
    rng = np.random.default_rng(1)
    noise = rng.gamma(2.0, 2.0, (80, 1))
    a, b = (scale * (10 + noise + rng.normal(0, 0.05, (80, 5))) for scale in (1.5, 1.0))
    ratio = compare(make("a", a), make("b", b))
    assert ratio.value == pytest.approx(1.5, rel=0.02)
    assert ratio.interval[1] - ratio.interval[0] < 0.1
    assert ratio.verdict == "slower"
    assert compare(make("b", b), make("a", a)).verdict == "faster"
    assert compare(make("a", a), make("a", a)).interval == (1.0, 1.0)


def test_what_was_not_measured_together_is_not_compared():
    rounds = np.ones((4, 2))
    for other in (make("b", rounds, machine="n"), make("b", rounds, batch=1), make("b", rounds[:3])):
        with pytest.raises(ProfilingError, match="in one run"):
            compare(make("a", rounds), other)


def test_metrics_carry_machine_and_protocol():
    metrics = MetricSet(make("slim-int8-cpu-w8-onnxruntime", np.arange(1.0, 21).reshape(10, 2)).metrics())
    assert {metric.name for metric in metrics} == {
        "latency.p50", "latency.p90", "latency.p95", "latency.p99", "latency.max", "throughput",
    }  # fmt: skip
    found = metrics.find("latency.p50", "slim-int8-cpu-w8-onnxruntime")[0]
    assert (found.unit, found.n, found.provenance) == ("ms", 20, "measured")
    assert (found.machine, found.protocol) == ("m", "test")
    assert found.interval[0] <= found.value <= found.interval[1]
