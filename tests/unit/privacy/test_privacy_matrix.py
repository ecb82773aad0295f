"""The benchmark's matrix on a run folder with two tiny networks."""

import json

import numpy as np
import pytest
import torch

from benchmarks import privacy_matrix
from benchmarks.privacy_cells import Budget, CutNetwork, Subset
from benchmarks.privacy_matrix import main
from tests.unit.privacy.toys import blobs
from toolkit.models.architecture import Architecture
from toolkit.models.checkpoint import save_checkpoint
from toolkit.models.network import build_network
from toolkit.preprocess import Preprocess
from toolkit.privacy.attacks.inverse_network import InverseNetwork
from toolkit.privacy.attacks.ridge import Ridge
from toolkit.privacy.attacks.tools import Tools

FEW = ["--steps", "3", "--iterations", "4"]


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("matrix") / "toy"
    preprocess = Preprocess(height=32, width=32, interpolation="area")
    for seed, place in enumerate(privacy_matrix.FOLDERS.values()):
        net = build_network(Architecture(backbone="resnet18", cut="layer1.1", identities=4, width=0.125), seed)
        save_checkpoint(folder.joinpath(*place), net, preprocess)
    (folder / "data").mkdir()
    preprocess.save(folder / "data")
    np.save(folder / "data" / "pictures.npy", blobs(64), allow_pickle=False)
    rows = {"attacker_train": range(40), "attacker_validation": range(40, 48), "calibration": range(16)}
    rows |= {"train": range(48), "query": range(48, 56), "gallery": range(48, 64)}
    index = {"rows": {k: list(v) for k, v in rows.items()}, "identities": [f"v{i // 2}" for i in range(64)]}
    index |= {"protocol": "veri", "synthetic": True}
    (folder / "data" / "index.json").write_text(json.dumps(index))
    return folder


