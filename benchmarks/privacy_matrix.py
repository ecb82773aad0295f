"""Cut x bits x {dense, slim} x attacker on the trained networks of a run folder.

    OMP_NUM_THREADS=1 python -m benchmarks.privacy_matrix runs/NAME --out benchmarks/results/privacy_matrix

Every network of the run is cut behind each block named with ``--cuts`` (blocks up to the run's own cut; the
weights are the run's, so an earlier cut is what the same network would send there). The feature is sent with 32
(float), 8, 4 and 2 bits, each with a step chosen on calibration pictures, and attacked by the suite's attackers,
retrained for every cell. Each finished cell is kept in ``OUT.json``; the same command goes on after a kill.

``--share`` takes a part of the attacker's pictures and of the test pictures, evenly: a first look on a slow
machine, which the table says. ``--preset headline`` runs the headline suite.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from toolkit.device import describe_machine
from toolkit.models.checkpoint import load_checkpoint
from toolkit.preprocess import to_input
from toolkit.privacy.anchors import Anchors
from toolkit.privacy.attacks.inverse_network import InverseNetworkSettings
from toolkit.privacy.attacks.ridge import RidgeSettings
from toolkit.privacy.suite import AttackSettings, attack_data, attack_variant
from toolkit.runs import write_atomic
from toolkit.surgery import rebuild
from toolkit.wire import WireFormat, choose_step, encode

BITS = (32, 8, 4, 2)
FOLDERS = {"dense": ("train", "dense"), "slim": ("slim", "net")}
STEP_PICTURES = 128


@dataclass(frozen=True)
class Rows:
    """The splits as rows."""

    attacker_train: list[int]
    attacker_validation: list[int]
    query: list[int]
    gallery: list[int]


def main() -> None:
    """Measure what is missing and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="start of the names of both files")
    parser.add_argument("--cuts", nargs="*", default=[], help="blocks; the run's own cut where none is named")
    parser.add_argument("--bits", nargs="*", type=int, default=list(BITS), choices=BITS)
    parser.add_argument("--networks", nargs="*", default=list(FOLDERS), choices=list(FOLDERS))
    parser.add_argument("--steps", type=int, default=800, help="of the screening decoder")
    parser.add_argument("--preset", choices=("screening", "headline"), default="screening")
    parser.add_argument("--share", type=float, default=1.0, help="of the pictures")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--note", default="", help="what a reader has to know beside it")
    options = parser.parse_args()
    path = options.out.with_suffix(".json")
    body: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"cells": {}}
    body["settings"] = {k: v for k, v in vars(options).items() if k not in ("out", "run", "note")}
    index = json.loads((options.run / "data" / "index.json").read_text(encoding="utf-8"))
    pictures = np.load(options.run / "data" / "pictures.npy", mmap_mode="r", allow_pickle=False)
    rows = _rows(index, options.share)
    anchors = Anchors(**{k: tuple(v) for k, v in body["anchors"].items()}) if "anchors" in body else None
    for network in options.networks:
        net = load_checkpoint(options.run.joinpath(*FOLDERS[network]), rebuild=rebuild).net
        net.eval().requires_grad_(False)
        for cut in options.cuts or [net.edge_blocks()[-1][0]]:
            sample = pictures[index["rows"]["calibration"][:STEP_PICTURES]]
            for bits in options.bits:
                key = f"{cut}/{network}/{bits}"
                if key in body["cells"]:
                    continue
                encoder, fmt = encoder_of(net, cut, bits, np.asarray(sample))
                found, anchors = _cell(pictures, index, rows, encoder, fmt, options, key, anchors)
                body["cells"][key] = found
                body["anchors"] = {name: list(values) for name, values in vars(anchors).items()}
                _keep(path, body)
    body |= {"machine": describe_machine(), "torch": torch.__version__, "python": platform.python_version()}
    body |= {"note": options.note, "run": options.run.name, "train": len(rows.attacker_train)}
    _keep(path, body)
    options.out.with_suffix(".md").write_text(table(body), encoding="utf-8")


