"""Cut x bits x {dense, slim} x attacker on the trained networks of a run folder.

    OMP_NUM_THREADS=1 python -m benchmarks.privacy_matrix runs/NAME --out benchmarks/results/privacy_matrix

Every network of the run is cut behind each block named with ``--cuts`` (blocks up to the run's own cut; the
weights are the run's, so an earlier cut is what the same network would send there). The feature is sent with 32
(float), 8, 4 and 2 bits, each with a step chosen on calibration pictures, and attacked by the suite's attackers,
retrained for every cell.

``OUT.json`` and ``OUT.md`` hold the table, ``OUT.png`` its plot, and the folder ``OUT_grids`` a picture grid of
each cell: of the synthetic fleet alone, since pictures of real roads are not published (``--grids`` names a folder
for them). Two of these commands may fill one ``OUT`` at the same time: a cell is taken by one of them, and the
scale is measured once. ``--work`` keeps codes and checkpoints of unfinished cells, so that a killed command goes
on within a cell. All cells of an ``OUT`` share their budget: other attackers, pictures or seeds need another one.

``--share`` takes a part of the attacker's pictures and of the test pictures, evenly, and ``--test`` at most so
many test pictures: a first look on a slow machine, which the table says. ``--preset headline`` runs the headline
suite, ``--attackers`` some of a preset's attackers; screening offers ridge, screening, white_box, shadow and
substitute, headline those of its suite by their labels. ``--seeds 3``: the maximum over attackers within a seed,
then mean and interval over seeds. ``--synthetic 2000``: the decoders first learn from so many pictures of rendered
vehicles, which belong to no run's fleet, for as many steps as their first cycle has.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import logging
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from benchmarks.privacy_cells import Budget, Cell, CutNetwork, Subset, grid, summary
from benchmarks.privacy_matrix_report import plot, table
from toolkit.device import describe_machine
from toolkit.models.checkpoint import load_checkpoint
from toolkit.models.network import ReidNet
from toolkit.privacy.anchors import Anchors
from toolkit.runs import write_atomic
from toolkit.surgery import rebuild

logger = logging.getLogger(__name__)
BITS = (32, 8, 4, 2)
FOLDERS = {"dense": ("train", "dense"), "slim": ("slim", "net")}
PLACES = ("run", "out", "work", "grids", "note")  # options that change no number
CELLS = ("cuts", "bits", "networks")  # options that choose cells and change none


def main(arguments: list[str] | None = None) -> None:
    """Measure what is missing and write the table."""
    options = _options(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    if options.work:
        _fill(options, options.work)
        return
    with tempfile.TemporaryDirectory() as folder:
        _fill(options, Path(folder))


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="start of the names of all files")
    parser.add_argument("--cuts", nargs="*", default=[], help="blocks; the run's own cut where none is named")
    parser.add_argument("--bits", nargs="*", type=int, default=list(BITS), choices=BITS)
    parser.add_argument("--networks", nargs="*", default=list(FOLDERS), choices=list(FOLDERS))
    parser.add_argument("--preset", choices=("screening", "headline"), default="screening")
    parser.add_argument("--attackers", nargs="*", default=[], help="labels; the preset's own where none is named")
    parser.add_argument("--steps", type=int, default=800, help="of a screening decoder")
    parser.add_argument("--iterations", type=int, default=500, help="of white box, and of screening's imitators")
    parser.add_argument(
        "--augmented", type=int, help="changed copies of the attacker's pictures; default: the preset's"
    )
    parser.add_argument("--synthetic", type=int, default=0, help="vehicles rendered for decoders to pre-train on")
    parser.add_argument("--share", type=float, default=1.0, help="of the pictures")
    parser.add_argument("--test", type=int, default=0, help="test pictures at most; 0 for all")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, help="where unfinished cells are kept; default: nowhere")
    parser.add_argument("--grids", type=Path, help="folder of the picture grids")
    parser.add_argument("--note", default="", help="what a reader has to know beside it")
    return parser.parse_args(arguments)


def _fill(options: argparse.Namespace, work: Path) -> None:
    """All cells that nobody has made yet or is making."""
    data = Subset.of_run(options.run, options.share, options.test)
    budget = Budget(
        options.preset,
        tuple(options.attackers),
        options.steps,
        options.iterations,
        options.augmented,
        options.synthetic,
        options.seeds,
        options.seed,
    )
    grids = options.grids or (options.out.with_name(options.out.name + "_grids") if data.synthetic else None)
    _update(options.out, lambda body: _begin(body, options, data))
    for network in options.networks:
        net: ReidNet = load_checkpoint(options.run.joinpath(*FOLDERS[network]), rebuild=rebuild).net
        net.eval().requires_grad_(False)
        for cut in options.cuts or [net.edge_blocks()[-1][0]]:
            for bits in options.bits:
                key = f"{cut}/{network}/{bits}"
                with _claimed(options.out, key) as ours:
                    if ours and key not in _read(options.out)["cells"]:
                        _make(CutNetwork(net, cut), key, data, budget, options, work, grids)


def _make(
    made: CutNetwork,
    key: str,
    data: Subset,
    budget: Budget,
    options: argparse.Namespace,
    work: Path,
    grids: Path | None,
) -> None:
    started, name = time.process_time(), key.replace("/", "-")
    logger.info("%s: attacked by %s", key, ", ".join(budget.attackers) or f"the {budget.preset} suite")
    cell = Cell.prepare(made, int(key.rpartition("/")[2]), data, budget, work / name)
    with _locked(_lock(options.out, "anchors")):
        kept = _read(options.out).get("anchors")
        anchors = cell.anchors() if kept is None else Anchors(**{k: tuple(v) for k, v in kept.items()})
        if kept is None:
            _update(options.out, lambda body: body | {"anchors": {k: list(v) for k, v in vars(anchors).items()}})
    results = cell.attack(key, anchors)
    if grids:
        grid(results[0], grids / f"{name}.png")
    found = summary(results, started)

    def add(body: dict[str, Any]) -> dict[str, Any]:
        body["cells"][key] = found
        body["identities"] = list(results[0].identities)
        return body

    body = _update(options.out, add)
    write_atomic(options.out.with_suffix(".md"), table(body))
    plot(body, options.out.with_suffix(".png"))
    cell.clear()


def _begin(body: dict[str, Any], options: argparse.Namespace, data: Subset) -> dict[str, Any]:
    """The head of the file; an ``OUT`` of another budget is refused."""
    suite = {k: v for k, v in vars(options).items() if k not in (*PLACES, *CELLS)} | {"run": options.run.name}
    other = [name for name, value in body.get("suite", suite).items() if suite.get(name) != value]
    if other or ("cells" in body and "suite" not in body):
        raise SystemExit(
            f"{options.out}.json was made with another {', '.join(other) or 'version of this program'}: "
            "give another --out"
        )
    commands = list(dict.fromkeys([*body.get("commands", []), command(options)]))
    return body | {
        "suite": suite,
        "commands": commands,
        "cells": body.get("cells", {}),
        "note": options.note or body.get("note", ""),
        "train": len(data.rows.attacker_train),
        "synthetic": data.synthetic,
        "machine": describe_machine(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def command(options: argparse.Namespace) -> str:
    """What was typed, as far as it changes a number; folders as in the repository."""
    plain = _options([str(options.run), "--out", str(options.out)])
    words = [f"runs/{options.run.name}", "--out", f"benchmarks/results/{options.out.name}"]
    for name, value in vars(options).items():
        if name not in PLACES and value != getattr(plain, name):
            words += [f"--{name}", *map(str, value if isinstance(value, list) else [value])]
    return "OMP_NUM_THREADS=1 python -m benchmarks.privacy_matrix " + " ".join(words)


def _read(out: Path) -> dict[str, Any]:
    path = out.with_suffix(".json")
    body: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return body


def _update(out: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> dict[str, Any]:
    """Read, change and write ``OUT.json`` while no other process does."""
    with _locked(_lock(out, "file")):
        body = change(_read(out))
        out.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(out.with_suffix(".json"), json.dumps(body, indent=1) + "\n")
    return body


def _lock(out: Path, name: str) -> Path:
    """A lock file of this ``OUT``, away from the results."""
    digest = hashlib.sha256(str(out.resolve()).encode()).hexdigest()[:12]
    folder = Path(tempfile.gettempdir()) / f"privacy-matrix-{digest}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{name}.lock"


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("a") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


@contextmanager
def _claimed(out: Path, key: str) -> Iterator[bool]:
    """Whether this cell is ours; another process that makes it holds its lock until it ends."""
    with _lock(out, key.replace("/", "-")).open("a") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logger.info("%s: made by another process", key)
            yield False
            return
        yield True


if __name__ == "__main__":
    main()
