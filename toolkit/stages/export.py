"""Stage ``export``: ONNX halves of every network of the run, with their wire and their parity."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from toolkit.preprocess import Preprocess, to_input
from toolkit.runs import file_sha256
from toolkit.settings import RunSettings
from toolkit.stages.base import Context, Stage
from toolkit.stages.data import RunData
from toolkit.stages.train import STEP_PICTURES, WIRE
from toolkit.wire.codes import WireFormat

EDGE, CLOUD, NETWORKS = "edge.onnx", "cloud.onnx", "networks.json"
WHOLE, COST, BATCH = "whole", "cost.json", 64
PARITY_PICTURES = 32


class ExportStage(Stage):
    """``edge.onnx`` and ``cloud.onnx`` of the dense, slim and whole network, or of a user's ONNX file."""

    name = "export"
    version = 1
    sections = ("enter", "export", "wire")
    ignored = ("wire.noise",)
    inputs = ("data", "train", "slim")

    def files(self, settings: RunSettings) -> dict[str, str]:
        path = settings.enter.path
        return {path.name: file_sha256(path)} if settings.enter.kind == "onnx" and path else {}

    def examine(self, settings: RunSettings) -> None:
        from toolkit.export import check_onnx

        if settings.enter.kind == "onnx" and settings.enter.path:
            check_onnx(settings.enter.path, settings.enter.cut, settings.picture.height, settings.picture.width)

    def run(self, context: Context) -> None:
        data = RunData.load(context)
        parity: dict[str, Any] = {}
        if context.settings.enter.kind == "onnx":
            networks = ["dense"]
            parity["dense"] = self._foreign(context, data)
        else:
            networks = ["dense", "slim"]
            if context.settings.export.whole:
                networks.append(WHOLE)
                self._choose_whole_wire(context, data)
            for network in networks:
                parity[network] = self._own(context, data, network)
        context.write_json("parity.json", parity)
        context.write_json(NETWORKS, {"networks": networks, "final": networks[min(1, len(networks) - 1)]})
        for network in networks:
            for half in (EDGE, CLOUD):
                size = (context.folder / network / half).stat().st_size
                name = f"size.onnx.{half.removesuffix('.onnx')}"
                context.measure(name, size, unit="bytes", variant=network)
        context.summary["networks"] = " ".join(networks)

    def _own(self, context: Context, data: RunData, network: str) -> dict[str, Any]:
        from toolkit.export.halves import export_halves

        net, fmt = load_network(context, network)
        folder = context.folder / network
        folder.mkdir(exist_ok=True)
        preprocess = Preprocess.load(context.run.folder("data"))
        pictures = data.pictures[data.test[:PARITY_PICTURES]]
        result = export_halves(net, fmt, preprocess, pictures, folder, context.settings.export)
        (folder / WIRE).write_text(fmt.to_json(), encoding="utf-8")
        return result.to_dict()

    def _choose_whole_wire(self, context: Context, data: RunData) -> None:
        import torch

        from toolkit.export.whole import WholeNetwork, embedding_wire
        from toolkit.surgery import cost

        net, _ = load_network(context, "slim")
        whole = WholeNetwork(net).eval()
        fmt = embedding_wire(whole, batches_of(data, data.rows["calibration"][:STEP_PICTURES], BATCH))
        folder = context.folder / WHOLE
        folder.mkdir(exist_ok=True)
        (folder / WIRE).write_text(fmt.to_json(), encoding="utf-8")
        net.classifier = torch.nn.Identity()  # of the training identities; it never leaves the training
        spent = cost(whole, torch.zeros(1, 3, *data.pictures.shape[1:3]))
        quantities = ("parameters", "macs", "activation_bytes")
        context.write_json(f"{WHOLE}/{COST}", {name: getattr(spent, name) for name in quantities})

    def _foreign(self, context: Context, data: RunData) -> dict[str, Any]:
        from toolkit.export import split_onnx

        enter = context.settings.enter
        assert enter.path is not None
        folder = context.folder / "dense"
        folder.mkdir(exist_ok=True)
        result = split_onnx(
            enter.path,
            enter.cut,
            Preprocess.load(context.run.folder("data")),
            np.asarray(data.pictures[data.rows["calibration"][:STEP_PICTURES]]),
            context.settings.wire.bits,
            folder,
            enter.normalization,
            context.settings.export,
        )
        (folder / WIRE).write_text(result.fmt.to_json(), encoding="utf-8")
        return result.export.to_dict()


def load_network(context: Context, network: str) -> tuple[Any, WireFormat]:
    """A PyTorch network of the run and the wire it sends on."""
    from toolkit.models.checkpoint import load_checkpoint
    from toolkit.surgery import rebuild

    if network == WHOLE:
        from toolkit.export.whole import WholeNetwork

        slim, _ = load_network(context, "slim")
        return WholeNetwork(slim), _whole_wire(context)
    stage = "slim" if network == "slim" else "train"
    name = "net" if network == "slim" else "dense"
    net = load_checkpoint(context.run.folder(stage, name), rebuild=rebuild).net
    return net, WireFormat.from_json(context.run.path(stage, WIRE).read_text(encoding="utf-8"))


def _whole_wire(context: Context) -> WireFormat:
    """From the stage's folder while it is being made, from the finished artifact afterwards."""
    making = context.folder / WHOLE / WIRE
    path = making if making.is_file() else context.run.path("export", WHOLE, WIRE)
    return WireFormat.from_json(path.read_text(encoding="utf-8"))


def networks_of(context: Context) -> tuple[list[str], str]:
    """Names of the exported networks, and the one that is deployed."""
    body = context.read_json("export", NETWORKS)
    return list(body["networks"]), str(body["final"])


def exported(context: Context, network: str, half: str) -> Path:
    """An exported ONNX file."""
    return context.run.path("export", network, half)


def wire_of(context: Context, network: str) -> WireFormat:
    """The wire format of an exported network."""
    return WireFormat.from_json(context.run.path("export", network, WIRE).read_text(encoding="utf-8"))


def batches_of(data: RunData, rows: Any, size: int) -> Any:
    """Input batches float32 (n, 3, H, W) of some rows."""
    for start in range(0, len(rows), size):
        yield to_input(np.asarray(data.pictures[rows[start : start + size]]))
