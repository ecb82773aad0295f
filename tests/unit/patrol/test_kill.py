"""SIGKILL in the middle of an epoch: the same call ends with the same weights as an unbroken one."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch

from tests.unit.patrol.small import FMT, SIDE, patrol_settings, small_data, small_net
from toolkit.models.groups import find_groups
from toolkit.models.masks import MaskSet
from toolkit.patrol.training import train_patrol, weights_digest

EPOCHS = 5


def train(folder):
    torch.set_num_threads(1)
    net = small_net()
    masks = MaskSet(find_groups(net, torch.zeros(1, 3, SIDE, SIDE)))
    settings = patrol_settings({"epochs": EPOCHS, "precision": "bf16"})
    train_patrol(net, masks, small_data(), FMT, settings, folder)
    return weights_digest(net) + weights_digest(masks)


def test_killed_training_ends_with_the_same_sha256(tmp_path):
    program = "import sys, pathlib, tests.unit.patrol.test_kill as t; t.train(pathlib.Path(sys.argv[1]))"
    root = Path(__file__).resolve().parents[3]
    environment = os.environ | {"OMP_WAIT_POLICY": "PASSIVE", "PYTHONPATH": str(root)}
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "killed")], cwd=root, env=environment
    )
    deadline = time.monotonic() + 120
    while not (tmp_path / "killed" / "state-000002").is_dir() and time.monotonic() < deadline:
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    states = sorted(path.name for path in (tmp_path / "killed").glob("state-*"))
    assert states and states[-1] < f"state-{EPOCHS:06d}"
    assert train(tmp_path / "killed") == train(tmp_path / "unbroken")
