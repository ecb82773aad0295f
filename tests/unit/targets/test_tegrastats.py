"""Every recorded line parses to what a person reads in it; no line crashes the parser."""

from dataclasses import replace
from datetime import datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from targets.jetson.device.tegrastats import Clock, Memory, Rail, parse_line

from .recorded import AGX_XAVIER_JP5_RAILS, LINES


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
    assert sample.temperatures["cpu"] == 52.968 and sample.temperature_others["cpu"] == (52.968,)
    assert sample.units["PVA0"] == Clock(on=False) and sample.units["NVDLA1"] == Clock(on=False)


def test_thor_has_no_utilisation_but_three_clocks():
    sample = parse_line(LINES["thor_jp7"])
    assert sample.gpu == Clock(percent=None, mhz=(314, 314, 314))
    assert sample.units["OFA"] == Clock(mhz=(315,)) and sample.units["NVENC1"] == Clock(mhz=(314,))
    assert rails(sample)["VIN"] == 19780 and rails(sample)["VIN_SYS_5V0"] == 5635
    assert len(sample.cpus) == 14 and sample.cpus[11].percent == 8


def test_agx_orin_of_jetpack_5_with_plain_clocks_and_sensors_that_are_off():
    sample = parse_line(LINES["agx_orin_jp5_root"])
    assert sample.emc == Clock(percent=0, mhz=(204,)) and sample.gpu == Clock(percent=0, mhz=(114,))
    assert sample.units == {
        "GR3D2": Clock(percent=0, mhz=(114,)), "NVJPG1": Clock(mhz=(729,)), "VIC": Clock(mhz=(729,)),
        "APE": Clock(mhz=(233,)),
    }  # fmt: skip
    assert sample.sensors_off == ("CV0", "CV1", "CV2") and "CV0" not in sample.temperatures
    assert sample.temperatures == {
        "CPU": 43.5, "Tdiode": 32.5, "SOC2": 40.062, "SOC0": 40.5, "GPU": 38.156, "SOC1": 39.125,
    }  # fmt: skip
    assert rails(sample) == {
        "VDD_GPU_SOC": 4788, "VDD_CPU_CV": 798, "VIN_SYS_5V0": 3842, "NC": 0, "VDDQ_VDD2_1V8AO": 707,
    }  # fmt: skip
    assert sample.cpus[5] == Clock(percent=0, mhz=(730,)) and len(sample.cpus) == 12


def test_agx_orin_of_jetpack_5_without_root_and_with_a_gpu_that_is_off():
    sample = parse_line(LINES["agx_orin_jp5"])
    assert sample.emc == Clock(percent=0) and sample.gpu == Clock(percent=0) and sample.rails == {}
    assert sample.sensors_off == ("CV0", "CV1", "GPU", "CV2") and sample.temperatures["tj"] == 44.437
    assert sample.ram == Memory(1438, 30622, 6704, 4) and len(sample.cpus) == 8


def test_the_average_of_a_rail_is_not_its_value():
    sample = parse_line(LINES["agx_orin_jp5_dla"])
    assert sample.rails["VDD_CPU_CV"] == Rail(14312, 12415) and sample.rails["VIN_SYS_5V0"] == Rail(4968, 5048)
    assert sample.gpu == Clock(percent=14, mhz=(407, 407)) and sample.units["NVDLA0"] == Clock(mhz=(1600,))
    assert sample.units["VIC"] == Clock(mhz=(115,)) and sample.swap == Memory(126, 31390, cached=0)


def test_orin_nx_of_jetpack_5_with_cores_that_are_off():
    sample = parse_line(LINES["orin_nx_jp5"])
    assert [core.on for core in sample.cpus] == [True] * 4 + [False] * 2
    assert sample.units["GR3D2"] == Clock(percent=0, mhz=(0,)) and rails(sample)["VDD_IN"] == 4915
    assert sample.ram == Memory(3503, 7337, 7, 1) and sample.sensors_off == ()


