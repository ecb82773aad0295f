"""He, Zhang, Lee (ACSAC 2019) again: their networks and cut points, their three adversaries, our attacks.

    OMP_NUM_THREADS=1 python -m benchmarks.he2019 --out benchmarks/results/he2019

The networks learn pictures that the project makes (vehicles at 32 x 32 for the CIFAR-type network, drawn digits
for LeNet), so the numbers are not the paper's; the ordering has to be: a shallow cut nearly perfect, deeper cuts
worse, query-free weakest. Every finished cell is kept in ``OUT.json``; the same command goes on after a kill.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from benchmarks.he2019_models import CUTS, Data, accuracy, as_input, digits, halves, network, train, vehicles
from toolkit.device import describe_machine
from toolkit.privacy.attacks.base import Attack
from toolkit.privacy.attacks.inverse_network import InverseNetwork, InverseNetworkSettings
from toolkit.privacy.attacks.ridge import Ridge, RidgeSettings
from toolkit.privacy.attacks.shadow import Shadow, ShadowSettings
from toolkit.privacy.attacks.tools import Tools
from toolkit.privacy.attacks.whitebox import WhiteBox, WhiteBoxSettings
from toolkit.privacy.codes import WireCodes
from toolkit.privacy.pairs import Pairs, Part
from toolkit.privacy.similarity import compare, psnr_of_mse
from toolkit.runs import write_atomic

# PSNR in dB and SSIM as printed in the paper (tables of sections 4 to 6; same training set for the black box).
PAPER = {
    ("cifar", "conv11"): {
        "white-box": (37.59, 0.9960),
        "black-box": (49.88, 0.9993),
        "query-free": (21.16, 0.9104),
    },
    ("cifar", "relu22"): {
        "white-box": (19.47, 0.6940),
        "black-box": (19.81, 0.6939),
        "query-free": (12.74, 0.1752),
    },
    ("cifar", "relu32"): {
        "white-box": (13.38, 0.1625),
        "black-box": (15.42, 0.3124),
        "query-free": (11.09, 0.0419),
    },
    ("lenet", "conv1"): {"white-box": (39.69, 0.9969), "black-box": (39.64, 0.9887)},
    ("lenet", "relu2"): {"white-box": (15.10, 0.5998), "black-box": (20.35, 0.7334)},
}
WHITE_TEST = 24


def main() -> None:
    """Measure what is missing and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="start of the names of both files")
    parser.add_argument("--pictures", type=int, default=800)
    parser.add_argument("--steps", type=int, default=200, help="of each decoder")
    parser.add_argument("--target-steps", type=int, default=200, help="of each target network, 32 pictures a step")
    parser.add_argument("--iterations", type=int, default=150, help="of the white-box search")
    parser.add_argument("--only", default="", help="measure only cells that start so, e.g. lenet/ or cifar/conv11")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    path = options.out.with_suffix(".json")
    body = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"cells": {}, "accuracy": {}}
    for name, make in (("cifar", vehicles), ("lenet", digits)):
        if not f"{name}/".startswith(options.only[: len(name) + 1]):
            continue
        data = make(options.pictures, options.seed)
        rows = split(data, options.seed)
        net = _trained(name, data, rows, options, body)
        for cut in CUTS[name]:
            for adversary in ("white-box", "black-box", "ridge", "query-free"):
                key = f"{name}/{cut}/{adversary}"
                if key not in body["cells"] and key.startswith(options.only):
                    body["cells"][key] = _cell(net, cut, adversary, data, rows, options)
                    _keep(path, body)
    body["machine"], body["torch"], body["python"] = (
        describe_machine(),
        torch.__version__,
        platform.python_version(),
    )
    body["options"] = {k: v for k, v in vars(options).items() if k not in ("out", "only")}
    _keep(path, body)
    if not options.only:
        options.out.with_suffix(".md").write_text(table(body), encoding="utf-8")


def split(data: Data, seed: int) -> dict[str, np.ndarray]:
    """Rows of the target and attacker (``train``), ``validation`` and ``test``; no vehicle is in two of them."""
    names = sorted(set(data.groups))
    order = np.random.default_rng(seed).permutation(len(names))
    part = {names[i]: place / len(names) for place, i in enumerate(order)}
    where = np.array([part[group] for group in data.groups])
    return {
        "train": np.flatnonzero(where < 0.8),
        "validation": np.flatnonzero((where >= 0.8) & (where < 0.88)),
        "test": np.flatnonzero(where >= 0.88),
    }


