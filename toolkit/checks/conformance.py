"""The conformance set: small networks whose way to INT8 a new torch, ONNX Runtime or TensorRT must repeat.

``python -m toolkit.checks.conformance`` measures every model of ``reference.yaml`` here and compares; exit code 1
when one differs by more than its tolerance, or when a judge that was there refuses a network. ``--write`` makes
the file anew. Weights and pictures come from numpy alone, so that another torch begins with the same network.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from toolkit.checks.verdict import Verdict
from toolkit.errors import SettingsError

REFERENCE = Path(__file__).with_name("reference.yaml")
PICTURES, SIDE, BITS, BUDGET = 16, 64, 8, 0.5
JUDGED = ("a", "b", "cpu")
TOLERANCES: dict[str, dict[str, float]] = {
    "edge.parameters": {"absolute": 0},
    "edge.macs": {"absolute": 0},
    "slim.parameters": {"absolute": 0},
    "slim.macs": {"absolute": 0},
    "feature.mean": {"relative": 1e-4},
    "feature.std": {"relative": 1e-4},
    "wire.step": {"relative": 1e-3},
    "codes.mean": {"relative": 0.01},
    "slim.deviation": {"most": 1e-5},
    "export.parity": {"most": 1e-4},
    "export.code_agreement": {"least": 0.999},
    "quantize.sqnr.a": {"absolute": 0.5},
    "quantize.sqnr.b": {"absolute": 0.5},
    "quantize.sqnr.cpu": {"absolute": 0.5},
    "quantize.agreement.b": {"absolute": 0.03},
    "quantize.agreement.cpu": {"absolute": 0.03},
    "refused": {"absolute": 0},
}
"""How far a number may be from the reference (absolute, relative), or its bound."""

MODELS: tuple[dict[str, Any], ...] = (
    {"backbone": "resnet18", "cut": "layer2", "width": 0.25},
    {"backbone": "resnet50_ibn_a", "cut": "layer1", "width": 0.25},
    {"backbone": "mobilenet_v2", "cut": "features.6", "width": 0.5},
    {"backbone": "vgg16_bn", "cut": "stage2", "width": 0.25},
)


@dataclass(frozen=True)
class Entry:
    """One model of the reference and what it is expected to give."""

    model: Mapping[str, Any]
    expected: Mapping[str, float]

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.model['backbone']} {self.model['cut']}"


def load_reference(path: Path = REFERENCE) -> tuple[Entry, ...]:
    """The entries of a reference file.

    Raises:
        SettingsError: it cannot be read, or is not one.
    """
    try:
        body = yaml.safe_load(path.read_text(encoding="utf-8"))
        if body["schema"] != 1:
            raise SettingsError(f"{path}: schema {body['schema']!r}, this version reads 1")
        return tuple(Entry(row["model"], row["expected"]) for row in body["models"])
    except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
        raise SettingsError(f"{path} is not a conformance reference: {error}") from error


def judge(entry: Entry, found: Mapping[str, float]) -> list[Verdict]:
    """Verdicts on what was measured; an expected number that is absent fails."""
    return [_judge(entry, name, found.get(name)) for name in TOLERANCES]


def _judge(entry: Entry, name: str, value: float | None) -> Verdict:
    ((kind, allowed),) = TOLERANCES[name].items()
    reference = entry.expected.get(name)
    title = f"{entry.name}: {name}"
    if value is None or (reference is None and kind in ("absolute", "relative")):
        return Verdict(title, False, None, kind, "not measured" if value is None else "no reference", "absent")
    if kind in ("most", "least"):
        ok = value <= allowed if kind == "most" else value >= allowed
        text = f"{value:.6g} is {'within' if ok else 'beyond'} {allowed:g}"
        return Verdict(title, ok, value, f"at {kind} {allowed:g}", text, "holds" if ok else "exceeded", name)
    assert reference is not None
    room = allowed if kind == "absolute" else allowed * abs(reference)
    ok = abs(value - reference) <= room
    text = f"{value:.6g} against {reference:.6g}, {kind} tolerance {allowed:g}"
    return Verdict(title, ok, value, f"{kind} {allowed:g}", text, "holds" if ok else "exceeded", name)


def waves(count: int = PICTURES, side: int = SIDE) -> NDArray[np.uint8]:
    """Smooth coloured waves, ``(count, side, side, 3)``: structured like pictures, from numpy alone."""
    random = np.random.default_rng(0)
    rows, columns = np.mgrid[0:side, 0:side] / side
    shape = (count * 3, 1, 1)
    slow, fast, phase = (random.uniform(low, high, shape) for low, high in ((1, 9), (1, 9), (0, 6)))
    planes = np.sin(rows * slow * 3 + columns * fast * 3 + phase).reshape(count, 3, side, side)
    return ((planes.transpose(0, 2, 3, 1) + 1) * 127).astype(np.uint8)


def network(model: Mapping[str, Any]) -> Any:
    """The network with numpy's weights: He-like kernels, normalizations that do something."""
    import torch

    from toolkit.models.architecture import Architecture
    from toolkit.models.network import build_network

    net = build_network(Architecture(identities=8, last_stride=1, **model), seed=0)
    random = np.random.default_rng(1)
    with torch.no_grad():
        for name, tensor in net.state_dict().items():
            if name in ("mean", "std") or not tensor.is_floating_point():
                continue
            tensor.copy_(torch.from_numpy(_weights(random, name, tuple(tensor.shape))))
    return net.eval()


def _weights(random: np.random.Generator, name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    if len(shape) > 1:
        values = random.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape)
    elif name.endswith(("weight", "running_var")):
        values = random.uniform(0.6, 1.4, shape)
    else:
        values = random.normal(0, 0.1, shape)
    return values.astype(np.float32)