def test_orin_nano_of_jetpack_7():
    sample = parse_line(LINES["orin_nano_jp7"])
    assert sample.time == datetime(2026, 9, 1, 9, 25, 18) and sample.swap == Memory(2047, 2048, cached=209)
    assert sample.rails["VDD_IN"] == Rail(9761, 9761, (9761,)) and sample.emc is None
    assert sample.gpu == Clock(percent=33) and sample.temperatures["soc2"] == 47.937


def test_thor_idle_and_loaded():
    idle, loaded = parse_line(LINES["thor_jp7_idle"]), parse_line(LINES["thor_jp7_loaded"])
    assert idle.gpu == Clock(mhz=(0, 0, 0)) and idle.units["NVENC0"] == Clock(mhz=(0,))
    assert "VIN" not in idle.rails and idle.rails["VDD_GPU"] == Rail(0, 0) and "gpu" not in idle.temperatures
    assert loaded.gpu is None and loaded.emc is None and loaded.swap == Memory(11, 4096, cached=9)
    assert loaded.rails["VIN"] == Rail(87426, 43713, (87426,)) and loaded.temperatures["gpu"] == 62.906


def test_agx_xavier_of_jetpack_5_prints_units():
    assert rails(parse_line(AGX_XAVIER_JP5_RAILS)) == {"GPU": 0, "CPU": 465, "SOC": 1242, "SYS5V": 2760}


def test_cores_that_are_off_and_units_with_load():
    sample = parse_line("CPU [12%@1420,off,off,3%@1420] VIC_FREQ 5%@115 VDD_IN 4.5W/4.4W VDD_A 700mW")
    assert [cpu.on for cpu in sample.cpus] == [True, False, False, True]
    assert sample.units["VIC"] == Clock(percent=5, mhz=(115,))
    assert sample.rails == {"VDD_IN": Rail(4500, 4400), "VDD_A": Rail(700)}


def test_cores_with_one_clock_behind_the_bracket_and_cores_that_cannot_be_read():
    assert parse_line("CPU [0%,5%,off]@2601").cpus == (
        Clock(percent=0, mhz=(2601,)), Clock(percent=5, mhz=(2601,)), Clock(on=False),
    )  # fmt: skip
    odd = parse_line("CPU [1%@729,parked]")
    assert odd.cpus == () and odd.unknown == ("CPU [1%@729,parked]",)


def test_boards_without_power_fields_have_no_rails():
    assert parse_line("RAM 1000/2000MB (lfb 3x4MB) CPU [1%@729] GR3D_FREQ 0% cpu@40C").rails == {}


def test_unknown_fields_are_kept():
    sample = parse_line("RAM 1/2MB NEWUNIT=7 IRAM 0/252kB(lfb 252kB) QUX ??")
    assert sample.ram == Memory(1, 2)
    assert "NEWUNIT=7" in sample.unknown and "QUX" in sample.unknown and "??" in sample.unknown
    assert any(token.startswith("IRAM") for token in sample.unknown)


SHAPES = st.one_of(
    st.from_regex(r"CPU \[[^\]]*\](@\d+)?", fullmatch=True),
    st.from_regex(r"\w+ \d+(mW|W)?(/\d+(mW|W)?){0,3}", fullmatch=True),
    st.from_regex(r"(EMC|GR3D|VIC|NVDLA0)_FREQ (off|\d+%?(@\[?[\d,.]*\]?)?|@\[?[\d,.]*\]?)", fullmatch=True),
    st.from_regex(r"\w+@-?\d+(\.\d+)?C(/-?\d+(\.\d+)?C)*", fullmatch=True),
    st.from_regex(r"(RAM|SWAP|IRAM) \d+/\d+[kMG]?B( \(lfb (\d+x)?\d+[kMG]?B\))?", fullmatch=True),
)
TOKENS = st.sampled_from([token for line in LINES.values() for token in line.split(" ")])


