"""Pack a self-contained TensorRT 8.5 with its own Python for a GPU host that has no internet.

    python3 benchmarks/gpu_host/pack.py OUT --python PYTHON3.10 [--with 'numpy<2' cuda-python pydantic ...]

Writes OUT/part.000, part.001, ... and OUT/SHA256SUMS. unpack.sh joins them on the host. Inside are a trimmed
copy of the interpreter, TensorRT's public wheel as it is, stand-ins for cuBLAS and cuDNN (standins.py) and the
wheels named with --with. TensorRT's licence allows internal use, not passing it on: keep the parts private.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import standins

TENSORRT = "8.5.3.1"
ROOT = "tensorrt-host"
LEFT_OUT = ("test", "tests", "idlelib", "tkinter", "lib2to3", "ensurepip", "site-packages", "__pycache__", "*.a")
ENVIRONMENT = """\
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export PATH="$here/bin:$PATH"
export PYTHONHOME="$here"
export PYTHONPATH="$here/site${PYTHONPATH:+:$PYTHONPATH}"
export LD_LIBRARY_PATH="$here/lib:$here/standins:$here/site/tensorrt${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
"""


def interpreter(python: Path, tree: Path) -> None:
    """Copy a Python 3.10 without what a server does not need."""
    question = [python, "-c", "import sys; print(sys.base_prefix)"]
    answer = subprocess.run(question, check=True, stdout=subprocess.PIPE)
    prefix = Path(answer.stdout.decode().strip())
    ignore = shutil.ignore_patterns(*LEFT_OUT, "config-*", "turtledemo")
    shutil.copytree(prefix / "lib/python3.10", tree / "lib/python3.10", ignore=ignore)
    (tree / "lib/python3.10/site-packages").mkdir()
    for shared in prefix.glob("lib/libpython3.10*.so*"):
        shutil.copy2(shared, tree / "lib", follow_symlinks=False)
    (tree / "bin").mkdir()
    shutil.copy2(prefix / "bin/python3.10", tree / "bin/python3.10")
    (tree / "bin/python3").symlink_to("python3.10")


def packages(python: Path, site: Path, names: list[str]) -> None:
    """Install wheels into a plain folder."""
    pip = [python, "-m", "pip", "install", "--quiet", "--only-binary=:all:", "--target", site]
    subprocess.run([*pip, "--no-deps", f"tensorrt=={TENSORRT}"], check=True)
    if names:
        subprocess.run([*pip, *names], check=True)


def compress(tree: Path, archive: Path, level: int) -> None:
    """The tree as .tar.xz, on all cores."""
    with archive.open("wb") as target:
        command = ["xz", "--threads=0", f"-{level}", "--stdout"]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=target) as xz:
            assert xz.stdin is not None
            with tarfile.open(fileobj=xz.stdin, mode="w|") as tar:
                tar.add(tree, arcname=ROOT)
            xz.stdin.close()
        if xz.returncode:
            raise SystemExit(f"xz ended with code {xz.returncode}")


def split(archive: Path, out: Path, size: int) -> int:
    """Cut a file into parts and write their checksums."""
    sums, number = [], 0
    with archive.open("rb") as file:
        while block := file.read(size):
            part = out / f"part.{number:03d}"
            part.write_bytes(block)
            sums.append(f"{hashlib.sha256(block).hexdigest()}  {part.name}\n")
            number += 1
    (out / "SHA256SUMS").write_text("".join(sums), encoding="ascii")
    return number


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--python", type=Path, required=True, help="a Python 3.10 interpreter")
    parser.add_argument("--with", dest="packages", nargs="*", default=[], help="further wheels")
    parser.add_argument("--part-mib", type=int, default=44)
    parser.add_argument("--level", type=int, choices=range(1, 10), default=6, help="of xz")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=options.out) as work:
        tree = Path(work) / ROOT
        interpreter(options.python, tree)
        packages(options.python, tree / "site", options.packages)
        standins.make(tree / "site/tensorrt/libnvinfer_plugin.so.8", tree / "standins")
        (tree / "env.sh").write_text(ENVIRONMENT, encoding="ascii")
        archive = Path(work) / "all.tar.xz"
        compress(tree, archive, options.level)
        count = split(archive, options.out, options.part_mib << 20)
    print(f"{count} parts in {options.out}", file=sys.stderr)


if __name__ == "__main__":
    main()