def _trained(
    name: str, data: Data, rows: dict[str, np.ndarray], options: Any, body: dict[str, Any]
) -> nn.Sequential:
    """The target network; its weights lie beside the results, so that a resumed run attacks the same one."""
    torch.manual_seed(options.seed)
    net = network(name, int(data.labels.max()) + 1)
    path = options.out.with_name(f"{options.out.name}_{name}.safetensors")
    if path.exists():
        net.load_state_dict(load_file(path))
        net.eval().requires_grad_(False)
    else:
        train(net, data, rows["train"], options.target_steps, options.seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(net.state_dict(), path)
    body["accuracy"][name] = accuracy(net, data, rows["test"])
    return net


def _cell(
    net: nn.Sequential, cut: str, adversary: str, data: Data, rows: dict[str, np.ndarray], options: Any
) -> dict[str, float]:
    started = time.process_time()
    edge, cloud = halves(net, cut)
    with torch.no_grad():
        parts = [edge(as_input(data.pictures[i : i + 128])).numpy() for i in range(0, len(data.pictures), 128)]
    codes = WireCodes(np.concatenate(parts))
    pairs = {split: Pairs([Part(codes, data.pictures, where)]) for split, where in rows.items()}
    test = rows["test"][:WHITE_TEST] if adversary == "white-box" else rows["test"]
    attack = _attack(adversary, edge, cloud, data, options)
    with tempfile.TemporaryDirectory() as folder:
        attack.fit(pairs["train"], pairs["validation"], Path(folder))
        made = attack.reconstruct(codes, test)
    score = compare(made, data.pictures[test])
    return {
        "mse": float(score.mse.mean()),
        "ssim": float(score.ssim.mean()),
        "pictures": len(test),
        "cpu_seconds": time.process_time() - started,
    }


def _attack(adversary: str, edge: nn.Module, cloud: nn.Module, data: Data, options: Any) -> Attack:
    decoder = InverseNetworkSettings(
        steps=options.steps, decoder="subpixel_n2c64", batch=32, ssim_weight=0.02, ssim_crop=32, seed=options.seed
    )
    if adversary == "ridge":
        return Ridge(RidgeSettings(seed=options.seed))
    if adversary == "black-box":
        return InverseNetwork(decoder)
    if adversary == "white-box":
        white = WhiteBoxSettings(
            iterations=options.iterations,
            distance="feature",
            start="grey",
            tv=(0.0, 0.03, 0.3),
            tuning_pictures=4,
            seed=options.seed,
        )
        return WhiteBox(white, Tools(edge=edge))
    # Their query-free attack does not look at the codes: the shadow learns through the cloud half alone.
    through: Callable[[Tensor], Tensor] = cloud
    shadow = ShadowSettings(
        steps=options.steps, batch=24, width=48, statistics_weight=0.0, decoder=decoder, seed=options.seed
    )
    return Shadow(shadow, Tools(cloud=through, identities=[str(label) for label in data.labels]))


def table(body: dict[str, Any]) -> str:
    """The Markdown page."""
    options = body["options"]
    command = "OMP_NUM_THREADS=1 python -m benchmarks.he2019 --out benchmarks/results/he2019"
    seconds = sum(cell["cpu_seconds"] for cell in body["cells"].values())
    lines = [
        "# He, Zhang, Lee (ACSAC 2019) again",
        "",
        f"    {command}",
        "",
        f"{body['machine']}, one thread, {seconds / 60:.0f} min of CPU time for the attacks,"
        f" Python {body['python']}, torch {body['torch']}. {options['pictures']} pictures a network,"
        f" decoders {options['steps']} steps,"
        f" white-box {options['iterations']} iterations. Target accuracy on test: "
        + ", ".join(f"{name} {value:.1%}" for name, value in body["accuracy"].items())
        + ".",
        "",
        "The paper's numbers are on CIFAR-10 and MNIST with its own decoders; here vehicles and drawn digits at"
        " 32 x 32 are inverted by ours, on vehicles and drawings that no network has seen."
        " What has to agree is the order. A target that classifies poorly is nearer to a random network;"
        " `--target-steps` trains it longer.",
        "",
        "| network | cut | adversary | PSNR | SSIM | pictures | paper: PSNR | SSIM |",
        "|---|---|---|---:|---:|---:|---:|---:|",
    ]
    for key, cell in body["cells"].items():
        name, cut, adversary = key.split("/")
        paper = PAPER[name, cut].get(adversary)
        theirs = f"{paper[0]:.2f} | {paper[1]:.3f}" if paper else "– | –"
        psnr = float(psnr_of_mse(np.asarray(cell["mse"])))
        shown = f"{psnr:.2f}" if cell["mse"] else "exact"
        ours = f"{shown} | {cell['ssim']:.3f} | {cell['pictures']}"
        lines.append(f"| {name} | {cut} | {adversary} | {ours} | {theirs} |")
    lines += ["", *(f"- {text}: {'holds' if holds else 'DOES NOT HOLD'}" for text, holds in verdicts(body)), ""]
    return "\n".join(lines)


def verdicts(body: dict[str, Any]) -> list[tuple[str, bool]]:
    """The paper's ordering, each statement with whether it holds here."""

    def ssim(name: str, cut: str, adversary: str) -> float:
        return float(body["cells"][f"{name}/{cut}/{adversary}"]["ssim"])

    found = []
    for name, cuts in CUTS.items():
        for adversary in ("white-box", "black-box"):
            values = [ssim(name, cut, adversary) for cut in cuts]
            found.append(
                (f"{name}, {adversary}: the shallow cut is nearly perfect (SSIM >= 0.95)", values[0] >= 0.95)
            )
            falls = all(a > b for a, b in pairwise(values))
            found.append((f"{name}, {adversary}: deeper cuts are worse", falls))
        weakest = all(
            ssim(name, cut, "query-free") < min(ssim(name, cut, "white-box"), ssim(name, cut, "black-box"))
            for cut in cuts
        )
        found.append((f"{name}: query-free is the weakest at every cut", weakest))
    return found


def _keep(path: Path, body: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, json.dumps(body, indent=1) + "\n")


if __name__ == "__main__":
    main()
