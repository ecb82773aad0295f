import dataclasses
from pathlib import Path

import pytest
import yaml

from tests.unit.sweeps.mini import METHODS, mini
from toolkit.errors import SettingsError
from toolkit.sweeps.folders import Sweep
from toolkit.sweeps.settings import SweepSettings, jobs_of, load_sweep, merged
from toolkit.sweeps.times import _more_frames

SWEEPS = ("forms", "baselines", "improved", "recipe", "linear", "ablation", "depth", "curves", "deeper")
TIER2 = ("tier2_fleet", "tier2_road")


def sweep_of(**changes):
    return SweepSettings.model_validate(mini(**changes))


def test_every_method_at_every_point():
    jobs = jobs_of(sweep_of(axes={"wire.bits": [8, 4], "seed": [0, 1]}))
    assert len(jobs) == len(METHODS) * 4
    assert [job.id for job in jobs[:2]] == ["dense-seed0-bits8", "shallow-seed0-bits8"]
    assert {job.settings.wire.bits for job in jobs} == {8, 4}
    assert {(job.point["seed"], job.settings.seed) for job in jobs} == {(0, 0), (1, 1)}
    assert jobs[0].group == (("wire.bits", 8),)


def test_a_method_keeps_what_it_sets_itself():
    jobs = {job.id: job for job in jobs_of(sweep_of(axes={"model.cut": ["layer3"]}))}
    assert jobs["dense-cutlayer3"].settings.model.cut == "layer3"
    assert jobs["shallow-cutlayer3"].settings.model.cut == "layer1"


def test_the_budget_is_for_methods_that_prune():
    jobs = {job.method: job for job in jobs_of(sweep_of(axes={"budget": ["layer1"]}))}
    assert jobs["patrol"].budget == jobs["l1"].budget == "layer1"
    assert jobs["dense"].budget is None


def test_merging_goes_into_sections_and_none_turns_one_off():
    base = {"a": {"b": 1, "c": {"d": 2}}, "e": 3}
    assert merged(base, {"a": {"c": None}, "e": {"f": 4}}) == {"a": {"b": 1, "c": None}, "e": {"f": 4}}
    assert base["a"]["c"] == {"d": 2}


def test_jobs_of_a_seed_share_one_dense_network(tmp_path):
    sweep = Sweep(tmp_path, sweep_of(axes={"seed": [0, 1], "model.cut": ["layer2", "layer3"]}))
    kinds = [unit.kind for unit in sweep.units]
    assert kinds.count("dense") == 2 and kinds.count("data") == 1 and kinds.count("anchors") == 1
    seen = set()
    for unit in sweep.units:
        assert set(unit.needs) <= seen, "a unit comes after what it needs"
        seen.add(unit.name)


def test_a_setting_that_decides_the_result_changes_the_key(tmp_path):
    plain = Sweep(tmp_path, sweep_of())
    other = Sweep(tmp_path, sweep_of(base=merged(mini()["base"], {"patrol": {"adversary": {"beta": 9.0}}})))
    keys, changed = ({u.name: s.key(u) for u in s.units} for s in (plain, other))
    assert keys["data"] == changed["data"] and keys["anchors"] == changed["anchors"]
    assert keys["jobs/patrol-seed0"] != changed["jobs/patrol-seed0"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"reference": "nothing"}, "reference is nothing"),
        ({"axes": {"seed": []}}, "axis seed has no values"),
        ({"axes": {"seed": [1, 1]}}, "two jobs of the sweep are called dense-seed1"),
        ({"methods": {"dense": {"set": {"patrl": {}}}}}, "did you mean patrol"),
        ({"methods": {"dense": {"set": {"wire": {"bits": 9}}}}}, "method dense: wire.bits"),
        ({"methods": {"dense": {"prun": "masks"}}}, "unknown key methods.dense.prun"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path, changes, words):
    path = tmp_path / "sweep.yaml"
    path.write_text(yaml.safe_dump(mini(**changes)))
    with pytest.raises(SettingsError, match=words) as found:
        load_sweep(path)
    assert "\n" not in str(found.value)


def test_methods_on_other_pictures_need_another_sweep(tmp_path):
    methods = {"dense": {}, "large": {"set": {"picture": {"height": 64, "width": 64}}}}
    with pytest.raises(SettingsError, match="make two sweeps"):
        Sweep(tmp_path, sweep_of(methods=methods))


def test_a_sweep_extends_another(tmp_path):
    (tmp_path / "first.yaml").write_text(yaml.safe_dump(mini()))
    second = {
        "extends": "first.yaml",
        "name": "second",
        "base": {"wire": {"bits": 4}},
        "methods": {"shallow": None},
    }
    (tmp_path / "second.yaml").write_text(yaml.safe_dump(second))
    found = load_sweep(tmp_path / "second.yaml", ["base.wire.bits=6"])
    assert found.name == "second" and set(found.methods) == set(METHODS) - {"shallow"}
    assert found.base["wire"]["bits"] == 6 and found.base["model"]["cut"] == "layer2"


def test_a_circle_of_extensions_is_refused(tmp_path):
    for name, other in (("a", "b"), ("b", "a")):
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump({"extends": f"{other}.yaml"}))
    with pytest.raises(SettingsError, match="circle"):
        load_sweep(tmp_path / "a.yaml")


@pytest.mark.parametrize(
    "name",
    [
        "configs/tier1",
        *(f"benchmarks/patrol/{n}" for n in SWEEPS + TIER2),
    ],
)
def test_the_sweeps_of_the_repository_can_be_read(name):
    root = Path(__file__).resolve().parents[3]
    sweep = load_sweep(root / f"{name}.yaml")
    assert len(Sweep(Path("none"), sweep).jobs) >= 6


@pytest.mark.parametrize("name", ["improved", "baselines"])
def test_sweeps_of_one_folder_take_over_each_others_jobs(name):
    root = Path(__file__).resolve().parents[3]
    first = Sweep(Path("none"), load_sweep(root / "configs/tier1.yaml"))
    second = Sweep(Path("none"), load_sweep(root / f"benchmarks/patrol/{name}.yaml"))
    assert first.settings.name == second.settings.name
    keys, more = ({unit.name: sweep.key(unit) for unit in sweep.units} for sweep in (first, second))
    assert keys.items() <= more.items() and len(more) > len(keys)


def test_the_order_of_the_methods_does_not_change_the_scale(tmp_path):
    methods = {"dense": {}, "narrow": {"set": {"model": {"bottleneck": 4}}}}
    turned = dict(reversed(methods.items()))
    keys, others = (
        {unit.name: sweep.key(unit) for unit in sweep.units}
        for sweep in (Sweep(tmp_path, sweep_of(methods=one)) for one in (methods, turned))
    )
    assert keys == others


def test_more_frames_count_only_where_they_differ():
    noise = {**METHODS["l1"]["set"]["slim"], "finetune": {"noise": 4.0}}
    methods = {"l1": METHODS["l1"], "noise": {"prune": "scores", "set": {"slim": noise}}}
    sweep = sweep_of(methods=methods, reference="l1", base=mini()["base"] | {"train": {"epochs": 1}})
    frames = {"frames": (1, 4, 16)}
    found = {}
    for job in jobs_of(sweep):
        attack = job.settings.attack.model_copy(update=frames)
        settings = job.settings.model_copy(update={"attack": attack})
        found[job.method] = _more_frames(dataclasses.replace(job, settings=settings))
    assert found == {"l1": 0, "noise": 2}