def encoder_of(
    net: Any, cut: str, bits: int, sample: np.ndarray
) -> tuple[Callable[[np.ndarray], np.ndarray], WireFormat | None]:
    """Pictures to what is sent behind ``cut`` with ``bits`` (32: the float feature), and its format."""
    names = [name for name, _ in net.edge_blocks()]
    if cut not in names:
        raise SystemExit(f"no block {cut!r} in the edge half; one of {', '.join(names)}")
    blocks = [block for _, block in net.edge_blocks()][: names.index(cut) + 1]

    def feature(pictures: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            x = torch.from_numpy(to_input(np.asarray(pictures)))
            for block in blocks:
                x = block(x)
        return np.asarray(x.numpy())

    seen = feature(sample)
    if bits == 32:
        return feature, None
    signed = bool(seen.min() < 0)
    channels, height, width = seen.shape[1:]
    fmt = WireFormat(channels, height, width, bits, choose_step(seen, bits, signed), signed)
    return lambda pictures: encode(feature(pictures), fmt), fmt


def _cell(
    pictures: np.ndarray,
    index: dict[str, Any],
    rows: Rows,
    encoder: Callable[[np.ndarray], np.ndarray],
    fmt: WireFormat | None,
    options: Any,
    key: str,
    anchors: Anchors | None,
) -> tuple[dict[str, Any], Anchors]:
    started = time.process_time()
    attackers = (
        (
            RidgeSettings(seed=options.seed),
            InverseNetworkSettings.screening(steps=options.steps, seed=options.seed),
        )
        if options.preset == "screening"
        else ()
    )
    settings = AttackSettings(preset=options.preset, attackers=attackers, seed=options.seed, pictures_shown=0)
    used = np.unique([*rows.attacker_train, *rows.attacker_validation, *rows.query, *rows.gallery])
    shape = encoder(np.asarray(pictures[:1])).shape[1:]
    codes = np.zeros((len(pictures), *shape), np.float32 if fmt is None else np.int8)
    for start in range(0, len(used), 64):
        part = used[start : start + 64]
        codes[part] = encoder(np.asarray(pictures[part]))
    source = attack_data(codes, pictures, rows, fmt, index["identities"], encoder)
    with tempfile.TemporaryDirectory() as folder:
        result = attack_variant(source, settings, Path(folder), key.replace("/", "-"), anchors)
    body: dict[str, Any] = {
        "attackers": {
            a.label: {"ssim": float(np.mean(a.ssim)), "mse": float(np.mean(a.mse))} for a in result.attackers
        },
        "normalized_ssim": vars(result.normalized_ssim),
        "r2": vars(result.r2),
        "pictures": len(result.identities),
        "trusted": result.trusted,
        "cpu_seconds": time.process_time() - started,
    }
    return body, result.anchors


def _rows(index: dict[str, Any], share: float) -> Rows:
    found = {name: rows[:: max(1, round(1 / share))] for name, rows in index["rows"].items() if name != "train"}
    query = [] if index["protocol"] == "veri" else found["query"]
    return Rows(found["attacker_train"], found["attacker_validation"], query, found["gallery"])


def table(body: dict[str, Any]) -> str:
    """The Markdown page."""
    settings, minutes = body["settings"], sum(c["cpu_seconds"] for c in body["cells"].values()) / 60
    labels = list(dict.fromkeys(label for cell in body["cells"].values() for label in cell["attackers"]))
    first = next(iter(body["cells"].values()))
    lines = [
        "# Cut x bits x network x attacker",
        "",
        f"    OMP_NUM_THREADS=1 python -m benchmarks.privacy_matrix runs/{body['run']}"
        f" --out benchmarks/results/privacy_matrix --steps {settings['steps']} --share {settings['share']}"
        + (f" --cuts {' '.join(settings['cuts'])}" if settings["cuts"] else ""),
        "",
        f"{body['machine']}, {minutes:.0f} min of CPU time, Python {body['python']}, torch {body['torch']}."
        f" {body['train']} pictures of the attacker, {first['pictures']} test pictures, preset"
        f" {settings['preset']}. The float edge half and a step of its own for every cell. {body['note']}",
        "",
        f"| cut | network | bits | {' | '.join(f'SSIM {a}' for a in labels)} | normalized SSIM (95 %) | R2 |",
        f"|---|---|---:|{'---:|' * (len(labels) + 2)}",
    ]
    for key, cell in sorted(body["cells"].items(), key=lambda item: _place(item[0])):
        cut, network, bits = key.split("/")
        scores = " | ".join(f"{cell['attackers'][label]['ssim']:.3f}" for label in labels)
        norm = cell["normalized_ssim"]
        spread = f"{norm['value']:.3f} ({norm['low']:.3f} to {norm['high']:.3f})"
        lines.append(f"| {cut} | {network} | {bits} | {scores} | {spread} | {cell['r2']['value']:.3f} |")
    if not all(cell["trusted"] for cell in body["cells"].values()):
        lines += ["", "Not trusted: the screening attackers' convergence was not tested. A first look, no claim."]
    return "\n".join([*lines, ""])


def _place(key: str) -> tuple[str, str, int]:
    """Rows by cut, then network, then from many bits to few."""
    cut, network, bits = key.split("/")
    return cut, network, -int(bits)


def _keep(path: Path, body: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, json.dumps(body, indent=1) + "\n")


if __name__ == "__main__":
    main()
