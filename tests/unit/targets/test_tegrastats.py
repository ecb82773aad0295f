"""Every recorded line parses to what a person reads in it; no line crashes the parser."""

from datetime import datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from targets.jetson.device.tegrastats import Clock, Memory, Rail, parse_line

from .recorded import LINES


def rails(sample):
    return {name: rail.now for name, rail in sample.rails.items()}


@pytest.mark.parametrize("name", LINES)
def test_every_token_of_a_recorded_line_is_read(name):
    assert parse_line(LINES[name]).unknown == ()


def test_agx_xavier():
    sample = parse_line(LINES["agx_xavier_jp4"])
    assert sample.time is None
    assert sample.ram == Memory(14700, 15692, 3, 2) and sample.swap == Memory(898, 8192, cached=23)
    assert sample.cpus == (Clock(percent=0, mhz=(1190,)),) * 8
    assert sample.emc == Clock(percent=0) and sample.gpu == Clock(percent=0)
    assert sample.temperatures["GPU"] == 30.5 and sample.temperatures["thermal"] == 30.8
    assert rails(sample) == {"GPU": 463, "CPU": 618, "SOC": 2936, "CV": 0, "VDDRQ": 309, "SYS5V": 3306}
    assert sample.units == {}


def test_tx2():
    sample = parse_line(LINES["tx2_jp4"])
    assert sample.emc == Clock(percent=1, mhz=(1866,)) and sample.gpu == Clock(percent=0, mhz=(114,))
    assert sample.cpus[2] == Clock(percent=67, mhz=(2034,))
    assert sample.units == {"APE": Clock(mhz=(150,)), "MTS_FG": Clock(percent=1), "MTS_BG": Clock(percent=1)}
    assert sample.rails["VDD_IN"] == Rail(5297, 5297) and sample.rails["VDD_4V0_WIFI"] == Rail(0, 0)
    assert len(sample.rails) == 6 and sample.temperatures["Tdiode"] == 39.25


def test_orin_nano_as_root():
    sample = parse_line(LINES["orin_nano_jp6_root"])
    assert sample.time == datetime(2024, 11, 15, 8, 38, 9)
    assert sample.emc == Clock(percent=43, mhz=(2133,)) and sample.gpu == Clock(percent=63, mhz=(621,))
    assert sample.units["NVDEC"] == Clock(on=False) and sample.units["APE"] == Clock(mhz=(200,))
    assert rails(sample) == {"VDD_IN": 12479, "VDD_CPU_GPU_CV": 4667, "VDD_SOC": 2817}
    assert sample.temperatures == {
        "cpu": 53.968, "soc2": 52.437, "soc0": 50.75, "gpu": 53.343, "tj": 53.968, "soc1": 51.656,
    }  # fmt: skip


def test_orin_nano_without_root_has_no_memory_clock():
    sample = parse_line(LINES["orin_nano_jp6"])
    assert sample.emc is None and sample.gpu == Clock(percent=0)
    assert sample.swap == Memory(1518, 16384, cached=174)


def test_agx_orin_with_three_values_and_pairs():
    sample = parse_line(LINES["agx_orin_jp7"])
    assert sample.swap is None
    assert sample.gpu == Clock(percent=12, mhz=(1300, 1300)) and sample.emc == Clock(percent=3, mhz=(3199,))
    assert sample.rails["VDD_GPU_SOC"] == Rail(5139, 5139, (5139,))
    assert sample.temperatures["cpu"] == 52.968
    assert sample.units["PVA0"] == Clock(on=False) and sample.units["NVDLA1"] == Clock(on=False)


def test_thor_has_no_utilisation_but_three_clocks():
    sample = parse_line(LINES["thor_jp7"])
    assert sample.gpu == Clock(percent=None, mhz=(314, 314, 314))
    assert sample.units["OFA"] == Clock(mhz=(315,)) and sample.units["NVENC1"] == Clock(mhz=(314,))
    assert rails(sample)["VIN"] == 19780 and rails(sample)["VIN_SYS_5V0"] == 5635
    assert len(sample.cpus) == 14 and sample.cpus[11].percent == 8


def test_cores_that_are_off_and_units_with_load():
    sample = parse_line("CPU [12%@1420,off,off,3%@1420] VIC_FREQ 5%@115 VDD_IN 4.5W/4.4W VDD_A 700mW")
    assert [cpu.on for cpu in sample.cpus] == [True, False, False, True]
    assert sample.units["VIC"] == Clock(percent=5, mhz=(115,))
    assert sample.rails == {"VDD_IN": Rail(4500, 4400), "VDD_A": Rail(700)}


def test_boards_without_power_fields_have_no_rails():
    assert parse_line("RAM 1000/2000MB (lfb 3x4MB) CPU [1%@729] GR3D_FREQ 0% cpu@40C").rails == {}


def test_unknown_fields_are_kept():
    sample = parse_line("RAM 1/2MB NEWUNIT=7 IRAM 0/252kB(lfb 252kB) QUX ??")
    assert sample.ram == Memory(1, 2)
    assert "NEWUNIT=7" in sample.unknown and "QUX" in sample.unknown and "??" in sample.unknown
    assert any(token.startswith("IRAM") for token in sample.unknown)


SHAPES = r"(CPU \[.*\])|(\w+ \d+/\d+mW)|(EMC_FREQ .*)"
TOKENS = st.sampled_from([token for line in LINES.values() for token in line.split(" ")])


@settings(max_examples=60, deadline=None)
@given(st.lists(TOKENS | st.text(max_size=12), max_size=30))
def test_shuffled_lines_never_crash(tokens):
    parse_line(" ".join(tokens))


@pytest.mark.full
@settings(max_examples=5000, deadline=None)
@given(st.text() | st.lists(TOKENS | st.text(), max_size=60).map(" ".join) | st.from_regex(SHAPES))
def test_any_text_never_crashes(line):
    sample = parse_line(line)
    assert all(rail.now >= 0 for rail in sample.rails.values())


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(sorted(LINES)), st.data())
def test_a_truncated_line_never_invents_a_value(name, data):
    whole = parse_line(LINES[name])
    cut = LINES[name][: data.draw(st.integers(0, len(LINES[name])))]
    part = parse_line(cut)
    complete = {rail: value for rail, value in part.rails.items() if f"{rail} " in cut}
    last = cut.rsplit(" ", 1)[-1]
    for rail, value in complete.items():
        if last and cut.endswith(last) and list(part.rails)[-1] == rail:
            continue
        assert value == whole.rails[rail]
