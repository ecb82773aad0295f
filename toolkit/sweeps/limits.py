"""What the shallow dense split costs that a sweep's budget names: every cost of a row is held against it."""

from __future__ import annotations

from functools import lru_cache

import torch

from toolkit.models.architecture import Architecture
from toolkit.models.network import build_network
from toolkit.surgery import cost
from toolkit.sweeps.network import predicted_latency
from toolkit.sweeps.settings import Job


def limits(job: Job) -> dict[str, float]:
    """Costs of the dense split after the cut that the job's budget names; empty where it names none.

    ``macs``, ``parameters`` and ``activation_bytes`` are those of the dense edge half without a bottleneck,
    ``wire_bytes`` those of its feature at the job's bits, packed; ``latency_ms`` is the predicted one where the
    sweep names a device.
    """
    if not isinstance(job.limit, str):
        return {}
    model = job.settings.model.model_copy(update={"cut": job.limit, "bottleneck": 0, "bottleneck_pool": 1})
    picture = job.settings.picture
    found = dict(_of_split(model.model_dump_json(), (picture.height, picture.width), job.device))
    return found | {"wire_bytes": found.pop("values") * job.settings.wire.bits / 8}


@lru_cache(maxsize=64)
def _of_split(model: str, size: tuple[int, int], device: str | None) -> tuple[tuple[str, float], ...]:
    from toolkit.settings import ModelSettings

    options = ModelSettings.model_validate_json(model).model_dump()
    net = build_network(Architecture(identities=2, **options)).eval()
    example = torch.zeros(1, 3, *size)
    edge = cost(net, example, half="edge")
    with torch.no_grad():
        values = net.edge(example).numel()
    found = {
        "macs": float(edge.macs),
        "parameters": float(edge.parameters),
        "activation_bytes": float(edge.activation_bytes),
        "values": float(values),
    }
    if device is not None:
        found["latency_ms"] = predicted_latency(net, size, device)["latency_ms"]
    return tuple(found.items())
