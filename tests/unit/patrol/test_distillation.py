"""The dense network as a teacher of the masked and of the slim one."""

import pytest
import torch

from tests.unit.patrol.small import FMT, SIDE, patrol_settings, small_data, small_net, train_settings
from toolkit.errors import ArtifactError, SettingsError
from toolkit.patrol.budgets import new_masks
from toolkit.patrol.distillation import distillation
from toolkit.patrol.settings import DefenceSettings, DistillSettings
from toolkit.patrol.training import finetune, train_dense, train_patrol, weights_digest

EMBEDDING, RELATIONAL = DistillSettings(), DistillSettings(form="relational")
PLAIN = {"lipschitz": None, "adversary": None}


def test_the_direction_of_the_embedding_is_taught():
    taught = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    assert distillation(3 * taught, taught, EMBEDDING).item() == pytest.approx(0.0, abs=1e-6)
    assert distillation(-taught, taught, EMBEDDING).item() == pytest.approx(2.0)
    assert distillation(taught.flip(0), taught, EMBEDDING).item() == pytest.approx(1.0)


def test_the_relational_form_allows_the_space_to_turn_and_to_grow():
    generator = torch.Generator().manual_seed(0)
    taught = torch.randn(8, 4, generator=generator)
    turn = torch.linalg.qr(torch.randn(6, 6, generator=generator))[0][:4]
    assert distillation(5 * taught @ turn, taught, RELATIONAL).item() == pytest.approx(0.0, abs=1e-6)
    assert distillation(torch.randn(8, 4, generator=generator), taught, RELATIONAL).item() > 0.01


def test_distances_by_hand():
    """Of 3 points on a line, relative to their mean: 1/4 * 3 and 2/4 * 3 against 1, 1, 1 of a triangle."""
    line = torch.tensor([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0]])
    triangle = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.5, 0.75**0.5]])
    expected = (2 * 0.5 * 0.25**2 + 0.5 * 0.5**2) / 3
    assert distillation(line, triangle, RELATIONAL).item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("form", ["embedding", "relational"])
def test_only_the_student_gets_a_gradient(form):
    student, teacher = torch.randn(6, 4, requires_grad=True), torch.randn(6, 4)
    distillation(student, teacher, DistillSettings(form=form)).backward()
    assert torch.isfinite(student.grad).all() and student.grad.abs().sum() > 0


def disagreement(history):
    curve = [value for _, value in history.curves["distill.disagreement"]]
    return sum(curve[:2]) / 2, sum(curve[-2:]) / 2


def test_a_student_comes_nearer_to_its_teacher_and_the_teacher_stays(tmp_path):
    teacher, student = small_net(seed=1), small_net(seed=0)
    train_dense(
        teacher, small_data(), train_settings(epochs=25, identities=6, learning_rate=3e-3), tmp_path / "dense"
    )
    before = weights_digest(teacher)
    settings = DefenceSettings(
        train=train_settings(epochs=25, identities=6, learning_rate=3e-3),
        distill=DistillSettings(weight=5.0),
        **PLAIN,
    )
    history = finetune(student, small_data(), FMT, settings, tmp_path / "tuned", teacher=teacher)
    first, last = disagreement(history)
    assert last < 0.85 * first
    assert weights_digest(teacher) == before
    assert history.curves["loss.distill"][0][1] == pytest.approx(
        5 * history.curves["distill.disagreement"][0][1], rel=1e-5
    )


def test_joint_training_is_taught_by_the_network_that_it_begins_with(tmp_path):
    net = small_net()
    masks = new_masks(net, torch.zeros(1, 3, SIDE, SIDE), None)
    settings = patrol_settings(distill=DistillSettings(), **PLAIN)
    history = train_patrol(net, masks, small_data(), FMT, settings, tmp_path)
    assert all(0 <= value <= 2 for _, value in history.curves["distill.disagreement"])


def test_another_teacher_is_another_training(tmp_path):
    settings = DefenceSettings(train=train_settings(epochs=1), distill=EMBEDDING, **PLAIN)
    finetune(small_net(), small_data(), FMT, settings, tmp_path, teacher=small_net(seed=1))
    with pytest.raises(ArtifactError, match="other settings"):
        finetune(small_net(), small_data(), FMT, settings, tmp_path, teacher=small_net(seed=2))


def test_a_teacher_is_needed_and_has_to_fit(tmp_path):
    settings = DefenceSettings(train=train_settings(epochs=1), distill=EMBEDDING, **PLAIN)
    with pytest.raises(SettingsError, match="needs the dense network"):
        finetune(small_net(), small_data(), FMT, settings, tmp_path)
    with pytest.raises(SettingsError, match=r"take distill\.form: relational"):
        finetune(small_net(), small_data(), FMT, settings, tmp_path, teacher=small_net(embedding=8))


def test_settings_without_a_teacher_keep_their_hash():
    assert "distill" not in DefenceSettings().model_dump()
    assert DefenceSettings(distill=EMBEDDING).model_dump()["distill"]["weight"] == 1.0
