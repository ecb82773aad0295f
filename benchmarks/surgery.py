"""Slimming side by side: ours, and torch-pruning's own pruner, on the same networks, ratio and alignment.

    OMP_NUM_THREADS=1 python -m benchmarks.surgery --out benchmarks/results/surgery

Half of the channels of every layer go by L2 norm, rounded to multiples of 8. Both start from the dense network
and end with a smaller copy of it; ours makes the plan on the way. Ours then compares the copy with the masked
network in double precision, which torch-pruning leaves to its user: this proof always runs, and its time is told
apart. Time is CPU time of one thread, the two interleaved within each repeat. Judged alike: convolutions whose
channels are neither a multiple of 8 nor what they were, and the largest difference to the dense network whose
removed channels are set to zero, in double precision, of the largest output.
"""

from __future__ import annotations

import argparse
import copy
import gc
import json
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import torch_pruning
from torch import Tensor, nn

from benchmarks.surgery_networks import NETWORKS, Network
from toolkit.models.groups import survey
from toolkit.models.masks import MaskSet
from toolkit.settings import environment
from toolkit.surgery import (
    PlanSettings,
    ScoreSettings,
    Slimmed,
    cost,
    deviation,
    fold_masks,
    remove,
    slim_by_scores,
)
from toolkit.surgery.prepare import Prepared

RATIO, ALIGN = 0.5, 8
EXACT = 1e-9
NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm)


@dataclass
class Outcome:
    """What one tool made of one network.

    Attributes:
        failure: its error, or the slim network's.
        misses: convolutions that are not aligned and not as wide as they were.
        deviation: from the masked network, relative; None after a failure.
        parameters: share that is left.
        seconds: CPU time of every repeat, without the proof.
        proof: CPU time of the proof in every repeat.
    """

    failure: str = ""
    misses: list[str] = field(default_factory=list)
    deviation: float | None = None
    parameters: float | None = None
    seconds: list[float] = field(default_factory=list)
    proof: list[float] = field(default_factory=list)

    @property
    def verdict(self) -> str:
        """In a word."""
        if self.failure:
            return "fails"
        return "exact" if self.deviation is not None and self.deviation <= EXACT else "wrong"


def ours(net: nn.Module, x: Tensor) -> Slimmed[nn.Module]:
    """Plan and slim network."""
    return slim_by_scores(net, ScoreSettings(scope="layer", ratio=RATIO), PlanSettings(align=ALIGN), x)


def theirs(net: nn.Module, x: Tensor) -> nn.Module:
    """A pruned copy."""
    slim = copy.deepcopy(net)
    outputs = [module for module in slim.modules() if isinstance(module, nn.Linear)][-1:]
    pruner = torch_pruning.pruner.BasePruner(
        slim,
        x,
        importance=torch_pruning.importance.MagnitudeImportance(p=2),
        pruning_ratio=RATIO,
        round_to=ALIGN,
        ignored_layers=outputs,
    )
    pruner.step()
    return slim


def misses(dense: nn.Module, slim: nn.Module) -> list[str]:
    """Convolutions of the slim network that are neither aligned nor as wide as in the dense one."""
    before = dict(dense.named_modules())
    found = []
    for name, module in slim.named_modules():
        if isinstance(module, nn.Conv2d):
            old = before[name]
            pairs = (module.out_channels, old.out_channels), (module.in_channels, old.in_channels)
            if any(size % ALIGN and size != was for size, was in pairs):
                found.append(name)
    return found


def their_masked(net: nn.Module, x: Tensor) -> nn.Module:
    """The dense network with everything set to zero that torch-pruning removes.

    Its importance does not look at biases, so these carry each channel's number through a second pruning.
    """
    numbered = copy.deepcopy(net)
    with torch.no_grad():
        for module in numbered.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear, *NORMS)) and module.weight is not None:
                count = module.weight.shape[0]
                module.bias = nn.Parameter(torch.arange(count, dtype=module.weight.dtype))
    after = dict(theirs(numbered, x).named_modules())
    masked = copy.deepcopy(net)
    with torch.no_grad():
        for name, module in masked.named_modules():
            if isinstance(module, (nn.Conv2d, nn.Linear, *NORMS)) and module.weight is not None:
                gone = torch.ones(module.weight.shape[0], dtype=torch.bool)
                gone[after[name].bias.long()] = False
                module.weight[gone] = 0
                if module.bias is not None:
                    module.bias[gone] = 0
    return masked


