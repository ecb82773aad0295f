"""One cell of the privacy matrix: a network of a run, cut and quantized, attacked with one or more seeds."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from benchmarks.picture_grid import row
from toolkit.models.network import ReidNet
from toolkit.preprocess import Preprocess, to_input
from toolkit.privacy.anchors import Anchors
from toolkit.privacy.attacks.inverse_network import InverseNetworkSettings
from toolkit.privacy.attacks.ridge import RidgeSettings
from toolkit.privacy.attacks.shadow import ShadowSettings
from toolkit.privacy.attacks.substitute import SubstituteSettings
from toolkit.privacy.attacks.tools import Tools
from toolkit.privacy.attacks.whitebox import WhiteBoxSettings
from toolkit.privacy.codes import Array, Pictures, encode_once
from toolkit.privacy.result import AttackResult
from toolkit.privacy.seeds import over_seeds
from toolkit.privacy.settings import Attacker, AttackSettings
from toolkit.privacy.suite import AttackData, attack_data, attack_variant, suite_anchors
from toolkit.privacy.synthetic import synthetic_pairs
from toolkit.wire import WireFormat, choose_step, encode

SHOWN = 8


@dataclass(frozen=True)
class Rows:
    """The splits as rows of :class:`Subset`'s pictures."""

    attacker_train: list[int]
    attacker_validation: list[int]
    query: list[int]
    gallery: list[int]


@dataclass(frozen=True)
class Subset:
    """The pictures of a run that a matrix uses.

    Attributes:
        pictures: ``(N, H, W, 3)`` uint8.
        identities: of them.
        rows: the splits.
        sample: calibration pictures, for the step.
        synthetic: none shows a real road, so that grids may be published.
        run: the folder they come from.
    """

    pictures: Pictures
    identities: list[str]
    rows: Rows
    sample: Pictures
    synthetic: bool
    run: Path

    @property
    def preprocess(self) -> Preprocess:
        """Of the run."""
        return Preprocess.load(self.run / "data")

    @classmethod
    def of_run(cls, run: Path, share: float, test: int, sample: int = 128) -> Subset:
        """A share of the pictures of ``run``, evenly, and at most ``test`` test pictures (0: that share)."""
        index = json.loads((run / "data" / "index.json").read_text(encoding="utf-8"))
        pictures = np.load(run / "data" / "pictures.npy", mmap_mode="r", allow_pickle=False)
        every = max(1, round(1 / share))
        found = {name: rows[::every] for name, rows in index["rows"].items()}
        # In VeRi's protocol every query is a copy of a gallery picture: no picture is scored twice.
        queries = [] if index["protocol"] == "veri" else found["query"]
        tested = np.unique([*queries, *found["gallery"]]).astype(np.int64)
        if 0 < test < len(tested):
            tested = tested[np.linspace(0, len(tested) - 1, test).round().astype(np.int64)]
        train, validation = found["attacker_train"], found["attacker_validation"]
        used = np.unique([*train, *validation, *tested]).astype(np.int64)
        place = {int(row): number for number, row in enumerate(used)}
        moved = [[place[int(row)] for row in rows] for rows in (train, validation, tested)]
        kept = pictures if len(used) == len(pictures) else pictures[used]
        return cls(
            kept,
            [index["identities"][row] for row in used],
            Rows(moved[0], moved[1], [], moved[2]),
            np.asarray(pictures[index["rows"]["calibration"][:sample]]),
            bool(index["synthetic"]),
            run,
        )


@dataclass(frozen=True)
class CutNetwork:
    """A network of the run, cut behind one of its blocks up to the run's own cut."""

    net: ReidNet
    cut: str

    def __post_init__(self) -> None:
        names = [name for name, _ in self.net.edge_blocks()]
        if self.cut not in names:
            raise SystemExit(f"no block {self.cut!r} in the edge half; one of {', '.join(names)}")

    def _blocks(self) -> tuple[list[Callable[[Tensor], Tensor]], list[Callable[[Tensor], Tensor]]]:
        names = [name for name, _ in self.net.edge_blocks()]
        blocks = [block for _, block in self.net.edge_blocks()]
        count = names.index(self.cut) + 1
        return blocks[:count], blocks[count:]

    def edge(self, x: Tensor) -> Tensor:
        """Pictures ``(N, 3, H, W)`` in [0, 1] to the feature behind the cut; differentiable."""
        for block in self._blocks()[0]:
            x = block(x)
        return x

    def cloud(self, x: Tensor) -> Tensor:
        """That feature to the embedding; differentiable."""
        for block in self._blocks()[1]:
            x = block(x)
        return self.net.cloud(x)

    def feature(self, pictures: Pictures) -> np.ndarray:
        """Pictures ``(N, H, W, 3)`` to float32 features."""
        with torch.no_grad():
            return np.asarray(self.edge(torch.from_numpy(to_input(np.asarray(pictures)))).numpy())

    def encoder(self, bits: int, sample: Pictures) -> tuple[Callable[[Pictures], Array], WireFormat | None]:
        """Pictures to what is sent with ``bits`` (32: the float feature), and its format."""
        if bits == 32:
            return self.feature, None
        seen = self.feature(sample)
        signed = bool(seen.min() < 0)
        channels, height, width = seen.shape[1:]
        fmt = WireFormat(channels, height, width, bits, choose_step(seen, bits, signed), signed)
        return lambda pictures: encode(self.feature(pictures), fmt), fmt


