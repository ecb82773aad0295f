"""Fit every configured attacker on one variant's codes, score each once on test, keep what finished."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from toolkit.errors import AttackError
from toolkit.privacy.anchors import Anchors, measure_anchors
from toolkit.privacy.attacks.base import Attack
from toolkit.privacy.attacks.inverse_network import InverseNetwork, InverseNetworkSettings
from toolkit.privacy.attacks.tools import Network, Tools
from toolkit.privacy.augmentation import changed_part, live_part, mirror
from toolkit.privacy.codes import Array, Indices, Pictures, WireCodes
from toolkit.privacy.pairs import LivePart, Pairs, Part
from toolkit.privacy.perceptual import Lpips, fits_ms_ssim, ms_ssim
from toolkit.privacy.result import AttackerResult, AttackResult, attacker_from
from toolkit.privacy.resume import fresh_folder, reconstruct_kept
from toolkit.privacy.settings import NO_TOOLS, AttackSettings, make_attack
from toolkit.privacy.similarity import compare
from toolkit.privacy.trust import attacker_problems, suite_problems
from toolkit.wire import WireFormat

logger = logging.getLogger(__name__)
FLOOR_SHARE = 4
SCORED = 128  # pictures compared at a time


class SplitsLike(Protocol):
    """What the suite needs of ``toolkit.datasets.Splits``: indices into codes and pictures."""

    @property
    def attacker_train(self) -> Sequence[int]: ...
    @property
    def attacker_validation(self) -> Sequence[int]: ...
    @property
    def query(self) -> Sequence[int]: ...
    @property
    def gallery(self) -> Sequence[int]: ...


@dataclass(frozen=True)
class AttackData:
    """One variant's codes with the pictures they come from, and who may see which.

    Attributes:
        codes: as transmitted.
        pictures: ``(N, H, W, 3)``, row by row the pictures behind the codes.
        identities: of all N pictures.
        train, validation, test: rows; without a common identity.
        encode: the variant's edge half, uint8 pictures to codes, for augmentation before encoding.
    """

    codes: WireCodes
    pictures: Pictures
    identities: Sequence[str]
    train: Indices
    validation: Indices
    test: Indices
    encode: Callable[[Pictures], Array] | None = None

    def __post_init__(self) -> None:
        if len(self.identities) != len(self.pictures):
            raise AttackError(f"{len(self.identities)} identities do not belong to {len(self.pictures)} pictures")
        names = [{self.identities[i] for i in rows} for rows in (self.train, self.validation, self.test)]
        for a, b, text in (
            (0, 2, "train and test"),
            (1, 2, "validation and test"),
            (0, 1, "train and validation"),
        ):
            if names[a] & names[b]:
                raise AttackError(f"{text} share identity {min(names[a] & names[b])}; split by identity")

    def pairs(self, rows: Indices) -> Pairs:
        """Pairs at ``rows``."""
        return Pairs([Part(self.codes, self.pictures, rows)])


def attack_data(
    codes: Array,
    pictures: Pictures,
    splits: SplitsLike,
    fmt: WireFormat | None,
    identities: Sequence[str],
    encode: Callable[[Pictures], Array] | None = None,
) -> AttackData:
    """Codes, pictures and splits as one object; the arguments are those of :func:`run_attack`.

    Raises:
        AttackError: they do not belong together.
    """
    return AttackData(
        codes=WireCodes.from_format(codes, fmt),
        pictures=pictures,
        identities=identities,
        train=np.asarray(splits.attacker_train, np.int64),
        validation=np.asarray(splits.attacker_validation, np.int64),
        test=np.unique(np.asarray([*splits.query, *splits.gallery], np.int64)),
        encode=encode,
    )


def run_attack(
    codes: Array,
    pictures: Pictures,
    splits: SplitsLike,
    fmt: WireFormat | None,
    settings: AttackSettings,
    folder: Path,
    *,
    variant: str,
    identities: Sequence[str],
    encode: Callable[[Pictures], Array] | None = None,
    edge: Network | None = None,
    cloud: Network | None = None,
    anchors: Anchors | None = None,
) -> AttackResult:
    """Attack the codes of one variant.

    Args:
        codes: ``(N, C, h, w)`` int8 as transmitted, or float32 features; may be a memory map.
        pictures: ``(N, H, W, 3)`` uint8, the pictures behind them.
        splits: rows of both (``attacker_train``, ``attacker_validation``; test is query and gallery).
        fmt: the wire format; None for float32 features.
        settings: attackers and presets.
        folder: for checkpoints and results; attackers that finished are not run again.
        variant: key of the variant.
        identities: of the N pictures.
        encode: the variant's edge half, for mirror images.
        edge: the differentiable edge half, for white-box attacks.
        cloud: the differentiable cloud half, for query-free attacks.
        anchors: of an earlier variant of the same run; measured here if None.

    Raises:
        AttackError: codes, pictures and splits do not belong together, or no attacker finished.
    """
    data = attack_data(codes, pictures, splits, fmt, identities, encode)
    return attack_variant(data, settings, folder, variant, anchors, Tools(edge, cloud, fmt, identities))


def attack_variant(
    data: AttackData,
    settings: AttackSettings,
    folder: Path,
    variant: str,
    anchors: Anchors | None = None,
    tools: Tools = NO_TOOLS,
) -> AttackResult:
    """Like :func:`run_attack`, from one object."""
    folder.mkdir(parents=True, exist_ok=True)
    tag, tools = _fingerprint(data), _knowing(tools, data)
    train, validation = _own_pairs(data, settings, folder, tag)
    shown = _spread(len(data.test), settings.pictures_shown)
    attackers, failed, kept = [], [], {"original": data.pictures[data.test[shown]]}
    for options in settings.chosen(tools):
        label = options.label or options.kind
        try:
            attack = make_attack(options, tools)
            attackers.append(_run_one(attack, data, (train, validation), folder, tag, shown, settings.lpips))
            kept[label] = np.load(folder / label / "shown.npy", allow_pickle=False)
        except AttackError as error:
            logger.warning("%s failed on %s: %s", label, variant, error)
            failed.append((label, str(error)))
    if not attackers:
        raise AttackError(f"no attacker finished on {variant}: " + "; ".join(f"{a}: {e}" for a, e in failed))
    anchors = anchors or _anchors(data, (train, validation), settings, folder, tag)
    judged = tuple(attacker_problems(a, attackers) for a in attackers)
    problems = suite_problems(judged, data, settings.minimum_test, settings.minimum_train)
    result = AttackResult(
        variant=variant,
        identities=tuple(data.identities[i] for i in data.test),
        attackers=judged,
        failed=tuple(failed),
        anchors=anchors,
        problems=problems,
        shown=tuple(int(i) for i in shown),
        reconstructions=kept,
    )
    result.save(folder)
    return result


def finished_attack(
    label: str, data: AttackData, settings: AttackSettings, folder: Path, tools: Tools = NO_TOOLS
) -> Attack:
    """An attacker of an earlier :func:`attack_variant`, ready to reconstruct any pictures, for leaks by name.

    A learned attacker is read from its finished checkpoint in ``folder``, not trained again.

    Raises:
        AttackError: the settings have no attacker of that label.
    """
    for options in settings.chosen(_knowing(tools, data)):
        if label == (options.label or options.kind):
            attack = make_attack(options, _knowing(tools, data))
            attack.fit(*_own_pairs(data, settings, folder, _fingerprint(data)), folder / label)
            return attack
    raise AttackError(f"no attacker {label!r} in this suite")


def suite_anchors(data: AttackData, settings: AttackSettings, folder: Path) -> Anchors:
    """The scale of these pictures alone, for the variants that are attacked later; read again where it is done."""
    folder.mkdir(parents=True, exist_ok=True)
    tag = _fingerprint(data)
    return _anchors(data, _own_pairs(data, settings, folder, tag), settings, folder, tag)


def _knowing(tools: Tools, data: AttackData) -> Tools:
    """The adversary knows which of its own pictures show one vehicle, and looks at no others' identities."""
    return tools if tools.identities is not None else replace(tools, identities=data.identities)


