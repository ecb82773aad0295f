import numpy as np
import pytest
import torch

from benchmarks.he2019 import PAPER, split, verdicts
from benchmarks.he2019_models import CUTS, Data, as_input, digits, halves, network


@pytest.mark.parametrize(
    ("name", "cut", "shape"),
    [
        ("cifar", "conv11", (64, 32, 32)),
        ("cifar", "relu22", (128, 16, 16)),
        ("cifar", "relu32", (128, 8, 8)),
        ("lenet", "conv1", (8, 32, 32)),
        ("lenet", "relu2", (16, 12, 12)),
    ],
)
def test_the_papers_cuts(name, cut, shape):
    torch.manual_seed(0)
    net = network(name, 7).eval()
    x = torch.rand(2, 3, 32, 32)
    edge, cloud = halves(net, cut)
    assert edge(x).shape[1:] == shape
    assert torch.equal(cloud(edge(x)), net(x))


def test_digits_are_told_apart_and_no_group_is_divided():
    made = digits(40, 0)
    assert made.pictures.shape == (40, 32, 32, 3)
    assert as_input(made.pictures).max() <= 1
    assert (made.pictures.reshape(40, -1).std(1) > 20).all()
    twice = Data(made.pictures, made.labels, tuple(f"g{i // 2}" for i in range(40)))
    rows = split(twice, 0)
    groups = [{twice.groups[i] for i in part} for part in rows.values()]
    assert sum(len(group) for group in groups) == 20
    assert sorted(np.concatenate(list(rows.values())).tolist()) == list(range(40))


def test_the_papers_own_numbers_follow_its_order():
    cells = {}
    for name, cuts in CUTS.items():
        for cut in cuts:
            paper = PAPER[name, cut]
            for adversary in ("white-box", "black-box", "query-free"):
                cells[f"{name}/{cut}/{adversary}"] = {"ssim": paper.get(adversary, (0.0, 0.0))[1]}
    assert all(holds for _, holds in verdicts({"cells": cells}))
    cells["cifar/relu32/query-free"]["ssim"] = 0.9
    assert not all(holds for _, holds in verdicts({"cells": cells}))
