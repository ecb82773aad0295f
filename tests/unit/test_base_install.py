"""What a base install (a Jetson: no torch, no onnx) must be able to import and do."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HOST_ONLY = (
    "torch",
    "onnx",
    "onnxruntime",
    "onnxsim",
    "torch_pruning",
    "matplotlib",
    "jinja2",
    "scipy",
    "safetensors",
)
BLOCKER = f"""
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {HOST_ONLY!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Blocker())
import importlib.util
real = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name in {HOST_ONLY!r} else real(name, package)
"""


def without_host(code: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-c", BLOCKER + code],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment,
        check=False,
    )


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return without_host(f"sys.argv = ['patrol-edge', *{arguments!r}]\nfrom toolkit.cli import main\nmain()")


@pytest.mark.parametrize(
    "module",
    [
        "toolkit.engines",
        "toolkit.wire.frame",
        "toolkit.preprocess",
        "toolkit.profiling",
        "toolkit.doctor",
        "toolkit.runs",
    ],
)
def test_what_the_device_needs_imports_without_host_libraries(module):
    done = without_host(f"import {module}\nassert 'torch' not in sys.modules")
    assert done.returncode == 0, done.stderr


def test_help_and_doctor_work():
    assert command("--help").returncode == 0
    done = command("doctor", "--json")
    assert done.returncode == 0, done.stderr
    assert "onnxruntime" in done.stdout


def test_a_host_command_says_in_one_line_what_to_install():
    done = command("run", "configs/demo.yaml")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "pip install 'patrol-edge[host]'" in done.stderr
