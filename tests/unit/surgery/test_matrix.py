"""The families: exact in float64, close in float32, exportable, in both modes."""

import io

import onnx
import onnxruntime
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.unit.surgery.exactness import FLOAT, pictures, slim_exactly
from tests.unit.surgery.randomize import random_masks, randomize
from tests.unit.surgery.zoo_families import FAMILIES
from toolkit.models.groups import survey
from toolkit.models.masks import MaskSet
from toolkit.surgery import PlanSettings, apply_plan, deviation, fold_masks, plan_from_masks, shrink

SIDE = 32
ZEROS = (0.1, 0.5, 0.9)


@pytest.mark.parametrize("family", FAMILIES)
def test_double_precision(family: str) -> None:
    torch.manual_seed(0)
    zeros = ZEROS[list(FAMILIES).index(family) % len(ZEROS)]
    plan, slim = slim_exactly(FAMILIES[family](), SIDE, zeros, seed=1, align=8)
    again = shrink(FAMILIES[family]().double(), plan, pictures(1, SIDE))
    again.load_state_dict(slim.state_dict())
    x = pictures(2, SIDE, 7)
    assert torch.equal(again.eval()(x), slim(x))


@pytest.mark.parametrize("family", FAMILIES)
def test_single_precision_and_onnx(family: str) -> None:
    torch.manual_seed(0)
    net = FAMILIES[family]().eval()
    randomize(net, 2)
    x = pictures(2, SIDE).float()
    found = survey(net, x[:1])
    masks = MaskSet(found.groups, found.blocks)
    random_masks(masks, 0.7, 3)
    slim = apply_plan(net, masks, plan_from_masks(net, masks, PlanSettings(align=1), x[:1]), x[:1])
    assert deviation(fold_masks(net, masks), slim, x).relative <= FLOAT
    masks.attach(net)
    assert deviation(net, slim, x).relative <= FLOAT
    masks.detach()
    _runs_in_onnx(slim, x)


def _runs_in_onnx(slim: nn.Module, x: Tensor) -> None:
    file = io.BytesIO()
    torch.onnx.export(slim, (x,), file, dynamo=False, opset_version=17)
    onnx.checker.check_model(onnx.load_from_string(file.getvalue()))
    session = onnxruntime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    with torch.no_grad():
        expected = slim(x).numpy()
    assert abs(found - expected).max() <= 1e-4 * abs(expected).max()


@pytest.mark.full
@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    zeros=st.floats(0.1, 0.9),
    align=st.sampled_from([1, 8, 16, 32]),
    seed=st.integers(0, 2**20),
    train=st.booleans(),
)
def test_many_masks(family: str, zeros: float, align: int, seed: int, train: bool) -> None:
    torch.manual_seed(seed)
    slim_exactly(FAMILIES[family](), SIDE, zeros, seed=seed, align=align, train=train)