@dataclass(frozen=True)
class Budget:
    """What every attacker of a matrix may spend; two tables with another budget are two tables.

    Attributes:
        preset: ``screening`` or ``headline``.
        attackers: labels to run of those that the preset offers; empty for its own choice.
        steps: of a screening decoder.
        iterations: of the white-box search and, in the screening preset, of an imitating encoder.
        augmented: changed copies of the attacker's pictures; None for the preset's own number.
        synthetic: pictures of rendered vehicles that decoders learn from first.
        seeds: of the attackers.
        seed: the first one.
    """

    preset: str
    attackers: tuple[str, ...]
    steps: int
    iterations: int
    augmented: int | None
    synthetic: int
    seeds: int
    seed: int

    def suite(self, tools: Tools) -> AttackSettings:
        """The settings of one seed's suite."""
        plain = AttackSettings.model_validate(
            {
                "preset": self.preset,
                "seed": self.seed,
                "augmented": self.augmented,
                "pictures_shown": SHOWN,
            }
        )
        offered = self._screening() if self.preset == "screening" else self._headline(plain, tools)
        labels = self.attackers or (("ridge", "screening") if self.preset == "screening" else tuple(offered))
        unknown = sorted(set(labels) - set(offered))
        if unknown:
            raise SystemExit(f"{self.preset} has no attacker {unknown[0]!r}; one of {', '.join(offered)}")
        return plain.model_copy(update={"attackers": tuple(self._pretrained(offered[label]) for label in labels)})

    def _pretrained(self, options: Attacker) -> Attacker:
        if not self.synthetic or not isinstance(options, InverseNetworkSettings):
            return options
        return options.model_copy(update={"pretrain_steps": options.steps})

    def _headline(self, plain: AttackSettings, tools: Tools) -> dict[str, Attacker]:
        found = {one.label or one.kind: one for one in plain.chosen(tools)}
        found["white_box"] = WhiteBoxSettings(seed=self.seed, iterations=self.iterations)
        return found

    def _screening(self) -> dict[str, Attacker]:
        decoder = InverseNetworkSettings.screening(steps=self.steps, seed=self.seed)
        imitating: dict[str, Any] = {"steps": self.iterations, "seed": self.seed, "decoder": decoder}
        white = WhiteBoxSettings(iterations=self.iterations, tv=(0.03, 0.3), tuning_pictures=4, seed=self.seed)
        return {
            "ridge": RidgeSettings(seed=self.seed),
            "screening": decoder,
            "white_box": white,
            "shadow": ShadowSettings(**imitating),
            "substitute": SubstituteSettings(**imitating),
        }


@dataclass(frozen=True)
class Cell:
    """One cell, ready to be attacked: codes in a memory map, and what the adversary may know."""

    source: AttackData
    tools: Tools
    settings: AttackSettings
    seeds: int
    folder: Path

    @classmethod
    def prepare(cls, made: CutNetwork, bits: int, data: Subset, budget: Budget, folder: Path) -> Cell:
        """Encode the pictures once; a cell that was killed finds its codes again."""
        encoder, fmt = made.encoder(bits, data.sample)
        codes = encode_once(data.pictures, encoder, folder / "codes.npy")
        source = attack_data(codes, data.pictures, data.rows, fmt, data.identities, encoder)
        pretraining = None
        if budget.synthetic:
            shared = folder.parent / f"synthetic-{budget.synthetic}.npy"
            pretraining = synthetic_pairs(budget.synthetic, data.preprocess, encoder, fmt, folder, shared)
        tools = Tools(made.edge, made.cloud, fmt, data.identities, pretraining)
        return cls(source, tools, budget.suite(tools), budget.seeds, folder)

    def anchors(self) -> Anchors:
        """The scale of the matrix, of its pictures alone."""
        return suite_anchors(self.source, self.settings, self.folder / "seed-0")

    def attack(self, key: str, anchors: Anchors) -> list[AttackResult]:
        """One result a seed; finished attackers of a killed cell are read."""
        return [
            attack_variant(
                self.source,
                self.settings.reseeded(number),
                self.folder / f"seed-{number}",
                key.replace("/", "-"),
                anchors,
                self.tools,
            )
            for number in range(self.seeds)
        ]

    def clear(self) -> None:
        """Codes and checkpoints are large; what was measured is kept elsewhere."""
        shutil.rmtree(self.folder, ignore_errors=True)


def summary(results: Sequence[AttackResult], started: float) -> dict[str, Any]:
    """What is kept of a cell. ``started``: processor time at which this process began with it."""
    first = results[0]
    body: dict[str, Any] = {
        "attackers": {
            a.label: {
                "ssim": float(np.mean(a.ssim)),
                "mse": float(np.mean(a.mse)),
                "converged": a.fit.converged,
                "gain": a.fit.gain,
                "data_gain": a.fit.data_gain,
                "steps": a.fit.steps,
                "seconds": a.seconds,
            }
            for a in first.attackers
        },
        "normalized_ssim": vars(first.normalized_ssim),
        "r2": vars(first.r2),
        "strongest": [round(value, 4) for value in first.worst("ssim").ssim],
        "pictures": len(first.identities),
        "trusted": all(result.trusted for result in results),
        "converged": all(result.converged for result in results),
        "problems": list(dict.fromkeys(text for result in results for text in result.all_problems())),
        "cpu_seconds": time.process_time() - started,
        "attack_seconds": sum(a.seconds for result in results for a in result.attackers),
    }
    if len(results) > 1:
        body["seeds"] = {name: vars(found) for name, found in over_seeds(results).items()}
    return body


def grid(result: AttackResult, path: Path) -> None:
    """Originals, and below them what every attacker made of their codes."""
    made = result.reconstructions
    rows = [row("original", "", made["original"])]
    for attacker in result.attackers:
        rows.append(row(attacker.label, f"SSIM {np.mean(attacker.ssim):.3f}", made[attacker.label]))
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.concatenate(rows)[:, :, ::-1])
