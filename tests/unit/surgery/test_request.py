"""One question for every source."""

from __future__ import annotations

import pytest
import torch

from tests.unit.surgery.exactness import EXACT, pictures, removed
from tests.unit.surgery.randomize import randomize
from tests.unit.surgery.zoo import resnet_basic
from toolkit.models.groups import GroupError, find_groups
from toolkit.models.masks import BLOCK_PREFIX, MaskSet
from toolkit.surgery import (
    PlanSettings,
    ScoreSettings,
    SourceSettings,
    SurgeryError,
    apply_plan,
    describe_plan,
    deviation,
    make_plan,
    reference_masks,
)

ONE, X = PlanSettings(align=1), pictures(1, 16)


def _net() -> torch.nn.Module:
    torch.manual_seed(0)
    net = resnet_basic()
    randomize(net, 0)
    with torch.no_grad():
        for name in ("weight", "bias"):
            getattr(net.get_submodule("stages.0.0.bn1"), name)[:5] = 0
    return net.double().eval()


def _values(net: torch.nn.Module) -> dict[str, torch.Tensor]:
    values = {name: torch.ones(len(value)) for name, value in MaskSet(find_groups(net, X)).values().items()}
    values["stem.0"][:3] = 0
    return values


@pytest.mark.parametrize(
    ("wanted", "masked", "source"),
    [
        (SourceSettings(), True, "masks"),
        (SourceSettings(), False, "scores"),
        (SourceSettings(scores=ScoreSettings(criterion="taylor", ratio=0.3)), False, "scores"),
        (SourceSettings(remove={"stem.0": (1, 2)}), False, "lists"),
        (SourceSettings(source="zeros"), True, "zeros"),
        (SourceSettings(source="lists", blocks=("stages.0.1",)), True, "lists"),
    ],
)
def test_every_source_gives_a_plan_that_equals_its_reference(
    wanted: SourceSettings, masked: bool, source: str
) -> None:
    net = _net()
    if wanted.scores.half == "edge":
        wanted = wanted.model_copy(update={"scores": ScoreSettings(budget=0.6)})
    values = _values(net) if masked else {}
    plan, masks = make_plan(net, values, wanted, ONE, X, lambda n: n(pictures(4, 16)).square().mean())
    assert plan.source == source
    assert removed(plan) > 0 or plan.removed_blocks
    slim = apply_plan(net, masks, plan, X)
    reference = reference_masks(net, plan, masks, X)
    if reference is not None:
        reference.attach(net)
    assert deviation(net, slim, pictures(2, 16, 3)).relative <= EXACT
    assert describe_plan(plan)[0].startswith(f"source: {source}")


def test_masks_of_blocks_are_taken_too() -> None:
    net = _net()
    values = {**_values(net), BLOCK_PREFIX + "stages.0.1": torch.tensor(0.0)}
    values |= {BLOCK_PREFIX + name: torch.tensor(1.0) for name in ("stages.0.0", "stages.1.1")}
    plan, masks = make_plan(net, values, SourceSettings(), ONE, X)
    assert plan.removed_blocks == ("stages.0.1",)
    assert isinstance(apply_plan(net, masks, plan, X).get_submodule("stages.0.1"), torch.nn.Identity)


def test_a_source_that_is_not_there_is_refused() -> None:
    net = _net()
    with pytest.raises(SurgeryError, match="has no masks"):
        make_plan(net, {}, SourceSettings(source="masks"), ONE, X)
    with pytest.raises(SurgeryError, match="needs remove"):
        make_plan(net, {}, SourceSettings(source="lists"), ONE, X)
    with pytest.raises(GroupError):
        make_plan(net, {"nowhere": torch.ones(3)}, SourceSettings(), ONE, X)
