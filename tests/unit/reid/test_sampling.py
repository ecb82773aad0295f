"""PK batches: their shape, coverage and determinism."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toolkit.errors import SettingsError
from toolkit.reid.sampling import pk_batches


@given(
    counts=st.lists(st.integers(1, 9), min_size=2, max_size=12),
    identities=st.integers(2, 5),
    pictures=st.integers(2, 4),
    epoch=st.integers(0, 3),
)
@settings(max_examples=60, deadline=None)
def test_every_batch_has_p_identities_with_k_pictures(
    counts: list[int], identities: int, pictures: int, epoch: int
) -> None:
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)) * 7, counts))
    if len(counts) < identities:
        with pytest.raises(SettingsError, match="cannot be drawn"):
            pk_batches(labels, identities, pictures, 0, epoch)
        return
    batches = pk_batches(labels, identities, pictures, 0, epoch)
    assert batches
    for batch in batches:
        assert batch.shape == (identities * pictures,)
        names, sizes = np.unique(labels[batch], return_counts=True)
        assert len(names) == identities
        assert (sizes == pictures).all()


def test_two_pictures_are_each_seen_twice_in_a_hand_of_four() -> None:
    batches = pk_batches(np.repeat(np.arange(10), 2), 5, 4, seed=3, epoch=0)
    assert len(batches) == 2
    assert np.bincount(np.concatenate(batches), minlength=20).tolist() == [2] * 20


def test_an_epoch_covers_every_picture_where_hands_come_out_even() -> None:
    labels = np.repeat(np.arange(6), 7)
    seen = np.bincount(np.concatenate(pk_batches(labels, 3, 4, 0, 0)), minlength=42)
    assert seen.min() == 1
    assert seen.sum() == 6 * 8


def test_leftovers_change_with_the_epoch() -> None:
    labels = np.repeat(np.arange(9), 2)
    seen = [set(labels[np.concatenate(pk_batches(labels, 8, 2, 0, epoch))].tolist()) for epoch in range(20)]
    assert set.union(*seen) == set(range(9))


def test_seed_and_epoch_alone_decide() -> None:
    labels = np.repeat(np.arange(12), 4)
    first, again = pk_batches(labels, 4, 2, 5, 6), pk_batches(labels, 4, 2, 5, 6)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], pk_batches(labels, 4, 2, 5, 7)[0])
    assert not np.array_equal(first[0], pk_batches(labels, 4, 2, 6, 6)[0])


@pytest.mark.parametrize(("identities", "pictures"), [(1, 4), (4, 1), (0, 0)])
def test_batches_too_small_for_triplets(identities: int, pictures: int) -> None:
    with pytest.raises(SettingsError, match="at least 2"):
        pk_batches(np.arange(8), identities, pictures, 0, 0)


def test_one_identity_cannot_be_trained_on() -> None:
    with pytest.raises(SettingsError, match="lower the batch's identities"):
        pk_batches(np.zeros(10, int), 2, 2, 0, 0)
