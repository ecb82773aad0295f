"""The catalogue: complete, sourced, consistent with the rules its figures follow."""

import pytest

from targets.errors import CatalogueError
from targets.jetson.catalogue import (
    UNVERIFIED,
    find_module,
    find_release,
    modules,
    releases,
    releases_for,
    sources,
)
from targets.jetson.explain import explain

KEYS = [module.key for module in modules()]


def test_every_module_from_nano_to_thor_is_there():
    generations = [module.generation for module in modules()]
    assert generations == sorted(generations, key=["maxwell", "pascal", "volta", "ampere", "blackwell"].index)
    named = "nano-4gb tx2-8gb xavier-nx-8gb agx-xavier-32gb orin-nano-4gb orin-nano-8gb orin-nx-8gb orin-nx-16gb"
    assert {*named.split(), "agx-orin-32gb", "agx-orin-64gb", "thor-t4000", "thor-t5000"} <= set(KEYS)
    assert len(set(KEYS)) == len(KEYS)


@pytest.mark.parametrize("key", KEYS)
def test_every_figure_has_a_source_or_the_mark(key):
    module = find_module(key)
    assert {"sms", "gpu_mhz", "dram_gb", "dram_gbps", "dla_cores"} <= set(module.figures)
    for figure in module.figures.values():
        assert figure.source == UNVERIFIED or figure.source in sources()
        assert figure.value >= 0
    for mode in module.modes:
        assert mode.source == UNVERIFIED or mode.source in sources()
        assert set(mode.unverified) <= set(vars(mode))
    assert all(release.source in sources() for release in releases())


@pytest.mark.parametrize(("key", "mode", "tops"), [
    ("agx-orin-64gb", "MAXN", 171), ("agx-orin-64gb", "50W", 109), ("agx-orin-64gb", "30W", 41),
    ("orin-nano-8gb", "15W", 40), ("orin-nano-8gb", "MAXN_SUPER", 67), ("orin-nx-16gb", "MAXN", 60),
    ("orin-nx-16gb", "super:MAXN_SUPER", 77),
])  # fmt: skip
def test_modes_reproduce_the_printed_rates(key, mode, tops):
    """NVIDIA's printed sparse INT8 rates follow from SMs and clocks (within the rounding of the print)."""
    chosen = find_module(key).mode(mode)
    assert chosen.sms * chosen.gpu_mhz / 1000 * 8.192 == pytest.approx(tops, rel=0.03)


@pytest.mark.parametrize("key", [key for key in KEYS if "orin" in key])
def test_rates_of_orin_are_whole_multiples_of_each_other(key):
    module = find_module(key)
    sparse, dense = module.value("int8_sparse_tops"), module.value("int8_dense_tops")
    assert sparse == pytest.approx(2 * dense, abs=0.15)
    assert module.value("fp16_sparse_tflops") == pytest.approx(dense, abs=0.15)
    assert module.value("fp16_dense_tflops") == pytest.approx(dense / 2, abs=0.15)


@pytest.mark.parametrize("key", KEYS)
def test_bandwidth_follows_from_clock_and_bus(key):
    module = find_module(key)
    derived = module.value("emc_mhz") * 2 * module.value("memory_bus_bits") / 8 / 1000
    assert module.value("dram_gbps") == pytest.approx(derived, rel=0.01)


@pytest.mark.parametrize("key", KEYS)
def test_modes_stay_within_the_module(key):
    module = find_module(key)
    assert len({mode.label for mode in module.modes}) == len(module.modes)
    assert any(mode.default for mode in module.modes)
    for mode in module.modes:
        assert 0 < mode.sms <= module.value("sms")
        if mode.configuration == "standard" and mode.gpu_mhz:
            assert mode.gpu_mhz <= module.value("gpu_mhz") + 1


def test_a_mode_is_found_by_name_label_and_number():
    nano = find_module("orin-nano-8gb")
    assert nano.mode("15W").gpu_mhz == 624.75
    assert nano.mode("super:15W").gpu_mhz == 612
    assert nano.mode("maxn_super").gpu_mhz == 1020
    assert nano.mode("MODE_7W").sms == 4
    assert nano.mode("1").name == "7W"
    assert nano.mode().default
    with pytest.raises(CatalogueError, match="it has 15W, 7W, super:15W"):
        nano.mode("50W")


def test_modules_are_found_by_part_and_printed_name():
    assert find_module("p3767-0005").key == "orin-nano-8gb"
    assert find_module("Jetson AGX Orin 64GB").key == "agx-orin-64gb"
    assert find_module("ORIN_NX_16GB").key == "orin-nx-16gb"
    with pytest.raises(CatalogueError, match="orin-nano-8gb"):
        find_module("orin-nano-8g")


@pytest.mark.parametrize(("l4t", "jetpack", "tensorrt"), [
    ("32.7.3", "4.6.3", "8.2.1"), ("35.4.1", "5.1.2", "8.5.2.2"), ("36.3.0", "6.0", "8.6.2"),
    ("36.4.3", "6.2", "10.3.0.30"), ("38.2.0", "7.0", "10.13"), ("39.2.0", "7.2", "10.16.2.10"),
    ("39.2.1", "7.2.1", "10.16.2.10"),
    ("36.4.9", "6.2.1", "10.3.0.30"),
])  # fmt: skip
def test_releases(l4t, jetpack, tensorrt):
    assert (find_release(l4t).jetpack, find_release(l4t).tensorrt) == (jetpack, tensorrt)


def test_unknown_release_names_the_newest_known():
    with pytest.raises(CatalogueError, match=r"39\.2\.1"):
        find_release("42.1.0")


def test_old_modules_never_get_a_new_tensorrt():
    assert {release.tensorrt_version[0] for release in releases_for(find_module("nano-4gb"))} == {8}
    assert {release.tensorrt_version[0] for release in releases_for(find_module("xavier-nx-8gb"))} == {8}
    assert "7.0" not in {release.jetpack for release in releases_for(find_module("thor-t4000"))}
    assert "11.4.1" not in {release.tensorrt for release in releases_for(find_module("orin-nano-8gb"))}


def test_explanations():
    nano, volta = explain(find_module("nano-4gb")), explain(find_module("xavier-nx-8gb"))
    orin, thor = explain(find_module("orin-nano-8gb")), explain(find_module("thor-t5000"))
    assert not nano.runs_int8 and nano.precisions == ("fp32", "fp16") and "no:" in nano.int8
    assert volta.runs_int8 and volta.has_dla and volta.forms["8.5.2.2"] == "a"
    assert not orin.has_dla and orin.forms["10.3.0.30"] == "b" and "20.5 TOPS" in orin.int8
    assert any("7W" in note for note in orin.notes)
    assert "not published" in thor.int8 and "fp4" in thor.precisions and not thor.has_dla
    assert explain(find_module("agx-orin-64gb")).tensorrt.endswith("11.4.1 can be installed")


@pytest.mark.parametrize("key", KEYS)
def test_every_module_can_be_explained(key):
    found = explain(find_module(key))
    assert found.key == key and found.newest.l4t and found.python
