"""A latency budget on the slim network: its slack is predicted, with the prediction's interval."""

from types import SimpleNamespace

import numpy as np
import pytest

from tests.unit.patrol.small import SIDE, small_net
from toolkit.errors import TrainingError
from toolkit.runs import RunFolder
from toolkit.settings import RunSettings
from toolkit.stages.base import Context
from toolkit.stages.slim import SlimStage


def measured(tmp_path, max_ms):
    latency = {"device": "orin-nano-8gb", "max_ms": max_ms}
    settings = RunSettings.model_validate({"name": "tiny", "patrol": {"masks": {"latency": latency}}})
    context = Context(settings, RunFolder.open(tmp_path, name="tiny", settings={}, environment={}), tmp_path)
    data = SimpleNamespace(pictures=np.zeros((1, SIDE, SIDE, 3), np.uint8))
    SlimStage()._latency(context, data, small_net())
    return context


def test_slack_is_predicted_with_an_interval_that_keeps_the_budget(tmp_path):
    context = measured(tmp_path, 5.0)
    (slack,) = context.metrics
    assert (slack.name, slack.provenance, slack.machine) == ("edge.slack.latency", "predicted", "orin-nano-8gb")
    low, high = slack.interval
    assert 0 <= low <= slack.value <= high < 1
    assert "of 5 ms, predicted" in context.summary["slack"]


def test_a_network_whose_interval_passes_the_budget_is_refused(tmp_path):
    with pytest.raises(TrainingError, match=r"predicted to take up to .* more than masks\.latency's 0\.0001 ms"):
        measured(tmp_path, 0.0001)
