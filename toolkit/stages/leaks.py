"""Leaks by name within the attack stage: which contents the run's data knows, and what each variant gives away."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from toolkit.arrays import create_array
from toolkit.datasets import open_dataset
from toolkit.datasets.fleet import load_truth
from toolkit.progress import track
from toolkit.stages.base import Context
from toolkit.stages.data import RunData

if TYPE_CHECKING:
    from toolkit.privacy.attacks.base import Attack
    from toolkit.privacy.contents import NamedContent
    from toolkit.privacy.leaks import LeakProbe, LeakResult
    from toolkit.privacy.patches import Reader
    from toolkit.privacy.result import AttackResult
    from toolkit.privacy.suite import AttackData

logger = logging.getLogger(__name__)
CHUNK = 256
SLOW = ("white_box",)  # searches anew for every picture, so it is not asked for all of them
FOLDER = "leaks"

Pictures = NDArray[np.uint8]


class LeakStudy:
    """The recognisers of one run; the originals are read once, each variant with what it gives away."""

    def __init__(self, context: Context, data: RunData, train: NDArray[np.int64], test: NDArray[np.int64]) -> None:
        """Find the contents and train the recognisers of originals.

        Args:
            context: of the attack stage.
            data: of the run.
            train: rows that the adversary owns.
            test: rows that the suite scores.
        """
        from toolkit.privacy.leaks import LeakProbe
        from toolkit.privacy.patches import picture_reader

        assert context.settings.attack.leaks is not None
        self.context, self.data, self.train, self.test = context, data, train, test
        self.rows = np.concatenate([train, self.test])
        options = context.settings.attack.leaks
        settings = options.model_copy(
            update={"recogniser": options.recogniser.model_copy(update={"seed": context.settings.seed})}
        )
        self.probes: list[LeakProbe] = []
        for content in track(self._contents(), "recognisers of originals"):
            sides = [np.isin(content.regions.rows, rows).any() for rows in (train, self.test)]
            if not all(sides):
                logger.info("leak of the %s is left out: only one side of the split shows it", content.name)
                continue
            read = picture_reader(data.pictures)
            self.probes.append(LeakProbe(content, data.identities, train, self.test, read, settings))
        for probe in self.probes:
            if not probe.readable:
                logger.info("leak of the %s is not reported: originals cannot be read", probe.content.name)

    def measure(
        self, key: str, result: AttackResult, source: AttackData, attack: Attack | None
    ) -> list[LeakResult]:
        """Leaks of one variant, into the metrics and ``leaks.json``; the same as results, region by region.

        Args:
            key: of the variant.
            result: of the suite on it.
            source: its codes.
            attack: the fitted attacker whose reconstructions are read; None: the codes alone are.
        """
        from toolkit.privacy.patches import code_reader

        suite = f"worst of {len(result.attackers)} attackers"
        shown: dict[str, Reader] = {}
        background = self._background()
        wanted = background is not None or any(probe.readable for probe in self.probes)
        path = self.context.folder / f"{FOLDER}-{key}.npy"
        if attack is not None and wanted:
            shown[attack.name] = self._reconstructed(attack, source, path)
        found = [probe.measure(shown, code_reader(source.codes)) for probe in self.probes]
        for leak in found:
            for metric in leak.metrics(key, self.context.machine, suite):
                self.context.metrics.add(metric)
        self.context.write_json(f"{key}/leaks.json", [_without_regions(leak) for leak in found])
        if attack is not None and background is not None:
            self._outside(key, f"{suite}: {attack.name}", shown[attack.name], *background)
        path.unlink(missing_ok=True)
        return found

    def _contents(self) -> list[NamedContent]:
        from toolkit.privacy.contents import fleet_contents, labelled_contents

        settings, data = self.context.settings, self.data
        assert settings.attack.leaks is not None
        rows = [int(row) for row in self.rows]
        cameras, wanted = [data.cameras[row] for row in rows], settings.attack.leaks.contents
        if data.synthetic:
            truths = [load_truth(data.root, data.paths[row]) for row in rows]
            return fleet_contents(truths, cameras, rows, settings.data.fleet, wanted)
        records = open_dataset(settings.data.model_copy(update={"root": data.root})).records
        attributes: dict[str, Mapping[str, str]] = {record.path: record.attributes for record in records}
        labels = [attributes.get(data.paths[row], {}) for row in rows]
        return labelled_contents(labels, cameras, rows, wanted)

    def _reconstructed(self, attack: Attack, source: AttackData, path: Path) -> Reader:
        """Reconstructions of all of the study's pictures, kept on disk while they are read."""
        from toolkit.privacy.patches import picture_reader

        store = create_array(path, np.uint8, (len(self.rows), *self.data.pictures.shape[1:]))
        for start in track(range(0, len(self.rows), CHUNK), f"reconstructions by {attack.name}"):
            part = self.rows[start : start + CHUNK]
            store[start : start + len(part)] = attack.reconstruct(source.codes, part)
        place = np.full(len(self.data.pictures), -1, np.int64)
        place[self.rows] = np.arange(len(self.rows))
        read = picture_reader(store)
        return lambda rows: read(place[rows])

    def _background(self) -> tuple[NDArray[np.bool_], Pictures] | None:
        """Where the vehicle is not in the test pictures, and the mean picture; None where nothing knows it."""
        options = self.context.settings.attack.leaks
        if not self.data.synthetic or options is None or "background" not in options.contents:
            return None
        import cv2

        height, width = self.data.pictures.shape[1:3]
        masks = [load_truth(self.data.root, self.data.paths[row]).mask for row in self.test]
        small = [cv2.resize(m.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA) for m in masks]
        total = sum(np.asarray(self.data.pictures[row], np.float64) for row in self.train)
        return np.stack(small) == 0, np.rint(total / len(self.train)).astype(np.uint8)

    def _outside(self, key: str, protocol: str, read: Reader, outside: NDArray[np.bool_], mean: Pictures) -> None:
        """SSIM outside the vehicle, beside what the mean picture reaches there."""
        from toolkit.privacy.leaks import region_ssim
        from toolkit.privacy.statistics import estimate
        from toolkit.privacy.statistics import mean as average

        scores, floor = np.empty(len(self.test)), np.empty(len(self.test))
        for start in range(0, len(self.test), CHUNK):
            part = slice(start, start + CHUNK)
            original = np.asarray(self.data.pictures[self.test[part]])
            rebuilt = np.rint(read(self.test[part]) * 255).astype(np.uint8).transpose(0, 2, 3, 1)
            scores[part] = region_ssim(np.ascontiguousarray(rebuilt), original, outside[part])
            floor[part] = region_ssim(np.broadcast_to(mean, original.shape).copy(), original, outside[part])
        seen = np.isfinite(scores)
        if not seen.any():
            return
        family = "leak" if self.context.settings.data.fleet.background == "per_picture" else "identity_evidence"
        owners = [self.data.identities[row] for row in self.test[seen]]
        for name, values, how in (
            ("ssim", scores, protocol),
            ("ssim_floor", floor, "mean picture"),
        ):
            found = estimate([values[seen]], owners, average)
            fields: dict[str, Any] = {"n": int(seen.sum()), "variant": key, "split": "test", "protocol": how}
            self.context.measure(
                f"{family}.background.{name}", found.value, interval=(found.low, found.high), **fields
            )


def _without_regions(leak: LeakResult) -> dict[str, Any]:
    return {name: value for name, value in asdict(leak).items() if name not in ("hits", "owners")}


def readable_attacker(result: AttackResult) -> str | None:
    """Label of the strongest attacker that can be asked for every picture; None where there is none."""
    quick = [attacker for attacker in result.attackers if attacker.kind not in SLOW]
    return max(quick, key=lambda one: float(np.mean(one.ssim))).label if quick else None
