"""Keep what a finished run measured, with its command, machine and versions.

    python -m benchmarks.record_run runs/NAME --command "patrol-edge run configs/NAME.yaml"

Writes ``NAME.md`` (the report's table, the stages' times, the environment) and ``NAME.json`` (every metric) into
``benchmarks/results``. Pictures are not copied.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any


def main() -> None:
    """Read a run folder and write its record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--command", required=True, help="what was typed")
    parser.add_argument("--note", default="", help="what a reader has to know beside it")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    manifest = json.loads((options.run / "manifest.json").read_text(encoding="utf-8"))
    options.out.mkdir(parents=True, exist_ok=True)
    name = manifest["name"]
    text = record(manifest, (options.run / "report" / "report.md").read_text(encoding="utf-8"), options)
    (options.out / f"{name}.md").write_text(text, encoding="utf-8")
    shutil.copyfile(options.run / "report" / "metrics.json", options.out / f"{name}.json")


def record(manifest: dict[str, Any], report: str, options: argparse.Namespace) -> str:
    """The Markdown page of a run."""
    environment = manifest["environment"]
    versions = ", ".join(f"{package} {version}" for package, version in environment["packages"].items() if version)
    seconds = {stage: entry["seconds"] for stage, entry in manifest["stages"].items()}
    parts = [
        f"# {manifest['name']}\n",
        f"    {options.command}\n",
        f"Run of {manifest['created']}, revision {environment['revision']}, {environment['machine']}, "
        f"Python {environment['python']}, {versions}.\n",
        f"{options.note}\n" if options.note else "",
        report.replace("## PATROL Edge", "## Report", 1),
        "\n## Time of the stages\n",
        "| stage | seconds |\n|---|---:|",
        *(f"| {stage} | {value:.0f} |" for stage, value in seconds.items()),
        f"| all | {sum(seconds.values()):.0f} |\n",
    ]
    return "\n".join(part for part in parts if part)


if __name__ == "__main__":
    main()
