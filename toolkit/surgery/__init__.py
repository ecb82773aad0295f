"""Slimming: a plan from masks, zeros, scores or lists, and the smaller network that equals the masked one."""

from toolkit.surgery.cost import Cost, LayerCost, cost
from toolkit.surgery.deviation import Deviation, deviation
from toolkit.surgery.errors import PlanError, SurgeryError
from toolkit.surgery.fold import fold_masks
from toolkit.surgery.plan import Plan, compose, fingerprint
from toolkit.surgery.proposal import PlanSettings
from toolkit.surgery.remove import apply_plan, rebuild, shrink, transfer
from toolkit.surgery.request import SourceSettings, make_plan, mask_set, reference_masks
from toolkit.surgery.sources import (
    ScoreSettings,
    Slimmed,
    plan_from_lists,
    plan_from_masks,
    plan_from_scores,
    plan_from_zeros,
    slim_by_masks,
    slim_by_scores,
    slim_by_zeros,
)
from toolkit.surgery.table import Row, describe_plan, format_rows, plan_table

__all__ = [
    "Cost",
    "Deviation",
    "LayerCost",
    "Plan",
    "PlanError",
    "PlanSettings",
    "Row",
    "ScoreSettings",
    "Slimmed",
    "SourceSettings",
    "SurgeryError",
    "apply_plan",
    "compose",
    "cost",
    "describe_plan",
    "deviation",
    "fingerprint",
    "fold_masks",
    "format_rows",
    "make_plan",
    "mask_set",
    "plan_from_lists",
    "plan_from_masks",
    "plan_from_scores",
    "plan_from_zeros",
    "plan_table",
    "rebuild",
    "reference_masks",
    "shrink",
    "slim_by_masks",
    "slim_by_scores",
    "slim_by_zeros",
    "transfer",
]
