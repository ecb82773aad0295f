from __future__ import annotations

from pathlib import Path

import pytest

from toolkit.checks.conformance import MODELS, REFERENCE, TOLERANCES, judge, load_reference, main, measure_all
from toolkit.errors import SettingsError

ENTRIES = load_reference()


def test_reference_has_every_model_and_number() -> None:
    assert [dict(entry.model) for entry in ENTRIES] == list(MODELS)
    for entry in ENTRIES:
        assert set(entry.expected) == set(TOLERANCES)
        assert entry.expected["slim.macs"] < 0.6 * entry.expected["edge.macs"]
        assert entry.expected["refused"] == 0


def test_this_machine_conforms_on_the_first_model() -> None:
    (found,) = measure_all([ENTRIES[0].model])
    assert [verdict for verdict in judge(ENTRIES[0], found) if not verdict.ok] == []


@pytest.mark.full
@pytest.mark.parametrize("entry", ENTRIES[1:], ids=lambda entry: entry.name)
def test_this_machine_conforms(entry) -> None:
    (found,) = measure_all([entry.model])
    assert [verdict for verdict in judge(entry, found) if not verdict.ok] == []


@pytest.mark.parametrize(
    ("name", "factor"),
    [
        ("edge.macs", 1.001),
        ("wire.step", 1.01),
        ("feature.std", 0.99),
        ("quantize.sqnr.b", 0.9),
        ("slim.deviation", 1e3),
    ],
)
def test_what_differs_is_found(name: str, factor: float) -> None:
    found = {**ENTRIES[0].expected, name: ENTRIES[0].expected[name] * factor + 1e-9}
    (failed,) = [verdict for verdict in judge(ENTRIES[0], found) if not verdict.ok]
    assert failed.metric == name


def test_refused_network_and_absent_number_fail() -> None:
    expected = dict(ENTRIES[0].expected)
    assert not all(verdict.ok for verdict in judge(ENTRIES[0], {**expected, "refused": 1.0}))
    del expected["codes.mean"]
    (failed,) = [verdict for verdict in judge(ENTRIES[0], expected) if not verdict.ok]
    assert failed.reason == "absent"


def test_damaged_reference_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "reference.yaml"
    for text in ("schema: 2\nmodels: []\n", "[]", "models: ["):
        path.write_text(text)
        with pytest.raises(SettingsError):
            load_reference(path)
    with pytest.raises(SettingsError):
        main(["--reference", str(tmp_path / "nothing.yaml")])
    assert REFERENCE.exists()