@pytest.fixture(scope="module")
def made(run, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "matrix"
    torch.set_num_threads(1)
    who = ["ridge", "screening", "white_box", "shadow", "substitute"]
    main([str(run), "--out", str(out), "--bits", "32", "8", "--networks", "dense", "--attackers", *who, *FEW])
    return out


def test_every_attacker_is_in_every_cell_and_each_cell_has_a_grid(made):
    body = json.loads(made.with_suffix(".json").read_text())
    assert set(body["cells"]) == {"layer1.1/dense/32", "layer1.1/dense/8"}
    for key, cell in body["cells"].items():
        assert set(cell["attackers"]) == {"ridge", "screening", "white_box", "shadow", "substitute"}
        assert cell["pictures"] == 16 and not cell["trusted"]
        grid = made.with_name("matrix_grids") / f"{key.replace('/', '-')}.png"
        assert grid.read_bytes().startswith(b"\x89PNG")
    assert made.with_suffix(".png").read_bytes().startswith(b"\x89PNG")


def test_the_printed_command_is_the_one_that_was_used(made, run):
    lines = made.with_suffix(".md").read_text().splitlines()
    used = "--attackers ridge screening white_box shadow substitute --steps 3 --iterations 4"
    start = "    OMP_NUM_THREADS=1 python -m benchmarks.privacy_matrix runs/toy --out benchmarks/results/matrix"
    assert lines[2] == f"{start} --bits 32 8 --networks dense {used}"
    assert any("convergence was not tested" in line for line in lines)


def test_a_second_command_adds_cells_and_another_budget_is_refused(made, run, tmp_path):
    out = tmp_path / "more"
    plain = [str(run), "--out", str(out), "--steps", "3", "--attackers", "ridge", "screening", "--bits", "4"]
    main([*plain, "--networks", "slim"])
    main([*plain, "--networks", "dense"])
    body = json.loads(out.with_suffix(".json").read_text())
    assert set(body["cells"]) == {"layer1.1/slim/4", "layer1.1/dense/4"}
    assert len(body["commands"]) == 2
    with pytest.raises(SystemExit, match="seeds"):
        main([*plain, "--seeds", "2"])


def test_several_seeds_give_a_mean_and_an_interval(run, tmp_path):
    out = tmp_path / "seeds"
    some = ["--steps", "3", "--attackers", "ridge", "screening", "--bits", "4", "--networks", "dense"]
    main([str(run), "--out", str(out), *some, "--seeds", "2", "--test", "8"])
    (cell,) = json.loads(out.with_suffix(".json").read_text())["cells"].values()
    found = cell["seeds"]["ssim_normalized"]
    assert len(found["values"]) == 2 and cell["pictures"] == 8
    assert found["value"] == pytest.approx(np.mean(found["values"]))
    text = out.with_suffix(".md").read_text()
    assert "over 2 seeds" in text and "no claim" in text


def test_a_killed_cell_goes_on_where_it_was(run, tmp_path, monkeypatch):
    out, work = tmp_path / "killed", tmp_path / "work"
    some = ["--steps", "3", "--attackers", "ridge", "screening", "--bits", "4", "--networks", "dense"]
    command = [str(run), "--out", str(out), *some, "--work", str(work)]
    fitted, fit = [], Ridge._fit

    def counted(self, *arguments):
        fitted.append(self.name)
        return fit(self, *arguments)

    def killed(self, *arguments):
        if self.name == "screening":
            raise KeyboardInterrupt
        return reconstruct(self, *arguments)

    monkeypatch.setattr(Ridge, "_fit", counted)
    monkeypatch.setattr(CutNetwork, "feature", _counting(CutNetwork.feature, encoded := []))
    reconstruct = InverseNetwork.reconstruct
    monkeypatch.setattr(InverseNetwork, "reconstruct", killed)
    with pytest.raises(KeyboardInterrupt):
        main(command)
    monkeypatch.setattr(InverseNetwork, "reconstruct", reconstruct)
    before = len(encoded)
    main(command)
    assert fitted.count("ridge") == 1  # finished before the kill
    assert len(encoded) - before == 1  # the sample for the step; codes and mirror images are there
    assert "layer1.1/dense/4" in json.loads(out.with_suffix(".json").read_text())["cells"]
    assert not list(work.iterdir())


def _counting(function, calls):
    return lambda self, pictures: (calls.append(len(pictures)), function(self, pictures))[1]


def test_a_cell_that_another_process_makes_is_left_to_it(run, tmp_path):
    out = tmp_path / "shared"
    with privacy_matrix._claimed(out, "layer1.1/dense/4") as ours:
        assert ours
        main([str(run), "--out", str(out), "--steps", "3", "--bits", "4", "--networks", "dense"])
    assert json.loads(out.with_suffix(".json").read_text())["cells"] == {}


def test_halves_of_an_earlier_cut_make_the_whole_network(run):
    data = Subset.of_run(run, share=0.5, test=4)
    assert len(data.rows.gallery) == 4 and len(data.rows.attacker_train) == 20
    net = build_network(Architecture(backbone="resnet18", cut="layer1.1", identities=4, width=0.125), 0).eval()
    x = torch.rand(2, 3, 32, 32)
    for cut in ("layer1.0", "layer1.1"):
        made = CutNetwork(net, cut)
        with torch.no_grad():
            assert torch.allclose(made.cloud(made.edge(x)), net(x), atol=1e-5)
    with pytest.raises(SystemExit, match=r"no block .*layer1\.0"):
        CutNetwork(net, "layer9")


def test_attackers_that_a_preset_does_not_have_are_named():
    budget = Budget("headline", ("screening",), 3, 2, 0, 0, 1, 0)
    with pytest.raises(SystemExit, match="headline-ssim"):
        budget.suite(Tools())
    chosen = Budget("headline", ("ridge", "headline-mse"), 3, 2, 1, 0, 3, 5).suite(Tools())
    assert [one.label or one.kind for one in chosen.attackers] == ["ridge", "headline-mse"]
    assert {one.seed for one in chosen.reseeded(2).attackers} == {7}
    assert chosen.augmented == 1


def test_decoders_learn_from_rendered_vehicles_first(run, tmp_path, monkeypatch):
    out, work = tmp_path / "matrix", tmp_path / "work"
    who = ["--bits", "8", "--networks", "dense", "--attackers", "ridge", "screening", "--synthetic", "8"]
    seen, pretrain = [], InverseNetwork._pretrain

    def noted(self, *given):
        if self._pretraining is not None:  # the decoder that sees no true pair has none
            seen.append((self.settings.pretrain_steps, len(self._pretraining)))
        return pretrain(self, *given)

    monkeypatch.setattr(InverseNetwork, "_pretrain", noted)
    main([str(run), "--out", str(out), "--work", str(work), *who, *FEW])
    assert seen == [(3, 8)], "as many steps as the first cycle, on all rendered pictures"
    assert np.load(work / "synthetic-8.npy").shape == (8, 32, 32, 3)
    assert "--synthetic 8" in json.loads(out.with_suffix(".json").read_text())["commands"][0]
