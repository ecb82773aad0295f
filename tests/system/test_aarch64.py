"""A base install runs on aarch64: Debian's arm64 Python under qemu, wheels for that platform, no torch.

Right for "does it install and import there", never for timing.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.system
ROOT = Path(__file__).resolve().parents[2]
QEMU = "qemu-aarch64-static"
PACKAGES = ("python3.11", "libstdc++6", "libgomp1", "libatomic1", "zlib1g")
MODULES = (
    "toolkit.cli", "toolkit.engines", "toolkit.wire", "toolkit.preprocess", "toolkit.profiling", "toolkit.runs",
    "toolkit.commands.devices", "targets.jetson.bundle", "targets.jetson.remote", "targets.jetson.device.build",
)  # fmt: skip
HOST_ONLY = ("torch", "onnx", "onnxruntime", "matplotlib", "scipy", "tensorrt")


def need(program: str, package: str) -> None:
    if shutil.which(program) is None:
        pytest.fail(f"{program} is missing; install it with: apt-get install {package}")


def run(*command: object) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, f"{command[0]}: {done.stderr[-2000:]}"
    return done


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    """Debian's arm64 Python, unpacked into a folder; the machine's own package state is not touched."""
    need(QEMU, "qemu-user-static")
    need("apt-get", "apt")
    base = tmp_path_factory.mktemp("arm64")
    for name in ("state/lists/partial", "cache/archives/partial", "root"):
        (base / name).mkdir(parents=True)
    (base / "state/status").touch()
    options = {
        "Dir::State": base / "state", "Dir::State::status": base / "state/status", "Dir::Cache": base / "cache",
        "APT::Architecture": "arm64", "APT::Architectures": "arm64", "APT::Sandbox::User": "root",
        "Debug::NoLocking": "1",
    }  # fmt: skip
    apt = ["apt-get", "-q", *(word for key, value in options.items() for word in ("-o", f"{key}={value}"))]
    run(*apt, "update")
    run(*apt, "-y", "--download-only", "--no-install-recommends", "install", *PACKAGES)
    for package in (base / "cache/archives").glob("*.deb"):
        run("dpkg-deb", "-x", package, base / "root")
    return base / "root"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The package and its base requirements, as wheels for aarch64."""
    base = tmp_path_factory.mktemp("site")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    source = base / "source"
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(".git", ".venv", "runs", "build", "*.egg-info"))
    run(*pip, "wheel", "--no-deps", "--wheel-dir", base, source)
    (wheel,) = base.glob("patrol_edge-*.whl")
    platforms = [f"--platform={name}_aarch64" for name in ("manylinux2014", "manylinux_2_17", "manylinux_2_28")]
    where = ["--target", base / "site", "--python-version", "3.11", "--only-binary=:all:"]
    run(*pip, "install", *where, *platforms, wheel)
    return base / "site"


def python(system: Path, site: Path, code: str) -> str:
    """Run code under the arm64 Python with nothing but the installed wheels."""
    return run(
        QEMU, "-E", f"PYTHONPATH={site}", "-L", system, system / "usr/bin/python3.11", "-s", "-c", code
    ).stdout  # fmt: skip


def test_no_host_only_library_comes_along(site):
    assert not [name for name in HOST_ONLY if (site / name).exists()]
    assert (site / "targets/jetson/device/parts.json").is_file()
    assert (site / "targets/jetson/bundle/build.sh").is_file()


@pytest.mark.parametrize("module", MODULES)
def test_every_part_of_the_runtime_imports(system, site, module):
    loaded = f"[name for name in {HOST_ONLY!r} if name in sys.modules]"
    code = f"import platform, {module}, sys; print(platform.machine(), {loaded})"
    assert python(system, site, code) == "aarch64 []\n"


def test_the_catalogue_answers(system, site):
    code = "import sys; sys.argv = ['patrol-edge', 'devices', 'orin-nano-8gb', '--json']\n"
    said = json.loads(python(system, site, code + "from toolkit.cli import app\napp()"))
    assert said["key"] == "orin-nano-8gb" and not said["explanation"]["has_dla"]


def test_codes_are_those_of_this_machine(system, site):
    code = (
        "import hashlib, numpy as np\nfrom toolkit.wire import WireFormat, encode\n"
        "x = np.random.default_rng(0).normal(size=(2, 4, 8, 8)).astype(np.float32)\n"
        "print(hashlib.sha256(encode(x, WireFormat(4, 8, 8, 8, 0.03, True)).tobytes()).hexdigest())"
    )
    here = run(sys.executable, "-c", code).stdout
    assert python(system, site, code) == here