def _own_pairs(data: AttackData, settings: AttackSettings, folder: Path, tag: str) -> tuple[Pairs, Pairs]:
    """The adversary's pairs, with stored mirror images and live changes, and its validation pairs."""
    parts: list[Part | LivePart] = [Part(data.codes, data.pictures, data.train)]
    if data.encode and settings.mirror:
        parts.append(changed_part(data, data.encode, mirror, folder / "mirror", tag))
    copies = settings.copies(len(data.train))
    if data.encode and copies:
        parts.append(live_part(data, data.encode, settings.seed, copies))
    return Pairs(parts), data.pairs(data.validation)


def _run_one(
    attack: Attack,
    data: AttackData,
    pairs: tuple[Pairs, Pairs],
    folder: Path,
    tag: str,
    shown: Indices,
    lpips: Path | None = None,
) -> AttackerResult:
    """Fit and score one attacker, or read what an earlier call left."""
    own = folder / attack.name
    done, key = own / "result.json", tag + attack.options_json() + (str(lpips) if lpips else "")
    if done.exists():
        body = json.loads(done.read_text(encoding="utf-8"))
        if body.pop("key", None) == key:
            return attacker_from(body)
    fresh_folder(own, tag)
    started = time.monotonic()
    report = attack.fit(*pairs, own)
    pictures = reconstruct_kept(attack, data, own, key)
    scores = _scores(pictures, data, lpips)
    result = AttackerResult(
        label=attack.name,
        kind=attack.kind,
        knowledge=attack.knowledge.model_dump(),
        fit=report,
        problems=_constant(pictures),
        seconds=time.monotonic() - started,
        **scores,
    )
    np.save(own / "shown.npy", pictures[shown], allow_pickle=False)
    done.write_text(json.dumps({**asdict(result), "key": key}) + "\n", encoding="utf-8")
    return result


