"""Numbers, the path table, words, and the checks of the input."""

from __future__ import annotations

import numpy as np
import pytest

from tests.unit.reporting.factory import DENSE, INT8, SLIM, VARIANTS, draw_cars, make_report, metric
from toolkit.checks import Verdict
from toolkit.errors import DataError
from toolkit.metrics import Metric, MetricSet
from toolkit.reporting import PictureGrid, PictureRow, ReportInput, Table
from toolkit.reporting import numbers as n
from toolkit.reporting.blocks import Section
from toolkit.reporting.leaks import leaks
from toolkit.reporting.path import Row, path_table
from toolkit.reporting.privacy import privacy
from toolkit.reporting.references import references
from toolkit.reporting.words import headline, tiles


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.9123, "1", "0.912"),
        (0, "1", "0.000"),
        (-0.0301, "1", "−0.030"),
        (0.00012, "1", "1.2e-04"),
        (1.304, "ms", "1.30 ms"),
        (2048, "bytes", "2,048 B"),
        (1100.5, "bytes", "1,100.5 B"),
        (1_214_000, "bytes", "1.21 MB"),
        (8_120_000, "count", "8.12 M"),
        (999, "count", "999"),
        (123.4, "", "123"),
        (float("inf"), "1", "∞"),
        (float("nan"), "1", "not a number"),
    ],
)
def test_numbers_for_people(value: float, unit: str, text: str) -> None:
    assert n.text(value, unit).replace(n.THIN, " ") == text


def test_interval_has_its_unit_once() -> None:
    assert n.between(0.504, 0.541, "ms").replace(n.THIN, " ") == "0.504 to 0.541 ms"
    assert n.between(9_000, 12_000, "bytes").replace(n.THIN, " ") == "9,000 B to 12.0 kB"


def _row(metrics: MetricSet, name: str) -> Row:
    groups = path_table(ReportInput("x", metrics, variants=VARIANTS[:1] + VARIANTS[2:4]))
    (row,) = (row for group in groups for row in group.rows if row.name == name)
    return row


def test_absent_number_is_absent_not_zero() -> None:
    row = _row(MetricSet([metric("reid.map", 0.9, DENSE)]), "reid.map")
    assert row.cells[0] is not None
    assert row.cells[1:] == (None, None)


def test_worst_attacker_stands_for_the_variant() -> None:
    metrics = MetricSet(
        metric("privacy.r2", value, DENSE, protocol=attacker)
        for attacker, value in (("a", 0.2), ("b", 0.6), ("c", 0.1))
    )
    cell = _row(metrics, "privacy.r2").cells[0]
    assert cell is not None
    assert (cell.text, cell.note) == ("0.600", "b")


def test_change_is_called_good_only_beyond_the_intervals() -> None:
    def good(low: float, high: float) -> bool | None:
        other = metric("reid.map", (low + high) / 2, SLIM, interval=(low, high))
        cell = _row(MetricSet([metric("reid.map", 0.8, DENSE, interval=(0.78, 0.82)), other]), "reid.map").cells[1]
        assert cell is not None
        return cell.good

    assert good(0.85, 0.9) is True
    assert good(0.6, 0.7) is False
    assert good(0.81, 0.9) is None


def test_measured_and_predicted_never_share_a_row() -> None:
    metrics = MetricSet(
        [
            metric("latency.p50", 2.0, DENSE, unit="ms"),
            metric("latency.p50", 1.0, INT8, unit="ms", provenance="predicted", machine="orin"),
        ]
    )
    groups = path_table(ReportInput("x", metrics, variants=VARIANTS))
    rows = [row for group in groups for row in group.rows]
    assert [(row.provenance, sum(cell is not None for cell in row.cells)) for row in rows] == [
        ("measured", 1),
        ("predicted", 1),
    ]
    assert rows[1].origin.startswith("for orin")


def test_leaks_appear_by_name() -> None:
    row = _row(MetricSet([metric("leak.plate_accuracy", 0.4, DENSE, protocol="reader")]), "leak.plate_accuracy")
    assert row.label == "leak: plate accuracy"


def test_the_table_of_leaks_tells_what_was_read_and_what_proves_nothing() -> None:
    section = Section("privacy", "Privacy")
    leaks(section, make_report())
    table = next(block for block in section.blocks if block.kind == "table")
    rows = {row[1]: row for row in table.rows if row[0] == title_of(INT8)}
    assert set(rows) == {"plate", "occupants", "colour", "background, SSIM outside the vehicle"}
    assert rows["plate"][2:4] == ("0.970", "0.100")
    assert rows["plate"][4].startswith("0.300 (0.25")
    assert rows["plate"][5:] == ("codes", "leak")
    assert rows["occupants"][4] == "not reported: originals cannot be read"
    assert rows["colour"][6] == "identity evidence"
    assert rows["background, SSIM outside the vehicle"][3] == "0.300 (mean picture)"


