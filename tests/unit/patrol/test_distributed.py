"""Two gloo processes train one network to what one process makes of it, within noise."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.unit.patrol.small import (
    FMT,
    IDENTITIES,
    SIDE,
    patrol_settings,
    small_data,
    small_net,
    train_settings,
)
from toolkit.errors import SettingsError
from toolkit.models.groups import find_groups
from toolkit.models.masks import MaskSet
from toolkit.patrol import distributed
from toolkit.patrol.data import Batches
from toolkit.patrol.settings import LinearSettings
from toolkit.patrol.training import train_dense, train_patrol, weights_digest

ROOT = Path(__file__).resolve().parents[3]


def train(folder):
    """Dense training, then a little of everything; final weights and what was learned."""
    torch.set_num_threads(1)
    net, data = small_net(), small_data(pictures=4)
    dense = train_dense(net, data, train_settings(epochs=30, identities=6, learning_rate=3e-3), folder / "dense")
    masks = MaskSet(find_groups(net, torch.zeros(1, 3, SIDE, SIDE)))
    settings = patrol_settings({"epochs": 3, "identities": 6}, linear=LinearSettings(features=16))
    history = train_patrol(net, masks, data, FMT, settings, folder / "patrol")
    return {
        "weights": weights_digest(net),
        "masks": weights_digest(masks),
        "first": dense.curves["loss.identity"][0][1],
        "last": dense.last("loss.identity", 6),
        "cost": history.curves["masks.cost"][-1][1],
        "error": history.last("adversary.error"),
        "linear": history.last("linear.error"),
    }


def main(folder):
    distributed.join("gloo")
    found = train(folder)
    (folder / f"found{distributed.rank()}.json").write_text(json.dumps(found))
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    program = "import sys, pathlib, tests.unit.patrol.test_distributed as t; t.main(pathlib.Path(sys.argv[1]))"
    port = str(20000 + os.getpid() % 20000)
    processes = []
    for rank in range(2):
        environment = os.environ | {
            "RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": str(rank), "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": port, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT),
        }  # fmt: skip
        command = [sys.executable, "-c", program, str(folder)]
        processes.append(subprocess.Popen(command, cwd=ROOT, env=environment))
    assert [process.wait(240) for process in processes] == [0, 0]
    return [json.loads((folder / f"found{rank}.json").read_text()) for rank in range(2)], folder


def test_both_processes_hold_the_same_network(two):
    first, second = two[0]
    assert first["weights"] == second["weights"]
    assert first["masks"] == second["masks"]


def test_the_result_is_that_of_one_process_within_noise(two, tmp_path):
    alone, together = train(tmp_path), two[0][0]
    assert together["weights"] != alone["weights"], "the shares were really apart"
    assert alone["last"] < 0.8 * alone["first"], "it learns"
    assert together["first"] == pytest.approx(alone["first"], rel=0.02)
    assert together["last"] == pytest.approx(alone["last"], rel=0.2)
    assert together["error"] == pytest.approx(alone["error"], rel=0.3)
    assert together["linear"] == pytest.approx(alone["linear"], rel=0.3)
    assert max(together["cost"], alone["cost"]) <= 0.5


def test_one_process_writes_states_and_log(two):
    for phase in ("dense", "patrol"):
        lines = (two[1] / phase / "log.jsonl").read_text().splitlines()
        steps = [json.loads(line)["step"] for line in lines]
        assert steps == sorted(set(steps))


def test_shares_are_whole_identities_and_cover_the_batch(monkeypatch):
    settings = patrol_settings({"identities": IDENTITIES}).train
    batch = Batches(small_data(), settings, (0.5, 0.5, 0.5)).make(np.arange(15), 0, 0)
    shares = []
    monkeypatch.setattr(distributed, "size", lambda: 2)
    for rank in range(2):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        shares.append(distributed.share_of(batch))
    labels = [set(share.labels.tolist()) for share in shares]
    assert not labels[0] & labels[1]
    assert sum(len(share.labels) for share in shares) == len(batch.labels)
    assert sum(share.weight for share in shares) == pytest.approx(2.0)
    for share in shares:
        assert torch.equal(share.labels, torch.from_numpy(small_data().labels[share.indices]))


def test_too_few_identities_for_the_processes(monkeypatch):
    settings = patrol_settings({"identities": 3}).train
    batch = Batches(small_data(), settings, (0.5, 0.5, 0.5)).make(np.arange(6), 0, 0)
    monkeypatch.setattr(distributed, "size", lambda: 2)
    with pytest.raises(SettingsError, match=r"train\.identities to at least 4"):
        distributed.share_of(batch)


def test_alone_nothing_is_shared():
    parameter = torch.nn.Parameter(torch.ones(3))
    parameter.grad = torch.full((3,), 2.0)
    distributed.join()
    distributed.average_gradients([parameter], 1.0)
    assert distributed.size() == 1 and parameter.grad.tolist() == [2.0] * 3
    assert not distributed.everywhere(False, torch.device("cpu"))
