"""The rows beside the anchors within the attack stage: embedding, shallow dense split, private noise."""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from toolkit.engines import open_engine
from toolkit.engines.settings import RunSettings as OpenSettings
from toolkit.errors import AttackError
from toolkit.preprocess import to_input
from toolkit.runs import CHECKPOINTS
from toolkit.stages.attackers import Encode, attack_row, halves, tools_of
from toolkit.stages.base import Context
from toolkit.stages.build import (
    cloud_path,
    codes_of,
    deployed_variant,
    noise_of,
    open_encoder,
    running_variants,
)
from toolkit.stages.certificates import FILE, REFERENCE, Scenes, certify_noisy_wire
from toolkit.stages.data import RunData
from toolkit.stages.export import WHOLE, load_network, wire_of
from toolkit.stages.frames import Sender, measure_frames
from toolkit.stages.leaks import readable_attacker
from toolkit.stages.train import STEP_PICTURES
from toolkit.variants import Variant

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from toolkit.privacy.attacks.tools import Network, Tools
    from toolkit.privacy.result import AttackResult
    from toolkit.privacy.suite import AttackData
    from toolkit.wire import WireFormat

    Halves = tuple[Network | None, Network | None]

BATCH = 64


def measure_references(
    context: Context,
    data: RunData,
    splits: Any,
    results: dict[str, AttackResult],
    reference: Any,
    scenes: Scenes,
) -> None:
    """Attack what else could have been sent with the run's own attackers, and add the rows.

    What the wire gives away beyond the embedding is told wherever the whole network is a variant of the run.

    Args:
        context: of the attack stage.
        data: of the run.
        splits: rows of both, as for the wire.
        results: of the wire, by variant.
        reference: scores of the strongest attack on the dense reference.
        scenes: counterfactual pictures by content, for the certificate of the row with noise.
    """
    from toolkit.privacy.references import excess_metrics, reference_metrics

    deployed, first = deployed_variant(context), running_variants(context)[0]
    for name in context.settings.attack.rows():
        variant = first if name == "shallow" else deployed
        found = _attack(context, data, splits, name, variant, results[deployed], scenes, reference)
        if found is None:
            continue
        metrics = reference_metrics(name, found, context.machine, found.measurable(reference)[0])
        if name == "embedding" and results[deployed].measurable(reference)[0]:
            metrics += excess_metrics(results[deployed], found, context.machine)
        for metric in metrics:
            context.metrics.add(metric)
    whole = next((key for key in results if Variant.from_key(key).network == WHOLE), None)
    can_tell = results[deployed].measurable(reference)[0]
    if whole is not None and can_tell and "embedding" not in context.settings.attack.rows():
        for metric in excess_metrics(results[deployed], results[whole], context.machine):
            context.metrics.add(metric)


def _attack(
    context: Context,
    data: RunData,
    splits: Any,
    name: str,
    variant: str,
    wire: AttackResult,
    scenes: Scenes,
    reference: Any,
) -> AttackResult | None:
    from toolkit.privacy.codes import encode_to_file
    from toolkit.privacy.suite import attack_data

    folder = context.folder / CHECKPOINTS / f"reference-{name}"
    folder.mkdir(parents=True, exist_ok=True)
    with open_encoder(context, variant, f"reference {name}") as encoder:
        made = _encoder(context, data, name, variant, encoder)
        if made is None:
            return None
        encode, fmt, known = made
        codes = encode_to_file(data.pictures, encode, folder / "codes.npy", BATCH)
        source = attack_data(codes, data.pictures, splits, fmt, data.identities, encode)
        noise = _row_noise(context, data, variant) * fmt.step if name == "noise" and fmt is not None else 0.0
        tools = tools_of(context, data, known, encode, fmt, folder, noise)
        prefix = f"privacy.reference.{name}."
        result = attack_row(context, source, tools, folder, variant, wire.anchors, prefix)
        if name == "noise" and fmt is not None:
            if any(scenes.values()):
                _certify_row(context, data, scenes, (encoder, encode, fmt), (source, tools, folder), result)
            sender = Sender(folder.name, prefix, variant, encode, fmt, known, noise)
            measure_frames(context, data, splits, sender, result, reference)
    result.save(context.folder / f"reference-{name}")
    return result