def _scores(pictures: Pictures, data: AttackData, lpips: Path | None) -> dict[str, Any]:
    """Every measure of the reconstructions of the test pictures, some of them in memory at a time."""
    large, network = fits_ms_ssim(*data.pictures.shape[1:3]), Lpips.load(lpips) if lpips else None
    found: dict[str, list[float]] = {"mse": [], "ssim": [], "ms_ssim": [], "lpips": []}
    for start in range(0, len(data.test), SCORED):
        originals = np.asarray(data.pictures[data.test[start : start + SCORED]])
        part = np.asarray(pictures[start : start + SCORED])
        scores = compare(part, originals)
        found["mse"] += scores.mse.tolist()
        found["ssim"] += scores.ssim.tolist()
        found["ms_ssim"] += ms_ssim(part, originals).tolist() if large else []
        found["lpips"] += network.distance(part, originals).tolist() if network else []
    return {name: tuple(values) for name, values in found.items()}


def _anchors(
    data: AttackData, pairs: tuple[Pairs, Pairs], settings: AttackSettings, folder: Path, tag: str
) -> Anchors:
    path = folder / "anchors.json"
    options = next((a for a in settings.chosen() if isinstance(a, InverseNetworkSettings)), None)
    options = options or InverseNetworkSettings.screening()
    steps = max(2, options.steps // FLOOR_SHARE)
    options = options.model_copy(update={"label": "shuffled", "steps": steps, "doublings": 0, "data_check": False})
    marker = folder / "shuffled" / "key.txt"
    key = tag + options.model_dump_json()
    if path.exists() and marker.exists() and marker.read_text(encoding="utf-8") == key:
        return Anchors.load(path)
    fresh_folder(folder / "shuffled", tag)
    test = data.pairs(data.test)
    own, held = pairs[0].unchanged(), pairs[1]
    anchors = measure_anchors(own, held, test, InverseNetwork(options), settings.seed, folder / "shuffled")
    anchors.save(path)
    marker.write_text(key, encoding="utf-8")
    return anchors


def _constant(pictures: Pictures) -> tuple[str, ...]:
    spread = pictures[:: max(1, len(pictures) // 256)].astype(np.float32).std(axis=0).mean()
    return ("gives the same picture for all codes",) if len(pictures) > 1 and spread < 0.5 else ()


def _spread(count: int, wanted: int) -> Indices:
    return np.unique(np.linspace(0, count - 1, min(wanted, count)).round().astype(np.int64))


def _fingerprint(data: AttackData) -> str:
    """Digest of codes, pictures and rows: what an earlier result must have been made from."""
    digest = hashlib.blake2b(digest_size=16)
    for values in (data.codes.values, data.pictures, data.train, data.validation, data.test):
        digest.update(f"{values.dtype}{values.shape}".encode())
        for start in range(0, len(values), 1024):
            digest.update(np.ascontiguousarray(values[start : start + 1024]).tobytes())
    digest.update(f"{data.codes.step!r}".encode())
    return digest.hexdigest()
