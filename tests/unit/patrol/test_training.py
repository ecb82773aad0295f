import json

import numpy as np
import pytest
import torch

from tests.unit.patrol.small import FMT, SIDE, patrol_settings, small_data, small_net, train_settings
from toolkit.errors import ArtifactError, DataError, SettingsError, TrainingError
from toolkit.models.groups import find_groups
from toolkit.models.masks import MaskSet
from toolkit.patrol.cost import edge_cost
from toolkit.patrol.data import Batches, TrainingData
from toolkit.patrol.settings import AdversarySettings, LinearSettings, LipschitzSettings, MaskSettings
from toolkit.patrol.training import finetune, make_adversary, train_dense, train_patrol, weights_digest


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def small_masks(net):
    return MaskSet(find_groups(net, torch.zeros(1, 3, SIDE, SIDE)))


def test_dense_training_learns_and_logs(tmp_path):
    net = small_net()
    history = train_dense(net, small_data(), train_settings(epochs=8, learning_rate=5e-3), tmp_path)
    assert history.epochs == 8
    assert not net.training
    start = np.mean([value for _, value in history.curves["loss.identity"][:4]])
    assert history.last("loss.identity", 4) < 0.9 * start
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert len(lines) == len(history.curves["loss.total"])
    assert set(lines[0]["values"]) >= {"loss.identity", "loss.triplet", "loss.total", "learning_rate", "gradient"}
    names = {path.name for path in tmp_path.iterdir()} - {"tensorboard"}
    assert names == {"log.jsonl", "state-000008"}


def test_patrol_training_meets_the_budget_and_logs_every_term(tmp_path):
    net = small_net()
    masks = small_masks(net)
    before = weights_digest(net)
    history = train_patrol(net, masks, small_data(), FMT, patrol_settings({"epochs": 6}), tmp_path)
    for name in ("identity", "triplet", "lipschitz", "adversary", "sparsity", "total"):
        assert len(history.curves[f"loss.{name}"]) == len(history.curves["loss.identity"])
    assert "lipschitz.layer2.1" in history.curves and "adversary.error" in history.curves
    cost = edge_cost(net, masks, (SIDE, SIDE), "macs", 1)
    kept = {name: int((value > 0).sum()) for name, value in masks.values().items()}
    assert 0.35 < cost(kept) / cost.full <= 0.5  # never over, little left unused
    assert history.last("masks.cost") == pytest.approx(cost(kept) / cost.full)
    assert all(int((value > 0).sum()) >= 1 for value in masks.values().values())
    assert weights_digest(net) != before
    masks.attach(net)  # they were detached at the end
    masks.detach()


def test_budget_of_a_shallower_dense_split(tmp_path):
    net = small_net()
    masks = small_masks(net)
    settings = patrol_settings(lipschitz=None, adversary=None, masks=MaskSettings(as_split="layer1"))
    history = train_patrol(net, masks, small_data(), FMT, settings, tmp_path)
    shallow = small_net(cut="layer1")
    allowed = edge_cost(shallow, small_masks(shallow), (SIDE, SIDE), "macs", 1).full
    dense = edge_cost(net, masks, (SIDE, SIDE), "macs", 1).full
    assert history.last("masks.cost") * dense <= allowed


def test_bf16_trains_too(tmp_path):
    net = small_net()
    settings = patrol_settings({"epochs": 2, "precision": "bf16"})
    history = train_patrol(net, small_masks(net), small_data(), FMT, settings, tmp_path)
    assert np.isfinite(history.last("loss.total"))
    assert next(net.parameters()).dtype == torch.float32


def test_terms_that_are_off_are_absent(tmp_path):
    net = small_net()
    settings = patrol_settings({"epochs": 1}, lipschitz=None, adversary=None)
    history = train_patrol(net, small_masks(net), small_data(), FMT, settings, tmp_path)
    assert not {name for name in history.curves if "lipschitz" in name or "adversary" in name}


def test_finetune_keeps_the_adversary_on(tmp_path):
    net = small_net()
    history = finetune(net, small_data(), FMT, patrol_settings({"epochs": 2}), tmp_path)
    assert "loss.adversary" in history.curves and "masks.cost" not in history.curves
    plain = patrol_settings({"epochs": 1}, lipschitz=None, adversary=None)
    assert "loss.adversary" not in finetune(small_net(), small_data(), None, plain, tmp_path / "b").curves


def test_counterfactual_pairs_are_a_perturbation(tmp_path):
    lipschitz = LipschitzSettings(perturbation="counterfactual", form="scale_free", reduction="mean")
    settings = patrol_settings({"epochs": 1}, lipschitz=lipschitz)
    history = finetune(small_net(), small_data(counterfactuals=True), FMT, settings, tmp_path)
    assert history.last("loss.lipschitz") > 0
    with pytest.raises(DataError, match="no counterfactual pictures"):
        finetune(small_net(), small_data(), FMT, settings, tmp_path / "b")


def test_interrupted_training_ends_with_the_same_weights(tmp_path):
    """Every phase state: optimizer, masks, momentum, decoders; interrupted twice, once in the pruning phase."""
    adversary = AdversarySettings(decoders=("residual_n1c8",) * 2, warmup_steps=2, reset_every=2, ensemble="turns")
    linear = LinearSettings(memory=3, features=16)
    settings = patrol_settings({"epochs": 5, "precision": "bf16"}, adversary=adversary, noise=0.5, linear=linear)
    digests, masks_after = [], []
    for folder, stops in ((tmp_path / "unbroken", ()), (tmp_path / "broken", (2, 4))):
        for stop in (*stops, None):
            net = small_net()
            masks = small_masks(net)
            try:
                history = train_patrol(net, masks, small_data(), FMT, settings, folder, _stop_at(stop))
            except KeyboardInterrupt:
                continue
        digests.append(weights_digest(net))
        masks_after.append(torch.cat([value.detach() for value in masks.values().values()]))
        steps = [step for step, _ in history.curves["loss.total"]]
        assert steps == list(range(len(steps)))
    assert digests[0] == digests[1]
    assert torch.equal(*masks_after)
    logs = [(tmp_path / name / "log.jsonl").read_text() for name in ("unbroken", "broken")]
    assert logs[0] == logs[1]