def our_masked(net: nn.Module, x: Tensor, slimmed: Slimmed[nn.Module]) -> nn.Module:
    """The dense network with the plan's removed channels set to zero."""
    masks = MaskSet(survey(net, x).groups)
    values = {name: torch.ones(group.channels) for name, group in slimmed.plan.groups.items()}
    for name, group in slimmed.plan.groups.items():
        values[name][[*group.removed, *group.constant]] = 0
    masks.set_(values)
    return fold_masks(net, masks)


def judge(tool: str, net: nn.Module, x: Tensor) -> Outcome:
    """Run one tool once in double precision and look at what it made."""
    result = Outcome()
    try:
        if tool == "ours":
            slimmed = ours(net, x)
            slim, masked = slimmed.net, our_masked(net, x, slimmed)
        else:
            slim, masked = theirs(net, x), their_masked(net, x)
        result.misses = misses(net, slim)
        result.deviation = deviation(masked.eval(), slim.eval(), x).relative
        result.parameters = cost(slim, x).parameters / cost(net, x).parameters
    except Exception as error:
        result.failure = f"{type(error).__name__}: {' '.join(str(error).split())[:140]}"
    return result


class ProofClock:
    """CPU seconds that our comparison with the masked network takes while this is entered."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._patches = [
            mock.patch.object(owner, name, self._timed(getattr(owner, name)))
            for owner, name in ((Prepared, "outputs"), (remove, "_verify"))
        ]

    def __enter__(self) -> ProofClock:
        for patch in self._patches:
            patch.start()
        return self

    def __exit__(self, *_: object) -> None:
        for patch in self._patches:
            patch.stop()

    def _timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            start = time.process_time()
            try:
                return function(*args, **kwargs)
            finally:
                self.seconds += time.process_time() - start

        return timed


def clock(work: Callable[[], Any]) -> float:
    """CPU seconds of one call."""
    gc.collect()
    start = time.process_time()
    work()
    return time.process_time() - start


def measure(network: Network, repeats: int) -> dict[str, Any]:
    """Everything about one network."""
    torch.manual_seed(0)
    net = network.build().eval()
    small = torch.rand(2, 3, network.judged_side, network.judged_side, dtype=torch.float64)
    outcomes = {tool: judge(tool, copy.deepcopy(net).double(), small) for tool in ("ours", "torch-pruning")}
    x = torch.rand(1, 3, network.side, network.side)
    works = {"ours": lambda: ours(net, x), "torch-pruning": lambda: theirs(net, x)}
    for number in range(repeats + 1):
        for tool in list(works)[:: 1 if number % 2 else -1]:
            if not outcomes[tool].failure:
                with ProofClock() as proof:
                    seconds = clock(works[tool])
                if number:
                    outcomes[tool].seconds.append(seconds - proof.seconds)
                    outcomes[tool].proof.append(proof.seconds)
    return {
        "side": network.side,
        "parameters": sum(p.numel() for p in net.parameters()),
        "tools": {tool: asdict(outcome) | {"verdict": outcome.verdict} for tool, outcome in outcomes.items()},
        "ratio": ratio(outcomes, proof=False),
        "ratio_with_proof": ratio(outcomes, proof=True),
    }


def ratio(outcomes: dict[str, Outcome], *, proof: bool) -> dict[str, float] | None:
    """Ours over torch-pruning's, pair by pair; None without pairs."""
    mine = outcomes["ours"]
    added = mine.proof if proof else [0.0] * len(mine.proof)
    spent = [seconds + more for seconds, more in zip(mine.seconds, added, strict=True)]
    pairs = zip(spent, outcomes["torch-pruning"].seconds, strict=False)
    found = sorted(a / b for a, b in pairs)
    return {"median": statistics.median(found), "low": found[0], "high": found[-1]} if found else None


