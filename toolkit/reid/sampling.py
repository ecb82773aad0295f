"""PK sampling: batches of P identities with K pictures each."""

from __future__ import annotations

import numpy as np

from toolkit.errors import SettingsError


def pk_batches(labels: np.ndarray, identities: int, pictures: int, seed: int, epoch: int) -> list[np.ndarray]:
    """The batches of one epoch, a function of the arguments alone.

    Each identity's pictures are shuffled and dealt into hands of K; an identity with fewer than K pictures
    repeats them evenly (augmentation makes them differ), a last short hand is filled up with other pictures
    of the identity. Each batch takes one hand from P identities, those with the most hands left first. The
    epoch ends when fewer than P identities have hands left; which are left over changes with the epoch.

    Args:
        labels: ``(N,)``, any integers.
        identities: P, at least 2.
        pictures: K, at least 2.
        seed: of the run, not negative.
        epoch: not negative.

    Returns:
        Index arrays of length P * K, int64, an identity's pictures side by side.

    Raises:
        SettingsError: P or K below 2, or fewer than P identities in the data.
    """
    if identities < 2 or pictures < 2:
        raise SettingsError(f"a batch needs at least 2 identities with 2 pictures, not {identities} x {pictures}")
    labels = np.asarray(labels)
    members = {label: np.flatnonzero(labels == label) for label in np.unique(labels)}
    if len(members) < identities:
        raise SettingsError(
            f"a batch of {identities} identities cannot be drawn from {len(members)}; lower the batch's identities"
        )
    generator = np.random.default_rng((seed, epoch))
    hands = [_deal(own, pictures, generator) for own in members.values()]
    left = np.array([len(own) for own in hands])
    batches = []
    while np.count_nonzero(left) >= identities:
        order = np.lexsort((generator.random(len(left)), -left))[:identities]
        batches.append(np.concatenate([hands[who][left[who] - 1] for who in generator.permutation(order)]))
        left[order] -= 1
    return batches


def _deal(own: np.ndarray, size: int, generator: np.random.Generator) -> list[np.ndarray]:
    """Hands of ``size`` pictures that together hold every picture of one identity."""
    shuffled = generator.permutation(own)
    if len(shuffled) <= size:
        return [np.resize(shuffled, size)]
    hands = [shuffled[start : start + size] for start in range(0, len(shuffled), size)]
    short = size - len(hands[-1])
    if short:
        others = shuffled[: -len(hands[-1])]
        hands[-1] = np.concatenate((hands[-1], generator.choice(others, short, replace=False)))
    return hands