def _certify_row(
    context: Context,
    data: RunData,
    scenes: Scenes,
    wire: tuple[Encode, Encode, WireFormat],
    attacked: tuple[AttackData, Tools, Path],
    result: AttackResult,
) -> None:
    """The sandwich of the row with noise, by the row's own strongest attacker."""
    from toolkit.privacy.sandwich import NoisyWire
    from toolkit.privacy.suite import finished_attack

    source, tools, folder = attacked
    settings = context.settings.attack.model_copy(update={"seed": context.settings.seed}).fitting(tools)[0]
    label = readable_attacker(result)
    attack = finished_attack(label, source, settings, folder, tools) if label else None
    noisy = NoisyWire(*wire, _row_noise(context, data, result.variant))
    body = certify_noisy_wire(context, REFERENCE, result.variant, scenes, noisy, attack)
    context.write_json(f"reference-noise/{FILE}", body)


def _encoder(
    context: Context, data: RunData, name: str, variant: str, encoder: Encode
) -> tuple[Encode, WireFormat | None, Halves] | None:
    """Pictures to what is sent in this row, its format (None: floats), and what may be known of the network.

    Behind the embedding there is no cloud half; its edge half is the whole network with the wire inside.
    """
    from toolkit.privacy.references import as_wire, noisy_encoder

    network = Variant.from_key(variant).network
    if name == "embedding":
        threads = OpenSettings(threads=context.settings.thread_count())
        cloud = open_engine(cloud_path(context, network), threads)
        known = _whole(halves(context, network), wire_of(context, network))
        return lambda pictures: as_wire(cloud.run({"wire": encoder(pictures)})["embedding"]), None, known
    if name == "noise":
        if noise_of(context, variant):  # the wire itself has it, and is attacked as it is
            return None
        fmt = wire_of(context, network)
        sigma = _row_noise(context, data, variant) * fmt.step
        return noisy_encoder(encoder, fmt, sigma, context.settings.seed), fmt, halves(context, network)
    if context.settings.enter.kind == "onnx":
        return None
    return _shallow(context, data)


def _whole(known: Halves, fmt: WireFormat) -> Halves:
    from toolkit.wire import quantize_ste

    edge, cloud = known
    if edge is None or cloud is None:
        return None, None
    return lambda x: cloud(quantize_ste(edge(x), fmt))[:, :, None, None], None


def _row_noise(context: Context, data: RunData, variant: str) -> float:
    """Standard deviation, in steps, of the row with private noise."""
    sample = codes_of(context, variant)[data.rows["calibration"][:STEP_PICTURES]]
    return context.settings.attack.noise * float(np.asarray(sample, np.float32).std())


def _shallow(context: Context, data: RunData) -> tuple[Encode, WireFormat, Halves]:
    """The dense network behind an earlier block, quantized with as many bits as the run's wire."""
    import torch

    from toolkit.wire import WireFormat, choose_step, encode

    net, own = load_network(context, "dense")
    net.eval().requires_grad_(False)
    names = [name for name, _ in net.edge_blocks()]
    wanted = context.settings.attack.shallow_cut or names[(len(names) - 1) // 2]
    if wanted not in names[:-1]:
        raise AttackError(
            f"attack.shallow_cut: {wanted!r} is no block before the cut; one of {', '.join(names[:-1])}"
        )
    blocks = [block for _, block in net.edge_blocks()]
    sent = names.index(wanted) + 1

    def edge(x: torch.Tensor) -> torch.Tensor:
        return reduce(lambda y, block: block(y), blocks[:sent], x)

    def cloud(x: torch.Tensor) -> torch.Tensor:
        return net.cloud(reduce(lambda y, block: block(y), blocks[sent:], x))

    def feature(pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.no_grad():
            values: NDArray[np.float32] = edge(torch.from_numpy(to_input(pictures))).numpy()
        return values

    sample = feature(np.asarray(data.pictures[data.rows["calibration"][:STEP_PICTURES]]))
    signed = bool(sample.min() < 0)
    step = choose_step(sample, own.bits, signed)
    channels, height, width = sample.shape[1:]
    fmt = WireFormat(channels, height, width, own.bits, step, signed)
    return lambda pictures: encode(feature(pictures), fmt), fmt, (edge, cloud)