def measure(model: Mapping[str, Any], folder: Path) -> dict[str, float]:
    """Every number of :data:`TOLERANCES` for one model; its files go to ``folder``."""
    import torch

    from toolkit.surgery import PlanSettings, ScoreSettings, apply_plan, cost, deviation, plan_from_scores

    torch.set_num_threads(1)
    net, pictures = network(model), waves()
    example = torch.from_numpy(pictures.transpose(0, 3, 1, 2).astype(np.float32) / 255)
    plan = plan_from_scores(net, ScoreSettings(budget=BUDGET, half="edge"), PlanSettings(align=8))
    slim = apply_plan(net, None, plan)
    before, after = (cost(item, example[:1], "edge") for item in (net, slim))
    masked = _zeroed(net, plan)
    with torch.inference_mode():
        feature = net.edge(example).numpy()
    found = {
        "edge.parameters": float(before.parameters),
        "edge.macs": float(before.macs),
        "slim.parameters": float(after.parameters),
        "slim.macs": float(after.macs),
        "slim.deviation": deviation(masked, slim, example).relative,
        "feature.mean": float(feature.mean()),
        "feature.std": float(feature.std()),
    }
    return found | _deployed(slim, pictures, example.numpy(), folder)


def _zeroed(net: Any, plan: Any) -> Any:
    """The dense network whose removed channels are masked."""
    import copy

    import torch

    from toolkit.models.groups import find_groups
    from toolkit.models.masks import MaskSet

    masked = copy.deepcopy(net)
    masks = MaskSet(find_groups(masked, torch.zeros(1, 3, SIDE, SIDE)))
    values = {name: value.detach().clone() for name, value in masks.values().items()}
    for name, group in plan.groups.items():
        values[name][list(group.removed)] = 0
    masks.set_(values)
    masks.attach(masked)
    return masked


def _deployed(
    slim: Any, pictures: NDArray[np.uint8], inputs: NDArray[np.float32], folder: Path
) -> dict[str, float]:
    """Export, calibration and acceptance of the slim network."""
    import torch

    from calibration import CalibrationSettings, acceptance, quantize, refusals
    from toolkit.export import ExportSettings, export_halves
    from toolkit.preprocess import Preprocess
    from toolkit.wire import WireFormat, choose_step, encode

    with torch.inference_mode():
        feature = slim.edge(torch.from_numpy(inputs)).numpy()
    signed = not slim.backbone.nonnegative_at(slim.cut_index)
    step = choose_step(feature, BITS, signed)
    channels, height, width = feature.shape[1:]
    fmt = WireFormat(channels, height, width, BITS, step, signed)
    preprocess = Preprocess(height=SIDE, width=SIDE)
    made = export_halves(slim, fmt, preprocess, pictures, folder, ExportSettings(simplify="off"))
    settings = CalibrationSettings(threads=1, method="mse", weight_method="minmax")
    result = quantize(made.edge, [inputs], settings)
    judged = acceptance({form: result.forms[form] for form in JUDGED})
    agreement = {pair: item.equal for pair, item in result.agreement.items()}
    return {
        "wire.step": step,
        "codes.mean": float(encode(feature, fmt).mean()),
        "export.parity": max(item.max_relative for item in made.parity if item.code_agreement is None),
        "export.code_agreement": min(
            item.code_agreement for item in made.parity if item.code_agreement is not None
        ),
        **{f"quantize.sqnr.{form}": result.fidelity[form].sqnr_db for form in JUDGED},
        "quantize.agreement.b": agreement["a/b"],
        "quantize.agreement.cpu": agreement["a/cpu"],
        "refused": float(len(refusals(judged))),
    }


def measure_all(models: Sequence[Mapping[str, Any]]) -> list[dict[str, float]]:
    """:func:`measure` for each, in a folder that is removed."""
    found = []
    for model in models:
        with tempfile.TemporaryDirectory(prefix="patrol-conformance-") as scratch, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found.append(measure(model, Path(scratch)))
    return found


def write_reference(path: Path) -> None:
    """Measure every model here and write the reference."""
    rows = [
        {"model": dict(model), "expected": {name: _rounded(value) for name, value in found.items()}}
        for model, found in zip(MODELS, measure_all(MODELS), strict=True)
    ]
    head = "# Written by: python -m toolkit.checks.conformance --write. Tolerances are in conformance.py.\n"
    text = head + yaml.safe_dump({"schema": 1, "models": rows}, sort_keys=False)
    path.write_text(text, encoding="utf-8")


def _rounded(value: float) -> float:
    return int(value) if value.is_integer() else float(f"{value:.8g}")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit code."""
    from toolkit.checks.formats import rows, summary

    parser = argparse.ArgumentParser(prog="python -m toolkit.checks.conformance", description=__doc__)
    parser.add_argument("--write", action="store_true", help="make the reference anew from this machine")
    parser.add_argument("--reference", type=Path, default=REFERENCE)
    options = parser.parse_args(arguments)
    if options.write:
        write_reference(options.reference)
        return 0
    entries = load_reference(options.reference)
    found = measure_all([entry.model for entry in entries])
    verdicts = [verdict for entry, item in zip(entries, found, strict=True) for verdict in judge(entry, item)]
    for state, name, _, _, _, why in rows(verdicts):
        sys.stdout.write(f"{state}  {name}: {why}\n")
    sys.stdout.write(summary(verdicts) + "\n")
    return 0 if all(verdict.ok for verdict in verdicts) else 1


if __name__ == "__main__":
    raise SystemExit(main())
