import dataclasses

import numpy as np
import pytest

from toolkit.errors import AttackError
from toolkit.privacy.anchors import Anchors
from toolkit.privacy.attacks.base import FitReport
from toolkit.privacy.references import add_private_noise, as_wire, excess_metrics, noisy_encoder, reference_metrics
from toolkit.privacy.result import AttackerResult, AttackResult
from toolkit.privacy.seeds import over_seeds, seed_metrics
from toolkit.privacy.settings import AttackSettings, RidgeSettings
from toolkit.wire import WireFormat

COUNT = 40
FMT = WireFormat(2, 4, 4, 8, 0.05, False)


def result(ssim: dict[str, float], mse: float = 0.02, floor: float = 0.2) -> AttackResult:
    """A result whose pictures all score alike."""

    def many(value: float) -> tuple[float, ...]:
        return (value,) * COUNT

    fit = FitReport(True, 0.5, 0.1, 0.0, 0, 10, 10)
    attackers = tuple(
        AttackerResult(label, "ridge", {}, fit, many(mse), many(value), (), 1.0) for label, value in ssim.items()
    )
    anchors = Anchors(many(0.1), many(floor), many(0.1), many(0.1))
    names = tuple(f"id{i // 2}" for i in range(COUNT))
    return AttackResult("v", names, attackers, (), anchors, (), (), {})


def test_the_maximum_is_taken_within_a_seed_before_the_mean():
    seeds = [result({"a": 0.5, "b": 0.3}), result({"a": 0.2, "b": 0.6}), result({"a": 0.4, "b": 0.1})]
    found = over_seeds(seeds)["ssim"]
    assert found.values == pytest.approx((0.5, 0.6, 0.4))
    assert found.value == pytest.approx(0.5)
    assert found.strongest == ("a", "b", "a")
    # standard deviation 0.1, three values, t = 4.303
    assert found.high - found.value == pytest.approx(4.303 * 0.1 / np.sqrt(3), rel=1e-4)
    assert found.enough
    assert over_seeds(seeds)["ssim_normalized"].value == pytest.approx((0.5 - 0.2) / 0.8)
    assert over_seeds(seeds)["r2"].value == pytest.approx(0.8)
    rows = {m.name: m for m in seed_metrics(seeds, "here")}
    assert rows["privacy.seeds.ssim"].n == 3
    assert rows["privacy.seeds.ssim"].protocol == "worst of 2 attackers: a, b"


def test_seeds_share_the_strongest_floor():
    found = over_seeds([result({"a": 0.6}, floor=0.2), result({"a": 0.6}, floor=0.5)])
    assert found["ssim_normalized"].values == pytest.approx((0.2, 0.2))
    assert not found["ssim"].enough


def test_seeds_that_do_not_belong_together_are_refused():
    one = result({"a": 0.5})
    with pytest.raises(AttackError, match="one seed"):
        over_seeds([one])
    with pytest.raises(AttackError, match="other attackers"):
        over_seeds([one, result({"b": 0.5})])
    with pytest.raises(AttackError, match="other test pictures"):
        over_seeds([one, dataclasses.replace(one, identities=("x",) * COUNT)])


def test_excess_leakage_by_hand():
    wire, embedding = result({"a": 0.6, "b": 0.2}, mse=0.02), result({"a": 0.3, "b": 0.4}, mse=0.05)
    rows = {m.name: m for m in excess_metrics(wire, embedding, "here")}
    assert rows["privacy.excess.ssim_normalized"].value == pytest.approx((0.6 - 0.4) / 0.8)
    assert rows["privacy.excess.r2"].value == pytest.approx(0.3)
    assert (
        rows["privacy.excess.ssim_normalized"].protocol
        == "worst of 2 attackers: a on the wire, b on the embedding"
    )
    with pytest.raises(AttackError, match="other test pictures"):
        excess_metrics(wire, dataclasses.replace(embedding, identities=("x",) * COUNT), "here")


def test_rows_that_cannot_be_told_from_the_floor_have_no_normalized_number():
    names = {m.name for m in reference_metrics("embedding", result({"a": 0.21}), "here", False)}
    assert names == {"privacy.reference.embedding.ssim"}
    assert len(reference_metrics("noise", result({"a": 0.5}), "here", True)) == 3


def test_private_noise_has_the_named_spread_and_stays_within_the_codes():
    codes = np.full((50, 2, 4, 4), 60, np.int8)
    noisy = add_private_noise(codes, FMT, 0.4, np.random.default_rng(0))
    assert noisy.dtype == np.int8
    assert noisy.astype(float).std() == pytest.approx(0.4 / 0.05, rel=0.1)
    assert abs(noisy.astype(float).mean() - 60) < 1
    loud = add_private_noise(codes, FMT, 50.0, np.random.default_rng(0))
    assert loud.min() == FMT.low and loud.max() == FMT.high
    with pytest.raises(AttackError, match="positive"):
        add_private_noise(codes, FMT, 0.0, np.random.default_rng(0))


def test_every_transmission_has_noise_of_its_own():
    encode = noisy_encoder(lambda p: np.full((len(p), 2, 4, 4), 60, np.int8), FMT, 0.4, 0)
    pictures = np.zeros((3, 8, 8, 3), np.uint8)
    assert not np.array_equal(encode(pictures), encode(pictures))


def test_embeddings_become_a_wire_of_one_position():
    assert as_wire(np.zeros((5, 7), np.float16)).shape == (5, 7, 1, 1)
    with pytest.raises(AttackError, match="embeddings"):
        as_wire(np.zeros((5, 7, 1)))


def test_settings_of_rows_and_seeds():
    assert AttackSettings().rows() == ()
    assert AttackSettings(preset="headline").rows() == ("embedding", "shallow", "noise")
    assert AttackSettings(preset="headline", references=("noise",)).rows() == ("noise",)
    moved = AttackSettings(seed=3, attackers=(RidgeSettings(seed=5),)).reseeded(2)
    assert (moved.seed, moved.attackers[0].seed) == (5, 7)
    assert {a.seed for a in AttackSettings(seed=3).reseeded(1).chosen()} == {4}
