"""Losses against values worked by hand."""

import math

import pytest
import torch

from toolkit.errors import TrainingError
from toolkit.models.network import Heads
from toolkit.reid.losses import LossSettings, batch_hard_triplet, label_smoothed_cross_entropy, task_loss

POINTS = torch.tensor([[0.0], [1.0], [3.0], [7.0]])
LABELS = torch.tensor([0, 0, 1, 1])
# farthest positive 1 1 4 4, nearest negative 3 2 2 6
GAPS = (-2.0, -1.0, 2.0, -2.0)


def test_triplet_with_margin_worked_by_hand() -> None:
    expected = sum(max(0.0, gap + 1.5) for gap in GAPS) / 4
    assert batch_hard_triplet(POINTS, LABELS, 1.5).item() == pytest.approx(expected)


def test_triplet_with_soft_margin_worked_by_hand() -> None:
    expected = sum(math.log1p(math.exp(gap)) for gap in GAPS) / 4
    assert batch_hard_triplet(POINTS, LABELS).item() == pytest.approx(expected, rel=1e-5)


def test_anchor_without_a_positive_is_left_out() -> None:
    points = torch.cat((POINTS, torch.tensor([[100.0]])))
    labels = torch.tensor([0, 0, 1, 1, 2])
    torch.testing.assert_close(batch_hard_triplet(points, labels), batch_hard_triplet(POINTS, LABELS))


@pytest.mark.parametrize("labels", [[0, 0, 0], [0, 1, 2]])
def test_batch_without_triplets_is_an_error(labels: list[int]) -> None:
    with pytest.raises(TrainingError, match="two identities"):
        batch_hard_triplet(torch.rand(3, 2), torch.tensor(labels))


def test_identical_features_have_finite_gradients() -> None:
    features = torch.ones(4, 3, requires_grad=True)
    batch_hard_triplet(features, LABELS).backward()
    assert features.grad is not None
    assert torch.isfinite(features.grad).all()


def test_triplet_does_not_lose_bits_under_autocast() -> None:
    features = 100 + torch.rand(8, 16)
    labels = torch.arange(8) // 2
    with torch.autocast("cpu", torch.bfloat16):
        inside = batch_hard_triplet(features, labels)
    torch.testing.assert_close(inside, batch_hard_triplet(features, labels))


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.4])
def test_label_smoothing_worked_by_hand(smoothing: float) -> None:
    logits, label = torch.tensor([[1.0, 2.0, 0.5]]), torch.tensor([1])
    log_p = logits[0] - torch.logsumexp(logits[0], 0)
    target = torch.full((3,), smoothing / 3)
    target[1] += 1 - smoothing
    expected = -(target * log_p).sum()
    torch.testing.assert_close(label_smoothed_cross_entropy(logits, label, smoothing), expected)


def test_task_loss_adds_its_parts() -> None:
    heads = Heads(POINTS, POINTS, torch.rand(4, 2))
    parts = task_loss(heads, LABELS, LossSettings(triplet_weight=0.5, margin=1.5))
    torch.testing.assert_close(parts.total, parts.identity + 0.5 * parts.triplet)
    alone = task_loss(heads, torch.tensor([0, 0, 0, 0]), LossSettings(triplet_weight=0))
    assert alone.triplet == 0
    assert torch.equal(alone.total, alone.identity)


@pytest.mark.parametrize("wrong", [{"smoothing": 1.0}, {"margin": -1}, {"triplet_weight": -0.1}, {"x": 1}])
def test_wrong_settings(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError):
        LossSettings(**wrong)
