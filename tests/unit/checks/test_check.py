from __future__ import annotations

from typing import Any

import pytest

from toolkit.checks import Verdict, against, all_hold, check, parse_limits
from toolkit.metrics import Metric, MetricSet

A, B = "dense-fp32-float-w8-onnxruntime", "slim-fp32-float-w8-onnxruntime"


def metric(name: str, value: float, **more: Any) -> Metric:
    return Metric.model_validate({"n": 10, **more, "name": name, "value": value})


def judge(
    limit: str, *metrics: Metric, baseline: list[Metric] | None = None, machine: str | None = None
) -> list[Verdict]:
    limits = parse_limits(f"limits: [{{{limit}}}]")
    return check(MetricSet(metrics), limits, None if baseline is None else MetricSet(baseline), machine)


def only(verdicts: list[Verdict]) -> Verdict:
    (verdict,) = verdicts
    return verdict


@pytest.mark.parametrize(("value", "ok"), [(0.9, True), (0.9000001, True), (0.8999999, False)])
def test_min_includes_its_bound(value: float, ok: bool) -> None:
    verdict = only(judge("metric: reid.map, min: 0.9", metric("reid.map", value)))
    assert verdict.ok is ok
    assert verdict.limit == ">= 0.9"
    assert verdict.value == value


def test_both_bounds_are_judged() -> None:
    verdicts = judge("metric: reid.map, min: 0.1, max: 0.5", metric("reid.map", 0.6))
    assert [(verdict.limit, verdict.ok) for verdict in verdicts] == [(">= 0.1", True), ("<= 0.5", False)]


def test_absent_metric_fails_and_names_the_nearest() -> None:
    verdict = only(judge("metric: reid.mpa, min: 0.1", metric("reid.map", 0.6)))
    assert (verdict.ok, verdict.reason, verdict.value) == (False, "absent", None)
    assert "did you mean 'reid.map'" in verdict.why


def test_absent_for_that_variant_says_what_there_is() -> None:
    verdict = only(judge(f"metric: reid.map, variant: {B}, min: 0.1", metric("reid.map", 0.6, variant=A)))
    assert not verdict.ok
    assert A in verdict.why
    assert B in verdict.why


def test_empty_metrics_fail_every_limit() -> None:
    assert only(judge("metric: reid.map, min: 0")).reason == "absent"


def test_no_verdicts_is_not_a_pass() -> None:
    assert not all_hold([])


def test_every_match_must_hold() -> None:
    entries = [metric("reid.map", 0.6, variant=A), metric("reid.map", 0.4, variant=B)]
    verdicts = judge("metric: reid.map, min: 0.5", *entries)
    assert [(verdict.variant, verdict.ok) for verdict in verdicts] == [(A, True), (B, False)]


def test_at_least_counts_attackers() -> None:
    entries = [metric("privacy.r2", 0.1, protocol="ridge"), metric("privacy.converged", 1, protocol="ridge")]
    assert only(judge("metric: privacy.r2, max: 0.5", *entries)).ok
    assert only(judge("metric: privacy.r2, max: 0.5, at_least: 2", *entries)).reason == "absent"


def test_privacy_without_a_word_on_convergence_fails() -> None:
    verdict = only(judge("metric: privacy.r2, max: 0.5", metric("privacy.r2", 0.1, protocol="ridge")))
    assert (verdict.ok, verdict.reason) == (False, "not-converged")


def test_convergence_of_another_variant_does_not_count() -> None:
    verdict = only(
        judge(
            f"metric: privacy.r2, variant: {B}, max: 0.5",
            metric("privacy.r2", 0.1, protocol="ridge", variant=B),
            metric("privacy.converged", 1, protocol="ridge", variant=A),
        )
    )
    assert verdict.reason == "not-converged"


def test_floor_needs_no_attacker() -> None:
    assert only(judge("metric: privacy.floor_ssim, max: 0.5", metric("privacy.floor_ssim", 0.4))).ok


def test_unconverged_reference_is_no_reference() -> None:
    now = [metric("privacy.r2", 0.3, protocol="ridge"), metric("privacy.converged", 1, protocol="ridge")]
    then = [metric("privacy.r2", 0.3, protocol="ridge"), metric("privacy.converged", 0, protocol="ridge")]
    verdict = only(judge("metric: privacy.r2, relative_to: baseline, rise_max: 0.1", *now, baseline=then))
    assert (verdict.ok, verdict.reason) == (False, "not-converged")