def markdown(body: dict[str, Any]) -> str:
    """The results as a table."""
    versions = body["environment"]["packages"]
    lines = [
        "# Slimming: ours and torch-pruning's pruner",
        "",
        f"Command: `{body['command']}`. Machine: {body['environment']['machine']}. "
        f"torch {versions['torch']}, torch-pruning {versions['torch-pruning']}, revision "
        f"{body['environment']['revision'] or 'unknown'}, {body['date']}. One thread, {body['repeats']} "
        "interleaved repeats, CPU time.",
        "",
        "Ratio 0.5 per layer by L2 norm, multiples of 8. *Deviation*: largest difference to the masked network in",
        "double precision, relative to the largest output. *Misses*: convolutions left unaligned that were",
        "aligned or changed. *Time*: median CPU ms from the dense network to a smaller copy; ours includes the",
        "plan. *Proof*: what our comparison of the copy with the masked network in double precision takes on",
        "top. It always runs, and torch-pruning compares nothing, so that the ratio leaves it out; the last lines",
        "say what the ratio is with it.",
        "",
        "| network | input | ours ms | torch-pruning ms | ratio (range) | proof ms "
        "| ours: deviation, misses, parameters left | torch-pruning: deviation, misses, parameters left |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, row in body["networks"].items():
        mine, other = row["tools"]["ours"], row["tools"]["torch-pruning"]
        found = row["ratio"]
        text = "-" if found is None else f"{found['median']:.2f} ({found['low']:.2f} to {found['high']:.2f})"
        times = f"{_ms(mine)} | {_ms(other)} | {text} | {_ms(mine, 'proof')}"
        lines.append(f"| {name} | {row['side']} | {times} | {_said(mine)} | {_said(other)} |")
    return "\n".join([*lines, "", *_summary(body["networks"]), ""])


def _ms(tool: dict[str, Any], what: str = "seconds") -> str:
    return f"{1000 * statistics.median(tool[what]):.0f}" if tool[what] else "-"


def _said(tool: dict[str, Any]) -> str:
    if tool["failure"]:
        return f"**fails**: {tool['failure']}"
    wrong = "" if tool["verdict"] == "exact" else "**wrong** "
    return f"{wrong}{tool['deviation']:.0e}, {len(tool['misses'])}, {tool['parameters']:.2f}"


def _summary(networks: dict[str, Any]) -> list[str]:
    lines = []
    for tool in ("ours", "torch-pruning"):
        rows = [row["tools"][tool] for row in networks.values()]
        counts = {
            verdict: sum(row["verdict"] == verdict for row in rows) for verdict in ("exact", "wrong", "fails")
        }
        missed = sum(len(row["misses"]) for row in rows)
        said = ", ".join(f"{number} {verdict}" for verdict, number in counts.items())
        lines.append(f"- {tool}: {said}; {missed} convolutions missed by alignment.")
    for kind in ("full size", "small"):
        for key, what in (("ratio", "without the proof"), ("ratio_with_proof", "with the proof")):
            rows = [row[key] for name, row in networks.items() if name.endswith(f"({kind})")]
            if ratios := sorted(row["median"] for row in rows if row):
                spread = f"smallest {ratios[0]:.2f}, largest {ratios[-1]:.2f}"
                lines.append(f"- Time, {kind}, {what}: median ratio {statistics.median(ratios):.2f}, {spread}.")
    return lines


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="path without suffix; .json and .md are written")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", nargs="*", default=list(NETWORKS), choices=list(NETWORKS), metavar="NETWORK")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    body = {
        "command": "python -m benchmarks.surgery " + " ".join(sys.argv[1:]),
        "date": time.strftime("%Y-%m-%d"),
        "environment": environment(),
        "repeats": options.repeats,
        "networks": {},
    }
    for name in options.only:
        body["networks"][name] = measure(NETWORKS[name], options.repeats)
        print(name, json.dumps(body["networks"][name]["ratio"]), flush=True)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.with_suffix(".json").write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")
    options.out.with_suffix(".md").write_text(markdown(body), encoding="utf-8")


if __name__ == "__main__":
    main()