def holds(line):
    """No crash; every word of the line is read or kept; nothing is negative that cannot be."""
    sample = parse_line(line)
    assert all(rail.now >= 0 for rail in sample.rails.values())
    assert all(value > -256 for value in sample.temperatures.values())
    assert all(core.percent is None or core.percent >= 0 for core in sample.cpus)
    kept = {word for token in sample.unknown for word in token.split()}
    assert kept <= set(line.split())
    if line.strip() and not sample.unknown:
        assert parse_line(line + " ").unknown == ()
    return sample


@settings(max_examples=60, deadline=None)
@given(st.lists(TOKENS | st.text(max_size=12), max_size=30))
def test_shuffled_lines_never_crash(tokens):
    holds(" ".join(tokens))


@pytest.mark.full
@settings(max_examples=20000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.text() | st.lists(TOKENS | SHAPES | st.text(max_size=20), max_size=40).map(" ".join) | SHAPES)
def test_any_text_never_crashes(line):
    holds(line)


@pytest.mark.full
@settings(max_examples=5000, deadline=None)
@given(st.sampled_from(sorted(LINES)), st.integers(0, 2000), st.text(max_size=6), st.integers(0, 12))
def test_a_damaged_line_keeps_what_was_not_damaged(name, where, put, remove):
    """Characters replaced somewhere: fields before the damage and far behind it keep their values."""
    line = LINES[name]
    where %= len(line)
    whole, part = parse_line(line), holds(line[:where] + put + line[where + remove :])
    before = parse_line(line[: line.rfind(" ", 0, where) + 1])
    for rail, value in before.rails.items():
        assert rail in ("NC", "GPU", "CPU") or part.rails[rail] in (value, whole.rails[rail]) or rail in put


@pytest.mark.full
@settings(max_examples=5000, deadline=None)
@given(st.sampled_from(sorted(LINES)), st.text(alphabet="ABZ_?#=<>", min_size=1, max_size=10), st.data())
def test_an_unknown_word_between_two_fields_is_kept_and_changes_nothing(name, word, data):
    line = LINES[name]
    sample = parse_line(line)
    places = [0, len(line), line.index(" CPU ["), line.index("]") + 1]
    place = data.draw(st.sampled_from(places))
    found = parse_line(f"{line[:place]} {word} {line[place:]}")
    assert found.unknown == (word,) and replace(found, unknown=()) == sample


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.integers(0, 100) | st.none(), min_size=1, max_size=16), st.integers(0, 3000),
    st.dictionaries(st.from_regex(r"VDD_[A-Z0-9_]{1,12}", fullmatch=True), st.integers(0, 10**6), max_size=6),
    st.dictionaries(
        st.from_regex(r"[a-z]{2,6}[0-9]?", fullmatch=True), st.decimals(-40, 120, places=3), max_size=6
    ),
    st.integers(0, 10**6), st.sampled_from(["", "mW"]),
)  # fmt: skip
def test_what_is_printed_is_what_is_read(cores, mhz, powers, heats, used, unit):
    cpus = ",".join("off" if load is None else f"{load}%@{mhz}" for load in cores)
    words = [f"RAM {used}/1048576MB (lfb 3x4MB) CPU [{cpus}] GR3D_FREQ 7%@[{mhz},{mhz}]"]
    words += [f"{name}@{value}C" for name, value in heats.items()]
    words += [f"{name} {value}{unit}/{value}{unit}" for name, value in powers.items()]
    sample = parse_line(" ".join(words))
    assert sample.unknown == () and sample.ram.used == used and sample.gpu == Clock(percent=7, mhz=(mhz, mhz))
    assert [core.percent for core in sample.cpus] == cores
    assert rails(sample) == powers
    assert sample.temperatures == {name: float(value) for name, value in heats.items()}


@pytest.mark.parametrize("name", sorted(LINES))
def test_a_truncated_line_never_invents_a_rail(name):
    line = LINES[name]
    whole = parse_line(line).rails
    for cut in (line[:end] for end in range(len(line))):
        unfinished = cut.split()[-2:]  # the last rail's name and what is left of its figures
        for rail, value in parse_line(cut).rails.items():
            assert rail in whole, cut
            if rail not in unfinished:
                assert value == whole[rail], cut
