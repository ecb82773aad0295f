"""What a network is worth and what its wire leaks: re-identification, attackers, sizes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from toolkit.models.network import ReidNet
from toolkit.patrol.objective import disturb
from toolkit.preprocess import to_input
from toolkit.privacy.anchors import Anchors
from toolkit.privacy.codes import WireCodes, encode_once
from toolkit.privacy.settings import AttackSettings
from toolkit.privacy.suite import AttackData, attack_variant, suite_anchors
from toolkit.runs import CHECKPOINTS
from toolkit.stages.attack import AttackRows
from toolkit.stages.base import Context
from toolkit.stages.data import RunData
from toolkit.stages.evaluate import rank_test
from toolkit.sweeps.frames import measure_frames
from toolkit.sweeps.leaks import measure_leaks
from toolkit.sweeps.settings import Job
from toolkit.wire.codes import WireFormat, choose_step, decode, encode, entropy_bits

BATCH = 64
SCORES = "scores.json"
Encode = Callable[[NDArray[np.uint8]], NDArray[np.int8]]


@dataclass(frozen=True)
class Link:
    """A network as a device, a wire and a server.

    Attributes:
        encode: uint8 pictures to codes as they are sent.
        receive: codes to embeddings (N, D).
        fmt: the wire.
    """

    encode: Encode
    receive: Callable[[NDArray[np.int8]], NDArray[np.float32]]
    fmt: WireFormat


def feature_link(net: ReidNet, fmt: WireFormat, noise: float = 0.0, dropout: float = 0.0, seed: int = 0) -> Link:
    """The cut's feature is sent, disturbed on the device as it was in training, drawn anew for every picture."""
    generator = torch.Generator().manual_seed(seed)

    @torch.no_grad()
    def send(pictures: NDArray[np.uint8]) -> NDArray[np.int8]:
        feature = net.edge(_input(pictures)).float()
        return encode(disturb(feature, noise * fmt.step, dropout, generator).numpy(), fmt)

    @torch.no_grad()
    def receive(codes: NDArray[np.int8]) -> NDArray[np.float32]:
        found: NDArray[np.float32] = net.cloud(torch.from_numpy(decode(codes, fmt))).float().numpy()
        return found

    net.eval()
    return Link(send, receive, fmt)


def embedding_link(net: ReidNet, data: RunData, bits: int) -> Link:
    """The whole network runs on the device; its embedding, quantized like a feature, is sent."""

    @torch.no_grad()
    def embed(pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        found: NDArray[np.float32] = net(_input(pictures)).float().numpy()[:, :, None, None]
        return found

    net.eval()
    example = embed(np.asarray(data.pictures[data.rows["calibration"][:BATCH]]))
    fmt = WireFormat(example.shape[1], 1, 1, bits, choose_step(example, bits, True), True)
    return Link(lambda pictures: encode(embed(pictures), fmt), lambda codes: decode(codes, fmt)[:, :, 0, 0], fmt)


def job_link(job: Job, net: ReidNet, fmt: WireFormat, data: RunData) -> Link:
    """What a job's device sends: its feature, disturbed as in its last training, or its embedding."""
    if job.wire == "embedding":
        return embedding_link(net, data, job.settings.wire.bits)
    last = job.settings.slim.finetune
    return feature_link(net, fmt, job.settings.wire.noise or last.noise, last.dropout, job.settings.seed)


def attack_data(link: Link, data: RunData, folder: Path) -> AttackData:
    """All pictures with their codes, encoded once into ``folder``."""
    codes = encode_once(data.pictures, link.encode, folder / "codes.npy", BATCH)
    rows = AttackRows(data)
    return AttackData(
        codes=WireCodes.from_format(codes, link.fmt),
        pictures=data.pictures,
        identities=data.identities,
        train=np.asarray(rows.attacker_train, np.int64),
        validation=np.asarray(rows.attacker_validation, np.int64),
        test=np.unique(np.asarray([*rows.query, *rows.gallery], np.int64)),
        encode=link.encode,
    )


def make_anchors(link: Link, data: RunData, settings: AttackSettings, folder: Path) -> Anchors:
    """The scale for all jobs of the sweep."""
    return suite_anchors(attack_data(link, data, folder), settings, folder)


def score(
    link: Link, data: RunData, settings: AttackSettings, anchors: Anchors, context: Context, name: str
) -> dict[str, Any]:
    """Evaluate, attack, read by name; write ``scores.json``, ``attack/``, ``leaks.json`` and ``frames.json``.

    Args:
        link: the network.
        data: pictures, splits, protocol.
        settings: of the attackers.
        anchors: of the sweep.
        context: of the job, into whose folder all is written, the states of the attackers too: a killed call goes
            on from there.
        name: of the job.

    Returns:
        What ``scores.json`` holds.
    """
    folder, work = context.folder, context.folder / CHECKPOINTS
    own = attack_data(link, data, work)
    codes = own.codes.values
    test = data.test
    received = [
        link.receive(np.asarray(codes[test[start : start + BATCH]], np.int8))
        for start in range(0, len(test), BATCH)
    ]
    ranking = rank_test(np.concatenate(received), data)
    result = attack_variant(own, settings, work / "attack", name, anchors)
    result.save(folder / "attack")
    measure_leaks(context, data, own, result, settings, work / "attack")
    measure_frames(own, link.fmt, settings, anchors, folder, work)
    per_query = ranking.per_query
    fmt = link.fmt
    body = {
        "map": ranking.map,
        "rank1": ranking.rank(1),
        "ap": per_query.ap.tolist(),
        "hit1": per_query.hits(1).tolist(),
        "query": per_query.query.tolist(),
        "identity": per_query.identity.tolist(),
        "wire": [fmt.channels, fmt.height, fmt.width],
        "bits": fmt.bits,
        "bytes_raw": fmt.channels * fmt.height * fmt.width * fmt.bits / 8,
        "bytes_entropy": entropy_bits(np.asarray(codes[test], np.int8)) / 8,
    }
    (folder / SCORES).write_text(json.dumps(body) + "\n", encoding="utf-8")
    return body


def _input(pictures: NDArray[np.uint8]) -> torch.Tensor:
    return torch.from_numpy(to_input(pictures)).contiguous(memory_format=torch.channels_last)
