"""What an installed package must bring: type information and every data file, by the patterns of setup.cfg."""

from __future__ import annotations

from configparser import ConfigParser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("toolkit", "calibration", "targets")
SETUP = ConfigParser()
SETUP.read(ROOT / "setup.cfg")
PATTERNS = [pattern.strip() for pattern in SETUP["options.package_data"]["*"].split(",")]
DATA = [
    path
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("*"))
    if path.is_file() and path.suffix not in (".py", ".pyc")
]


@pytest.mark.parametrize("package", PACKAGES)
def test_type_information_is_shipped(package: str) -> None:
    assert (ROOT / package / "py.typed").exists()
    assert "py.typed" in PATTERNS


@pytest.mark.parametrize("path", DATA, ids=lambda path: str(path.relative_to(ROOT)))
def test_data_file_is_in_the_wheel(path: Path) -> None:
    package = next(folder for folder in path.parents if (folder / "__init__.py").exists())
    inside = path.relative_to(package)
    assert any(inside.match(pattern) and len(inside.parts) == len(Path(pattern).parts) for pattern in PATTERNS)


def test_every_folder_with_code_is_a_package() -> None:
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            assert (path.parent / "__init__.py").exists(), path
