"""A recorded device as a folder, with a stand-in for trtexec: none can run here.

The stand-in takes the arguments of the real one, writes an "engine" that holds the network's hash, and answers a
test vector with the codes that lie beside it, right or wrong as its mode says.
"""

import stat
from pathlib import Path

import numpy as np

from targets.jetson.bundle import BundleSpec, TestVector

from .recorded import RELEASE_35
from .test_detect import DPKG, MEMINFO, write

TRTEXEC = """#!/usr/bin/env python3
import hashlib, json, os, struct, sys, time
given = dict(a[2:].split("=", 1) if "=" in a else (a[2:], "") for a in sys.argv[1:])
here = os.path.dirname(os.path.abspath(__file__))
with open(os.path.join(here, "calls.txt"), "a") as log:
    log.write(" ".join(sys.argv[1:]) + "\\n")
mode = open(os.path.join(here, "mode.txt")).read().strip()
if "saveEngine" in given:
    if mode == "oom":
        print("[E] Tactic Device request: 4229MB Available: 2658MB"); sys.exit(1)
    while mode == "slow":
        time.sleep(0.1); mode = open(os.path.join(here, "mode.txt")).read().strip()
    with open(given["saveEngine"], "w") as out:
        out.write(hashlib.sha256(open(given["onnx"], "rb").read()).hexdigest())
if "exportOutput" in given:
    files = dict(item.split(":", 1) for item in given["loadInputs"].split(","))
    shapes = dict(item.split(":", 1) for item in given["shapes"].split(","))
    raw = open(files["picture"].replace("input_", "wire_"), "rb").read()
    if list(files) != list(shapes) or ("noise" in files and os.path.getsize(files["noise"]) != 4 * len(raw)):
        print("[E] inputs do not match"); sys.exit(1)
    codes = list(struct.unpack("<%db" % len(raw), raw))
    if mode == "wrong":
        codes = [c + 3 for c in codes]
    name = "other" if mode == "unnamed" else "wire"
    with open(given["exportOutput"], "w") as out:
        json.dump([{"name": name, "dimensions": "", "values": codes}], out)
if "exportTimes" in given:
    with open(given["exportTimes"], "w") as out:
        json.dump([{"computeMs": 1.0 + i / 100} for i in range(100)], out)
"""


def fake_root(root: Path, tensorrt: str = "8.5.2", module: str = "p3767-0005") -> Path:
    """An Orin Nano with JetPack 5, and a power rail of 5 W."""
    rail = "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon3"
    write(root, {
        "etc/nv_tegra_release": RELEASE_35,
        "proc/device-tree/model": "NVIDIA Jetson Orin Nano Developer Kit\0",
        "proc/device-tree/compatible": f"nvidia,p3768-0000+{module}\0nvidia,tegra234\0",
        "proc/meminfo": MEMINFO.format(7802880),
        "var/lib/nvpmodel/status": "pmode:0000 fmode:quiet\n",
        "var/lib/dpkg/status": DPKG.replace("8.5.2", tensorrt),
        "usr/src/tensorrt/bin/trtexec": TRTEXEC,
        "usr/src/tensorrt/bin/mode.txt": "right",
        f"{rail}/in1_label": "VDD_IN\n", f"{rail}/in1_input": "5000\n", f"{rail}/curr1_input": "1000\n",
    })  # fmt: skip
    trtexec = root / "usr/src/tensorrt/bin/trtexec"
    trtexec.chmod(trtexec.stat().st_mode | stat.S_IXUSR)
    return root


def set_mode(root: Path, mode: str) -> None:
    """What the stand-in does: right, wrong, unnamed, oom, slow (until it is told otherwise)."""
    (root / "usr/src/tensorrt/bin/mode.txt").write_text(mode)


def calls(root: Path) -> list[str]:
    """Command lines that the stand-in was given."""
    path = root / "usr/src/tensorrt/bin/calls.txt"
    return path.read_text().splitlines() if path.exists() else []


def spec(folder: Path, **changes) -> BundleSpec:
    """A bundle of two forms and two vectors."""
    generator = np.random.default_rng(0)
    folder.mkdir(exist_ok=True)
    for form in "ab":
        (folder / f"edge.{form}.onnx").write_bytes(f"network in form {form}".encode())
    (folder / "calibration.cache").write_text("TRT-8502-EntropyCalibration2\npicture: 3c010a14\n")
    vectors = tuple(
        TestVector(
            generator.random((1, 3, 8, 8), np.float32),
            generator.integers(0, 128, (1, 4, 2, 2)).astype(np.int8),
        )
        for _ in range(2)
    )
    fields = {
        "name": "demo", "networks": {form: folder / f"edge.{form}.onnx" for form in "ab"}, "vectors": vectors,
        "modules": ("orin-nano-8gb",), "texts": {"preprocess.json": "{}", "wire.json": "{}"},
        "calibration_cache": folder / "calibration.cache",
    }  # fmt: skip
    return BundleSpec(**{**fields, **changes})