def test_attacker_of_the_baseline_must_be_run_again() -> None:
    now = [metric("privacy.r2", 0.3, protocol="ridge"), metric("privacy.converged", 1, protocol="ridge")]
    then = [
        *now,
        metric("privacy.r2", 0.6, protocol="inverse"),
        metric("privacy.converged", 1, protocol="inverse"),
    ]
    verdicts = judge("metric: privacy.r2, relative_to: baseline, rise_max: 0.1", *now, baseline=then)
    assert [(verdict.protocol, verdict.reason) for verdict in verdicts] == [
        ("ridge", "holds"),
        ("inverse", "absent"),
    ]


def test_no_baseline_given() -> None:
    verdict = only(judge("metric: reid.map, relative_to: baseline, drop_max: 0", metric("reid.map", 1)))
    assert (verdict.reason, verdict.ok) == ("no-baseline", False)
    assert "--baseline" in verdict.why


def test_drop_is_a_difference_in_the_unit() -> None:
    verdict = only(
        judge(
            "metric: reid.map, relative_to: baseline, drop_max: 0.005",
            metric("reid.map", 0.90),
            baseline=[metric("reid.map", 0.91)],
        )
    )
    assert not verdict.ok
    assert verdict.value == pytest.approx(0.01)
    assert verdict.limit == "drop <= 0.005"


def test_improvement_is_never_a_drop() -> None:
    limit = "metric: reid.map, relative_to: baseline, drop_max: 0"
    assert only(judge(limit, metric("reid.map", 0.95), baseline=[metric("reid.map", 0.91)])).ok


def test_ratio_to_zero_or_negative_is_refused() -> None:
    limit = "metric: a.b, relative_to: baseline, ratio_max: 2"
    for value in (0.0, -0.5):
        verdict = only(judge(limit, metric("a.b", 1), baseline=[metric("a.b", value)]))
        assert verdict.reason == "not-comparable"
        assert "rise_max" in verdict.why


@pytest.mark.parametrize(
    "other", [{"unit": "ms"}, {"provenance": "predicted"}], ids=["another unit", "another provenance"]
)
def test_unlike_numbers_are_refused(other: dict[str, Any]) -> None:
    limit = "metric: a.b, relative_to: baseline, ratio_max: 2"
    verdict = only(judge(limit, metric("a.b", 1), baseline=[metric("a.b", 1, **other)]))
    assert verdict.reason == "not-comparable"


def _times(value: float, machine: str = "m", **more: Any) -> Metric:
    return metric("latency.p50", value, unit="ms", machine=machine, interval=(value * 0.9, value * 1.1), **more)


def test_times_of_two_sessions_are_refused_unless_asked_for() -> None:
    limit = "metric: latency.p50, relative_to: baseline, ratio_max: 1.05"
    assert only(judge(limit, _times(1), baseline=[_times(1)])).reason == "not-comparable"
    accepted = f"{limit}, separate_sessions: true"
    assert only(judge(accepted, _times(1), baseline=[_times(1)])).ok
    assert only(judge(accepted, _times(1.1), baseline=[_times(1)])).ok  # intervals overlap
    assert only(judge(accepted, _times(1.5), baseline=[_times(1)])).reason == "exceeded"


def test_times_of_two_machines_are_always_refused() -> None:
    limit = "metric: latency.p50, relative_to: baseline, ratio_max: 1.05, separate_sessions: true"
    assert only(judge(limit, _times(1), baseline=[_times(1, "other")])).reason == "other-machine"
    assert only(judge(limit, _times(1), baseline=[_times(1)], machine="third")).reason == "other-machine"
    assert only(judge(limit, _times(1), baseline=[_times(1)], machine="m")).ok


def test_times_without_an_interval_cannot_be_judged_against_a_baseline() -> None:
    limit = "metric: latency.p50, relative_to: baseline, ratio_max: 1.05, separate_sessions: true"
    bare = metric("latency.p50", 1, unit="ms")
    assert only(judge(limit, bare, baseline=[bare])).reason == "not-comparable"


def test_interleaved_ratio_is_preferred() -> None:
    limit = f"metric: latency.p50, variant: {B}, relative_to: {A}, ratio_max: 1.0"
    times = [_times(1.0, variant=A), _times(0.9, variant=B)]
    assert only(judge(limit, *times)).ok
    slower = metric("latency.ratio", 1.1, variant=B, protocol=against(A), machine="m", interval=(1.05, 1.15))
    verdict = only(judge(limit, *times, slower))
    assert (verdict.ok, verdict.value) == (False, 1.1)
    assert "interleaved" in verdict.why


