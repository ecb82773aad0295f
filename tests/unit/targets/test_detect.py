"""Detection on recorded files of JetPack 4 to 7."""

import pytest

from targets.errors import DetectionError
from targets.jetson.catalogue import find_module, find_release, modules
from targets.jetson.device.detect import (
    NvpMode,
    detect,
    find_part,
    known_parts,
    mode_names,
    package_version,
    parse_meminfo,
    parse_nvpmodel,
    parse_release,
    run_command,
    tensorrt_version,
)

from .recorded import (
    NVPMODEL_THOR,
    NVPMODEL_VERBOSE,
    NVPMODEL_WARNING,
    RELEASE_35,
    RELEASE_36,
    RELEASE_38,
    RELEASE_39,
)

MEMINFO = "MemTotal: {} kB\nMemFree: 1 kB\nMemAvailable: 4096000 kB\nSwapTotal: 2048 kB\nSwapFree: 1024 kB\n"
DPKG = """Package: libnvinfer-bin
Status: install ok installed
Version: 8.5.2-1+cuda11.4

Package: libnvinfer8
Status: install ok installed
Architecture: arm64
Version: 8.5.2-1+cuda11.4

Package: nvidia-jetpack
Status: install ok installed
Version: 5.1.1-b56
"""


def write(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def silent(command):
    return None


def orin_nano(root):
    return write(root, {
        "etc/nv_tegra_release": RELEASE_35,
        "proc/device-tree/model": "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super\0",
        "proc/device-tree/compatible": "nvidia,p3768-0000+p3767-0005-super\0nvidia,p3767-0005\0nvidia,tegra234\0",
        "proc/meminfo": MEMINFO.format(7802880),
        "var/lib/nvpmodel/status": "pmode:0002 fmode:quiet\n",
        "etc/nvpmodel.conf": "< POWER_MODEL ID=0 NAME=15W >\n< POWER_MODEL ID=2 NAME=MAXN_SUPER >\n",
        "var/lib/dpkg/status": DPKG,
        "usr/src/tensorrt/bin/trtexec": "",
        "sys/class/devfreq/17000000.ga10b/cur_freq": "306000000\n",
        "sys/class/devfreq/17000000.ga10b/max_freq": "1020000000\n",
    })  # fmt: skip


def test_orin_nano(tmp_path):
    device = detect(orin_nano(tmp_path), silent)
    assert device.l4t.version == "35.3.1" and device.l4t.board == "t186ref" and device.l4t.gcid == "32790763"
    assert device.model.endswith("Kit Super") and device.super
    assert (device.part, device.module) == ("p3767-0005", "orin-nano-8gb")
    assert device.mode == NvpMode(2, "MAXN_SUPER")
    assert device.gpu.current == 306000000 and device.gpu.highest == 1020000000 and device.emc_hz is None
    assert device.memory.total == pytest.approx(7620) and device.memory.swap_free == 1
    assert device.tensorrt == "8.5.2" and tensorrt_version(device) == (8, 5, 2) and device.jetpack == "5.1.1"
    assert device.trtexec.endswith("trtexec") and device.to_dict()["memory"]["available"] == 4000


def test_orin_nano_of_jetpack_6_and_7(tmp_path):
    root = orin_nano(tmp_path)
    (root / "etc/nv_tegra_release").write_text(RELEASE_36)
    found = detect(root, lambda command: "NV Power Mode: MAXN_SUPER\n2\n")
    assert (found.l4t.version, found.l4t.gcid, found.mode) == ("36.4.7", "42132812", NvpMode(2, "MAXN_SUPER"))
    assert find_release(found.l4t.version).jetpack.startswith("6.2")
    (root / "etc/nv_tegra_release").write_text(RELEASE_39)
    found = detect(root, silent)
    assert found.l4t.version == "39.2.0" and found.l4t.date == "Mon Jun  1 09:28:48 PM UTC 2026"
    assert find_release(found.l4t.version).jetpack.startswith("7.2") and found.module == "orin-nano-8gb"


def test_nvpmodels_own_word_comes_before_its_state_file(tmp_path):
    device = detect(
        orin_nano(tmp_path), lambda command: NVPMODEL_WARNING if command == ["nvpmodel", "-q"] else None
    )
    assert device.mode == NvpMode(7, "15W_DESKTOP")


@pytest.mark.parametrize(("kib", "key"), [(128790528, "thor-t5000"), (64000000, "thor-t4000")])
def test_thor_is_told_apart_by_its_memory(tmp_path, kib, key):
    root = write(tmp_path, {
        "etc/nv_tegra_release": RELEASE_38,
        "proc/device-tree/model": "NVIDIA Jetson AGX Thor Developer Kit\0",
        "proc/device-tree/compatible": "nvidia,p4071-0000+p3834-0008\0nvidia,tegra264\0",
        "proc/meminfo": MEMINFO.format(kib),
    })  # fmt: skip
    device = detect(root, lambda command: NVPMODEL_THOR)
    assert device.l4t.version == "38.2.0" and device.module == key and device.mode == NvpMode(0, "MAXN")
    assert device.tensorrt is None and tensorrt_version(device) is None and device.trtexec is None


def test_another_machine_is_refused(tmp_path):
    with pytest.raises(DetectionError, match="run this on the device"):
        detect(tmp_path, silent)


def test_an_unknown_module_is_named_as_far_as_known(tmp_path):
    root = write(
        tmp_path, {"etc/nv_tegra_release": RELEASE_35, "proc/device-tree/compatible": "nvidia,p9999-0001"}
    )
    device = detect(root, silent)
    assert device.part is None and device.module is None and device.mode is None and device.memory is None


@pytest.mark.parametrize(("text", "version"), [
    (RELEASE_35, "35.3.1"), (RELEASE_36, "36.4.7"), (RELEASE_38, "38.2.0"), (RELEASE_39, "39.2.0"),
    ("# R32 (release), REVISION: 7.1, GCID: 2, BOARD: x", "32.7.1"),
    ("# R36 (release), REVISION: 4, GCID: 2", "36.4.0"),
])  # fmt: skip
def test_releases(text, version):
    assert parse_release(text).version == version
    assert parse_release("") is None and parse_release("Ubuntu 22.04") is None


def test_nvpmodel_outputs():
    assert parse_nvpmodel(NVPMODEL_VERBOSE) == NvpMode(0, "MAXN")
    assert parse_nvpmodel("") is None and parse_nvpmodel("error: not root") is None
    assert mode_names("NVPM VERB: POWER_MODEL: ID=3 NAME=MODE_50W") == {3: "MODE_50W"}


def test_the_flash_specification_comes_first():
    assert find_part("nvidia,p3701-0000", "TNSPEC 3701-500-0005-M.0-1-1-jetson-agx-orin-devkit-") == "p3701-0005"
    assert find_part("nvidia,p3768-0000+p3767-0001") == "p3767-0001"


def test_packages():
    assert package_version(DPKG, r"libnvinfer\d+") == "8.5.2"
    assert (
        package_version(DPKG.replace("install ok installed", "deinstall ok config-files"), "nvidia-jetpack")
        is None
    )
    assert parse_meminfo("MemTotal: 5 kB") is None


def test_every_part_belongs_to_a_module_of_the_catalogue():
    assert set(known_parts().values()) == {module.key for module in modules()}
    assert find_module("p3701-0004").key == "agx-orin-32gb"


def test_commands_that_fail_say_nothing():
    assert run_command(["true"]) == ""
    assert run_command(["false"]) is None and run_command(["no-such-program-here"]) is None