def _stop_at(stop):
    calls = []

    def validate(net):
        calls.append(1)
        if stop is not None and len(calls) == (stop if stop == 2 else 2):
            raise KeyboardInterrupt
        return 0.0

    return validate


def test_finished_training_is_not_done_again(tmp_path):
    net = small_net()
    train_dense(net, small_data(), train_settings(epochs=2), tmp_path)
    again = small_net()
    history = train_dense(again, small_data(), train_settings(epochs=2), tmp_path)
    assert weights_digest(again) == weights_digest(net)
    assert history.epochs == 2 and len(history.curves["loss.total"]) > 0


def test_nan_stops_and_keeps_the_last_good_state(tmp_path):
    settings = train_settings(epochs=4)
    calls = []

    def poison(net):
        calls.append(1)
        if len(calls) == 2:
            with torch.no_grad():
                net.classifier.weight[0, 0] = float("nan")
        return 0.0

    with pytest.raises(TrainingError, match=r"loss\.identity.* became NaN .* in epoch 3.*learning_rate"):
        train_dense(small_net(), small_data(), settings, tmp_path, poison)
    assert (tmp_path / "state-000001").is_dir()


def test_early_stopping_returns_the_best_weights(tmp_path):
    values = iter([0.1, 0.9, 0.5, 0.4, 0.3, 0.2])
    seen = []

    def validate(net):
        seen.append(weights_digest(net))
        return next(values)

    net = small_net()
    history = train_dense(net, small_data(), train_settings(epochs=6, patience=2), tmp_path, validate)
    assert history.stopped_early and history.epochs == 4
    assert history.best == (0.9, 2)
    assert weights_digest(net) == seen[1]
    assert [round(value, 1) for _, value in history.curves["validation"]] == [0.1, 0.9, 0.5, 0.4]


def test_budget_that_no_mask_can_meet(tmp_path):
    net = small_net()
    settings = patrol_settings(masks=MaskSettings(ratio=0.01))
    with pytest.raises(TrainingError, match=r"no mask can bring.*masks\.ratio"):
        train_patrol(net, small_masks(net), small_data(), FMT, settings, tmp_path)


def test_one_picture_per_identity_is_a_clear_error():
    with pytest.raises(DataError, match="one picture only"):
        small_data(pictures=1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": np.zeros(18, dtype=np.int64)}, "at least two identities"),
        ({"labels": np.arange(5)}, "one label per picture"),
        ({"pictures": np.zeros((18, 4, 4, 3), np.float32)}, "uint8"),
        ({"counterfactuals": np.zeros((3, 4, 4, 3), np.uint8)}, "do not pair up"),
    ],
)
def test_data_that_does_not_fit_together(change, message):
    data = small_data()
    with pytest.raises(DataError, match=message):
        TrainingData(**{"pictures": data.pictures, "labels": data.labels} | change)


def test_labels_wire_and_settings_must_fit_the_network(tmp_path):
    data = small_data()
    wide = TrainingData(data.pictures, data.labels + 3)
    with pytest.raises(DataError, match="classifier has 6 outputs"):
        train_dense(small_net(), wide, train_settings(), tmp_path)
    with pytest.raises(SettingsError, match="the wire is 16x4x4 but the feature at the cut is 8x8x8"):
        finetune(small_net(cut="layer1"), data, FMT, patrol_settings(), tmp_path)


def test_folder_of_another_training_or_a_damaged_state_is_refused(tmp_path):
    train_dense(small_net(), small_data(), train_settings(epochs=1), tmp_path)
    with pytest.raises(ArtifactError, match="other settings"):
        train_dense(small_net(), small_data(), train_settings(epochs=2), tmp_path)
    with pytest.raises(ArtifactError, match="other settings"):
        train_dense(small_net(seed=1), small_data(), train_settings(epochs=1), tmp_path)
    tensors = tmp_path / "state-000001" / "state.safetensors"
    body = bytearray(tensors.read_bytes())
    body[-1] ^= 1
    tensors.write_bytes(body)
    with pytest.raises(ArtifactError, match=r"state\.safetensors is changed or truncated"):
        train_dense(small_net(), small_data(), train_settings(epochs=1), tmp_path)


def test_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises((ArtifactError, OSError)):
        train_dense(small_net(), small_data(), train_settings(epochs=1), tmp_path / "file")


def test_adversary_that_knows_only_the_mean_scores_one_on_what_it_sees():
    """Errors are relative to the mean of the augmented pictures, which the decoder is trained on."""
    settings = patrol_settings({"identities": 6})
    batches = Batches(small_data(), settings.train, (0.5, 0.5, 0.5))
    adversary = make_adversary((16, 4, 4), batches, settings, torch.device("cpu"))
    seen = torch.cat([batch.pictures for epoch in range(4) for batch in batches.epoch(epoch)])
    error = adversary.measure(seen.mean(0, keepdim=True).expand_as(seen), seen).mean()
    assert float(error) == pytest.approx(1.0, abs=0.15)
