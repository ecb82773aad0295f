import json

import pytest
import torch
from torch import nn

from toolkit.errors import ArtifactError
from toolkit.patrol.history import History, Log
from toolkit.patrol.state import (
    State,
    fingerprint_of,
    load_latest,
    load_state,
    module_tensors,
    optimizer_tensors,
    restore_module,
    restore_optimizer,
    save_state,
)


def test_newest_of_two_kept_states(tmp_path):
    for epoch in range(5):
        save_state(tmp_path, State(epoch, {"x": torch.tensor([float(epoch)])}, {"best": None}), "f")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["state-000003", "state-000004"]
    state = load_latest(tmp_path, "f")
    assert state.epoch == 4 and state.tensors["x"].item() == 4.0 and state.facts == {"best": None}
    assert load_latest(tmp_path / "absent", "f") is None


def test_half_written_state_does_not_count(tmp_path):
    save_state(tmp_path, State(1, {"x": torch.zeros(1)}), "f")
    unfinished = tmp_path / ".state-000002.next"
    unfinished.mkdir()
    (unfinished / "state.safetensors").write_bytes(b"12")
    assert load_latest(tmp_path, "f").epoch == 1
    save_state(tmp_path, State(2, {"x": torch.zeros(1)}), "f")
    assert load_latest(tmp_path, "f").epoch == 2


@pytest.mark.parametrize("damage", ["flip", "truncate", "json", "schema"])
def test_damage_is_named(tmp_path, damage):
    path = save_state(tmp_path, State(1, {"x": torch.zeros(100)}), "f")
    tensors, facts = path / "state.safetensors", path / "state.json"
    if damage == "flip":
        body = bytearray(tensors.read_bytes())
        body[-3] ^= 4
        tensors.write_bytes(body)
    elif damage == "truncate":
        tensors.write_bytes(tensors.read_bytes()[:50])
    elif damage == "json":
        facts.write_text("{")
    else:
        facts.write_text(json.dumps(json.loads(facts.read_text()) | {"schema": 99}))
    with pytest.raises(ArtifactError, match="state-000001"):
        load_latest(tmp_path, "f")


def test_another_fingerprint_is_refused(tmp_path):
    path = save_state(tmp_path, State(1, {"x": torch.zeros(1)}), fingerprint_of("a", b"b"))
    with pytest.raises(ArtifactError, match="other settings"):
        load_state(path, fingerprint_of("ab"))
    assert fingerprint_of("a", "b") != fingerprint_of("ab") != fingerprint_of("ab", "")


def test_optimizer_goes_on_exactly_in_the_parameters_memory_layout():
    def step(net, optimizer, seed):
        generator = torch.Generator().manual_seed(seed)
        for parameter in net.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimizer.step()

    def fresh():
        torch.manual_seed(0)
        net = nn.Conv2d(3, 5, 3)
        net.weight.data = net.weight.data.contiguous(memory_format=torch.channels_last)
        return net, torch.optim.AdamW(net.parameters(), lr=0.1, fused=True)

    net, optimizer = fresh()
    step(net, optimizer, 1)
    saved = module_tensors("n", net) | optimizer_tensors("o", optimizer)
    saved = {key: value.clone(memory_format=torch.contiguous_format) for key, value in saved.items()}
    other, other_optimizer = fresh()
    restore_module("n", other, saved)
    restore_optimizer("o", other_optimizer, saved)
    assert other_optimizer.state[other.weight]["exp_avg"].stride() == net.weight.stride()
    step(net, optimizer, 2)
    step(other, other_optimizer, 2)
    assert torch.equal(net.weight, other.weight) and torch.equal(net.bias, other.bias)


def test_log_drops_what_is_done_again_and_a_line_that_was_cut_off(tmp_path):
    log = Log(tmp_path, 0)
    for epoch in range(3):
        log.write(epoch, epoch * 10, {"loss.total": float(epoch)})
    log.close()
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"epoch": 2, "st')
    again = Log(tmp_path, 2)
    assert again.history.curves == {"loss.total": [(0, 0.0), (10, 1.0)]}
    again.write(2, 20, {"loss.total": 5.0})
    again.close()
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 3


def test_history_means_its_last_points():
    history = History()
    for step in range(4):
        history.add(step, {"x": float(step)})
    assert history.last("x") == 3.0 and history.last("x", 2) == 2.5
    with pytest.raises(KeyError):
        history.last("y")