def test_the_rows_beside_the_anchors() -> None:
    section = Section("privacy", "Privacy")
    references(section, make_report())
    table = next(block for block in section.blocks if block.kind == "table")
    rows = {row[0]: row for row in table.rows if row[1] == title_of(INT8)}
    assert len(rows) == 4
    assert rows["excess leakage: wire minus embedding"][3] == "0.200"
    assert rows["the deployed wire with private noise"][4:] == ("0.200", "codes")
    empty = Section("privacy", "Privacy")
    references(empty, ReportInput("x", MetricSet(), variants=VARIANTS))
    assert not empty.blocks


def test_no_table_of_leaks_where_none_was_looked_for() -> None:
    section = Section("privacy", "Privacy")
    leaks(section, ReportInput("x", MetricSet(), variants=VARIANTS))
    assert not section.blocks


def title_of(variant: str) -> str:
    return make_report().title_of(variant)


def test_headline_states() -> None:
    assert headline(make_report()).state == "fail"
    assert headline(make_report(verdicts=())).state == "open"
    good = Verdict("mAP", True, 0.9, ">= 0.8", "0.9 is at least 0.8")
    top = headline(make_report(verdicts=(good,)))
    assert (top.state, top.text, top.failures) == ("pass", "PASSES: the limit holds", ())


def test_sentences_name_an_unconverged_attacker() -> None:
    variants = tuple(variant for variant in VARIANTS if variant.key in (DENSE, SLIM))
    text = " ".join(headline(make_report(variants=variants)).sentences)
    assert "Not every attacker converged or is trusted" in text


def test_tiles_compare_only_numbers_of_one_origin() -> None:
    metrics = MetricSet(
        [
            metric("latency.p50", 2.0, DENSE, unit="ms", machine="server"),
            metric("latency.p50", 1.0, INT8, unit="ms", machine="phone"),
        ]
    )
    (tile,) = tiles(ReportInput("x", metrics, variants=VARIANTS))
    assert tile.beside == ""
    assert "phone" in tile.origin


@pytest.mark.parametrize(
    "bad",
    [
        np.zeros((2, 8, 8, 3), np.float32),
        np.zeros((8, 8, 3), np.uint8),
        np.zeros((2, 8, 8, 1), np.uint8),
        np.zeros((0, 8, 8, 3), np.uint8),
    ],
)
def test_pictures_of_another_kind_are_refused(bad: np.ndarray) -> None:
    with pytest.raises(DataError, match="not uint8"):
        PictureGrid(bad)


def test_rows_must_fit_the_originals() -> None:
    with pytest.raises(DataError, match="'short' has 1 pictures for 2 originals"):
        PictureGrid(draw_cars(2), (PictureRow("short", draw_cars(1)),))
    with pytest.raises(DataError, match="1 SSIM for 2"):
        PictureGrid(draw_cars(2), (PictureRow("scores", draw_cars(2), {"SSIM": [0.1]}),))
    with pytest.raises(DataError, match="1 captions for 2"):
        PictureGrid(draw_cars(2), captions=("one",))
    with pytest.raises(DataError, match="a row of 1 cells"):
        Table(("a", "b"), (("only one",),))


def test_worst_of_a_suite_is_one_row_and_named_by_its_attacker() -> None:
    def suite(name: str, value: float, attacker: str) -> Metric:
        return metric(name, value, INT8, protocol=f"worst of 2 attackers: {attacker}")

    metrics = MetricSet(
        [
            suite("privacy.ssim_normalized", 0.2, "inverse network"),
            suite("privacy.ssim", 0.5, "inverse network"),
            suite("privacy.r2", 0.4, "ridge"),
            suite("privacy.converged", 1, "inverse network"),
            suite("privacy.trusted", 0, "inverse network"),
        ]
    )
    data = ReportInput("x", metrics, variants=VARIANTS)
    (table,) = (block for block in privacy(data, False).blocks if block.kind == "table")
    assert len(table.rows) == 1
    assert table.rows[0][:3] == (
        "slim INT8\nworst of 2 attackers",
        "0.200\nby inverse network",
        "0.400\nby ridge",
    )
    assert table.rows[0][-2:] == ("yes", "NO: proves nothing")
    text = " ".join(headline(data).sentences)
    assert "The strongest attacker (inverse network) rebuilds" in text
    assert "may be too low" in text


def test_attack_without_a_scale_is_not_called_private() -> None:
    metrics = MetricSet([metric("privacy.ssim", 0.4, INT8, protocol="worst of 2 attackers: ridge")])
    text = " ".join(headline(ReportInput("x", metrics, variants=VARIANTS)).sentences)
    assert "nothing can be told" in text