def test_reference_pattern_leaves_the_reference_itself_out() -> None:
    limit = "metric: edge.macs, relative_to: dense-*, ratio_max: 0.5"
    verdict = only(judge(limit, metric("edge.macs", 10, variant=A), metric("edge.macs", 4, variant=B)))
    assert (verdict.variant, verdict.ok, verdict.value) == (B, True, 0.4)


def test_emulated_numbers_hold_on_their_host_only() -> None:
    emulated = metric("latency.p50", 1, provenance="emulated", machine="gpu host", interval=(0.9, 1.1))
    assert only(judge("metric: latency.p50, provenance: emulated, max: 2", emulated)).reason == "other-machine"
    assert only(judge("metric: latency.p50, provenance: emulated, machine: gpu*, max: 2", emulated)).ok
    there = emulated.model_copy(update={"machine": "another host"})
    limit = "metric: latency.p50, relative_to: baseline, ratio_max: 1.1, provenance: emulated"
    assert only(judge(limit, emulated, baseline=[there])).reason == "other-machine"
    assert only(judge(limit, emulated, baseline=[emulated])).reason == "not-comparable"
    assert only(judge(f"{limit}, separate_sessions: true", emulated, baseline=[emulated])).ok


def test_emulated_accuracy_is_not_compared_across_hosts_either() -> None:
    here = metric("reid.map", 0.9, provenance="emulated", machine="host a")
    there = here.model_copy(update={"machine": "host b"})
    limit = "metric: reid.map, provenance: emulated, relative_to: baseline, drop_max: 0.1"
    assert only(judge(limit, here, baseline=[there])).reason == "other-machine"
    assert only(judge(limit, here, baseline=[here])).ok


def test_a_prediction_does_not_stand_in_for_a_measurement() -> None:
    predicted = metric("latency.p50", 1, provenance="predicted", machine="orin")
    verdict = only(judge("metric: latency.p50, max: 2", predicted))
    assert verdict.reason == "absent"
    assert "predicted / orin" in verdict.why


def _suite(name: str, value: float, attacker: str, attackers: int = 2) -> Metric:
    return metric(name, value, variant=B, protocol=f"worst of {attackers} attackers: {attacker}")


def test_worst_of_a_suite_is_judged_by_the_state_of_the_suite() -> None:
    limit = "metric: privacy.r2, max: 0.5"
    score, other = _suite("privacy.r2", 0.2, "ridge"), _suite("privacy.converged", 1, "inverse_network")
    assert only(judge(limit, score, other)).ok
    assert only(judge(limit, score, other, _suite("privacy.trusted", 1, "inverse_network"))).ok
    doubted = only(judge(limit, score, other, _suite("privacy.trusted", 0, "inverse_network")))
    assert (doubted.ok, doubted.reason) == (False, "not-converged")
    assert "not trusted" in doubted.why


def test_worst_of_a_suite_is_compared_whoever_it_was_but_not_with_fewer() -> None:
    limit = "metric: privacy.r2, relative_to: baseline, rise_max: 0.05"
    now = [_suite("privacy.r2", 0.30, "ridge"), _suite("privacy.converged", 1, "ridge")]
    then = [_suite("privacy.r2", 0.28, "inverse"), _suite("privacy.converged", 1, "inverse")]
    assert only(judge(limit, *now, baseline=then)).ok
    more = [_suite("privacy.r2", 0.28, "inverse", 3), _suite("privacy.converged", 1, "inverse", 3)]
    assert {verdict.reason for verdict in judge(limit, *now, baseline=more)} == {"no-baseline", "absent"}


def test_states_of_an_attack_are_no_attacks() -> None:
    for name in ("privacy.trusted", "privacy.measurable", "privacy.converged"):
        assert only(judge(f"metric: {name}, min: 1", _suite(name, 1, "ridge"))).ok


def test_each_variant_owes_every_attack_of_the_reference() -> None:
    names, c = ("privacy.r2", "privacy.converged"), "slim-int8-cpu-w8-onnxruntime"
    done = [(A, "ridge"), (A, "inverse"), (B, "ridge"), (B, "inverse"), (c, "ridge")]
    entries = [metric(name, 1, variant=variant, protocol=attacker) for variant, attacker in done for name in names]
    verdicts = judge(f"metric: privacy.r2, variant: slim-*, relative_to: {A}, rise_max: 0", *entries)
    assert [(verdict.variant, verdict.protocol) for verdict in verdicts if not verdict.ok] == [(c, "inverse")]
