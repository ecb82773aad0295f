import json

import pytest

from tests.unit.patrol.small import small_data, small_net, train_settings
from toolkit.patrol import board
from toolkit.patrol.history import Log
from toolkit.patrol.training import train_dense

events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")


def scalars(folder):
    found = events.EventAccumulator(str(folder)).Reload()
    return {name: [(e.step, e.value) for e in found.Scalars(name)] for name in found.Tags()["scalars"]}


def test_a_phase_writes_the_same_curves_to_both_logs(tmp_path):
    history = train_dense(small_net(), small_data(), train_settings(epochs=2), tmp_path)
    found = scalars(tmp_path / board.FOLDER)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    for name, points in history.curves.items():
        written = found[name.replace(".", "/", 1)]
        assert [step for step, _ in written] == [step for step, _ in points]
        assert [value for _, value in written] == pytest.approx([value for _, value in points], rel=1e-6)
    assert [line["values"]["loss.total"] for line in lines] == [v for _, v in history.curves["loss.total"]]


def test_a_resumed_phase_does_not_show_steps_twice(tmp_path):
    for first in (0, 1):
        log = Log(tmp_path, first)
        for step in range(first * 2, 4):
            log.write(step // 2, step, {"loss.total": float(step + 10 * first)})
        log.close()
    assert scalars(tmp_path / board.FOLDER)["loss/total"] == [(0, 0.0), (1, 1.0), (2, 12.0), (3, 13.0)]


def test_without_tensorboard_nothing_is_written(tmp_path, monkeypatch):
    def absent(name):
        raise ImportError(name)

    monkeypatch.setattr(board.importlib, "import_module", absent)
    board.write_curves({"loss.total": [(0, 1.0)]}, tmp_path / "board")
    log = Log(tmp_path, 0)
    log.write(0, 0, {"loss.total": 1.0})
    log.close()
    assert not list(tmp_path.glob("**/events*"))


def test_finished_curves_are_kept_for_the_run(tmp_path):
    board.write_curves({"loss.total": [(0, 2.0), (5, 1.0)], "validation": [(5, 0.5)]}, tmp_path)
    assert scalars(tmp_path) == {"loss/total": [(0, 2.0), (5, 1.0)], "validation": [(5, 0.5)]}
