"""Stand-in libraries, so that TensorRT's Python module can be imported without all that it is linked against.

TensorRT 8's plugin library is linked against cuBLAS and cuDNN, which weigh more than a gigabyte. For importing
it, and for building with the tactic sources that need neither (``tactics: no_external``), libraries with the
same symbols are enough. Every function in them answers 15, "not supported" in cuBLAS.

The bindings of TensorRT 10 and 11 come in a wheel of their own without TensorRT's libraries; with stand-ins for
those the module imports and its names can be recorded (record_surface.py), and nothing more.

Needs readelf and gcc. Nothing made here belongs into a repository or an installation.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import tempfile
from pathlib import Path

LIBRARY = re.compile(r"Shared library: \[(lib(?:cublas|cublasLt|cudnn|nv\w+)\.so\.\d+)\]")
VERSIONED = re.compile(r"UND\s+(\w+)@(lib[\w.]+)")
TENSORRT = r"(?:create|get|init)\w*(?:Nv|Infer|PluginRegistry)\w*"
PLAIN = re.compile(rf"UND\s+((?:cublas|cudnn)\w*|{TENSORRT})$", re.MULTILINE)


def read_elf(option: str, library: Path) -> str:
    """What readelf prints."""
    command = ["readelf", "-W", option, str(library)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def wanted_symbols(library: Path) -> dict[str, tuple[set[str], set[str]]]:
    """For each library that is needed: its versioned and its plain symbols."""
    symbols = read_elf("--dyn-syms", library)
    plain = set(PLAIN.findall(symbols))
    found: dict[str, tuple[set[str], set[str]]] = {}
    for name in LIBRARY.findall(read_elf("-d", library)):
        versioned = {symbol for symbol, version in VERSIONED.findall(symbols) if version == name}
        stem = name.partition(".")[0].removeprefix("lib")
        own = {symbol for symbol in plain if symbol.startswith(stem)}
        if stem == "nvinfer":
            own = {symbol for symbol in plain if not symbol.startswith(("cublas", "cudnn"))}
        found[name] = versioned, own
    return found


def make(library: Path, target: Path) -> list[Path]:
    """Write a stand-in for every cuBLAS and cuDNN library that ``library`` needs into ``target``."""
    target.mkdir(parents=True, exist_ok=True)
    made = []
    for name, (versioned, plain) in wanted_symbols(library).items():
        with tempfile.TemporaryDirectory() as work:
            source, version = Path(work) / "standin.c", Path(work) / "standin.map"
            body = "".join(f"int {symbol}(void) {{ return 15; }}\n" for symbol in sorted(versioned | plain))
            source.write_text(body or "int nothing_is_needed;\n", encoding="ascii")
            command = ["gcc", "-shared", "-fPIC", f"-Wl,-soname,{name}", str(source), "-o", str(target / name)]
            if versioned:
                version.write_text(f"{name} {{ global: *; }};\n", encoding="ascii")
                command.append(f"-Wl,--version-script={version}")
            subprocess.run(command, check=True)
        made.append(target / name)
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("library", type=Path, help="libnvinfer_plugin.so.8, or the bindings' tensorrt.so")
    parser.add_argument("target", type=Path, help="folder for the stand-ins; name it in LD_LIBRARY_PATH")
    options = parser.parse_args()
    for path in make(options.library, options.target):
        print(path)


if __name__ == "__main__":
    main()
