"""The device folder needs the standard library of Python 3.8 and nothing else."""

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import targets.jetson.device

FOLDER = Path(targets.jetson.device.__file__).parent
FILES = sorted(FOLDER.glob("*.py"))
INSTALLED = sorted(Path.home().glob(".pyenv/versions/3.8.*/bin/python"))
OLDEST = str(INSTALLED[-1]) if INSTALLED else shutil.which("python3.8")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_files_parse_as_python_3_8(path):
    ast.parse(path.read_text(), str(path), feature_version=(3, 8))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_files_import_the_standard_library_and_each_other(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            assert all(name.name.split(".")[0] in sys.stdlib_module_names for name in node.names)
        if isinstance(node, ast.ImportFrom):
            assert node.level == 1 or str(node.module).split(".")[0] in sys.stdlib_module_names


@pytest.mark.skipif(OLDEST is None, reason="no Python 3.8 on this machine")
def test_the_folder_runs_under_python_3_8_and_another_name(tmp_path):
    shutil.copytree(FOLDER, tmp_path / "device", ignore=shutil.ignore_patterns("__pycache__"))
    names = ", ".join(path.stem for path in FILES if not path.stem.startswith("__"))
    code = (
        f"from device import {names}\n"
        "assert tegrastats.parse_line('VDD_IN 5000mW/4000mW').rails['VDD_IN'].now == 5000\n"
        "assert detect.known_parts()['p3767-0004'] == 'orin-nano-4gb'\n"
        "readings = [sampler.Reading(float(i), {'A': 1000.0}) for i in range(4)]\n"
        "assert sampler.energy(readings, ['A'], 0.5, 2.5, 1.5).joules == 2.0\n"
    )
    subprocess.run([OLDEST, "-I", "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{code}"], check=True)
