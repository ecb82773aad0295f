"""A local Ray cluster of two nodes; a killed worker's job is taken up by another."""

import json
import os
import signal

import pytest

from tests.unit.sweeps.mini import mini
from toolkit.errors import SettingsError
from toolkit.sweeps import cluster
from toolkit.sweeps.folders import Sweep
from toolkit.sweeps.settings import SweepSettings
from toolkit.sweeps.table import collect
from toolkit.sweeps.worker import unmade

pytestmark = pytest.mark.system
ray = pytest.importorskip("ray")


@pytest.fixture
def two_nodes(monkeypatch):
    monkeypatch.setenv("RAY_worker_niceness", "0")  # at Ray's own 15 a busy machine starves the workers
    from ray.cluster_utils import Cluster

    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    nodes.add_node(num_cpus=1)
    nodes.wait_for_nodes()
    yield nodes
    ray.shutdown()
    nodes.shutdown()


def test_a_sweep_on_two_nodes_survives_a_killed_worker(tmp_path, two_nodes, monkeypatch):
    body = mini(methods={"dense": {}, "device": {"wire": "embedding"}})
    sweep = Sweep.open(tmp_path / "mini", SweepSettings.model_validate(body))
    marker, real = tmp_path / "killed", cluster._make

    def killed_once(root, name):
        if name == "jobs/device-seed0" and not marker.exists():
            marker.write_text(str(os.getpid()))
            os.kill(os.getpid(), signal.SIGKILL)
        return real(root, name)

    monkeypatch.setattr(cluster, "_make", killed_once)
    made = []
    cluster.run_on_ray(sweep, two_nodes.address, lambda unit, seconds: made.append(unit.name))
    assert marker.exists()
    assert unmade(sweep) == {}
    assert sorted(made) == sorted(unit.name for unit in sweep.units), "each unit was made once"
    assert {row.method for row in collect(sweep)} == {"dense", "device"}
    manifest = json.loads((sweep.root / "jobs/device-seed0/manifest.json").read_text())
    assert set(manifest["stages"]) == {"job"}


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "localhost:99999"])
def test_no_cluster_is_said_in_one_line(tmp_path, address):
    sweep = Sweep.open(tmp_path, SweepSettings.model_validate(mini()))
    with pytest.raises(SettingsError, match=f"no Ray cluster at {address} "):
        cluster.run_on_ray(sweep, address)
