"""The table of certificates: a row for each content, variant and number of frames; none in the path table."""

from tests.unit.reporting.factory import INT8, SLIM, VARIANTS
from toolkit.metrics import Metric, MetricSet
from toolkit.reporting import ReportInput
from toolkit.reporting.blocks import Section
from toolkit.reporting.certificates import COLUMNS, certificates
from toolkit.reporting.path import path_table

BOUND = "bounds every adversary, noise of 1.5 steps, {} frames, chance 0.100"


def metric(name, value, variant=INT8, interval=None, protocol=""):
    return Metric(
        name=f"privacy.certificate.{name}", value=value, n=8, variant=variant, interval=interval, protocol=protocol
    )


def table_of(*metrics):
    section = Section("privacy", "Privacy")
    certificates(section, ReportInput("x", MetricSet(metrics), variants=VARIANTS))
    return [block for block in section.blocks if block.kind == "table"]


METRICS = (
    metric("plate", 0.9, SLIM, protocol="chance 0.100, 40.0% of the codes change"),
    metric("plate.attack", 0.3, SLIM),
    metric("plate", 0.5, protocol=BOUND.format(1)),
    metric("plate.truth", 0.45, interval=(0.4, 0.5)),
    metric("plate.attack", 0.2, interval=(0.15, 0.25)),
    metric("plate.frames16", 0.8, protocol=BOUND.format(16)),
    metric("plate.frames16.truth", 0.75, interval=(0.6, 0.85)),
    metric("with_noise.plate.frames4", 0.6, protocol=BOUND.format(4)),
    metric("with_noise.plate.frames4.truth", 0.55),
)


def test_every_sandwich_is_a_row():
    [table] = table_of(*METRICS)
    assert [column.title for column in table.columns] == [title.removeprefix("#") for title in COLUMNS]
    rows = {(row[0], row[1], row[2]): row[3:] for row in table.rows}
    assert rows["plate", "slim FP32", "1"][:3] == ("0.300", "0.900", "0.900"), (
        "without noise the bound is the truth"
    )
    assert rows["plate", "slim INT8", "1"][:3] == ("0.200\n0.150 to 0.250", "0.450\n0.400 to 0.500", "0.500")
    assert rows["plate", "slim INT8", "16"][0] == "\N{EN DASH}"
    assert rows["plate", "slim INT8", "16"][3] == BOUND.format(16)
    assert rows["plate", "slim INT8 (row with private noise)", "4"][1:3] == ("0.550", "0.600")
    assert len(rows) == 4


def test_nothing_is_added_without_certificates():
    assert table_of(Metric(name="reid.map", value=0.5, n=1, variant=INT8)) == []


def test_the_path_table_keeps_to_single_frames_of_the_wire_itself():
    groups = path_table(ReportInput("x", MetricSet(METRICS), variants=VARIANTS))
    names = {row.name for group in groups for row in group.rows}
    assert {"privacy.certificate.plate", "privacy.certificate.plate.truth"} <= names
    assert not any(".frames" in name or "with_noise" in name for name in names)
