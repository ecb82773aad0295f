"""What the calibration benchmark reads of a run folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from calibration import choose_pictures
from toolkit.models.checkpoint import load_checkpoint
from toolkit.models.network import ReidNet
from toolkit.patrol.data import TrainingData
from toolkit.reid.ranking import Ranking, evaluate
from toolkit.surgery import rebuild


class Run:
    """A finished ``export`` stage, its pictures and its protocol."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        index = json.loads((folder / "data" / "index.json").read_text(encoding="utf-8"))
        self.pictures = folder / "data" / "pictures.npy"
        self.identities, self.cameras = np.asarray(index["identities"]), np.asarray(index["cameras"])
        self.rows = {name: np.asarray(rows, np.int64) for name, rows in index["rows"].items()}
        self.protocol = index["protocol"]
        self.test = np.union1d(self.rows["query"], self.rows["gallery"])

    def half(self, network: str, half: str) -> Path:
        return self.folder / "export" / network / f"{half}.onnx"

    def batch(self, rows: np.ndarray) -> np.ndarray:
        pictures = np.load(self.pictures, mmap_mode="r", allow_pickle=False)[rows]
        return np.ascontiguousarray(pictures.transpose(0, 3, 1, 2)).astype(np.float32) / np.float32(255)

    def chosen(self, count: int) -> np.ndarray:
        train = self.rows["train"]
        picked = choose_pictures(self.identities[train].tolist(), self.cameras[train].tolist(), count, 0)
        return np.sort(train[picked])

    def training_data(self) -> TrainingData:
        rows = self.rows["train"]
        names = np.unique(self.identities[rows], return_inverse=True)[1]
        return TrainingData(
            np.load(self.pictures, mmap_mode="r", allow_pickle=False)[rows], names.astype(np.int64)
        )

    def network(self, name: str) -> ReidNet:
        """The network in PyTorch: ``dense`` or ``slim``."""
        folder = self.folder / ("slim/net" if name == "slim" else "train/dense")
        return load_checkpoint(folder, rebuild=rebuild).net

    def mean_average_precision(self, cloud: Any, codes: np.ndarray) -> float:
        return float(self.ranking(cloud, codes).map)

    def ranking(self, cloud: Any, codes: np.ndarray) -> Ranking:
        """Re-identification of the test pictures from their codes."""
        size = 64
        parts = [cloud.run(None, {"wire": codes[i : i + size]})[0] for i in range(0, len(codes), size)]
        embeddings = np.concatenate(parts)
        query, gallery = (np.searchsorted(self.test, self.rows[name]) for name in ("query", "gallery"))
        names, cameras = self.identities[self.test], self.cameras[self.test]
        return evaluate(
            embeddings[query],
            embeddings[gallery],
            names[query].tolist(),
            names[gallery].tolist(),
            cameras[query].tolist(),
            cameras[gallery].tolist(),
            self.protocol,
            self.test[query],
            self.test[gallery],
        )
