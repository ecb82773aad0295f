from __future__ import annotations

from pathlib import Path

import pytest

from toolkit.checks import load_limits, parse_limits
from toolkit.errors import SettingsError


def test_reads_a_file(tmp_path: Path) -> None:
    path = tmp_path / "limits.yaml"
    path.write_text("schema: 1\nlimits:\n- {metric: reid.map, min: 9e-1}\n")
    (limit,) = load_limits(path).limits
    assert (limit.metric, limit.min, limit.max, limit.variant) == ("reid.map", 0.9, None, "*")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("limits: [{metric: reid.map, mim: 0.9}]", r"unknown key 'mim' \(limit 1\); did you mean 'min'"),
        ("limits: [{metric: a.b, min: 1}, {metric: a.b, ratiomax: 1}]", r"'ratiomax' \(limit 2\).*'ratio_max'"),
        ("limit: [{metric: reid.map, min: 0.9}]", "did you mean 'limits'|limits: Field required"),
        ("limits: [{metric: a.b, min: 0.9, qqqq: 1}]", "known keys: metric, name"),
        ("limits: []", "limits: .*at least 1"),
        ("{}", "limits: Field required"),
        ("- a", "expected a mapping"),
        ("", "expected a mapping"),
        ("limits: [", "line 1 is not YAML"),
        ("limits: [{metric: reid.map}]", "bounds nothing; give one of min, max"),
        ("limits: [{metric: reid.map, min: yes}]", "a number, not yes or no"),
        ("limits: [{metric: reid.map, max: .nan}]", "finite number"),
        ("limits: [{metric: reid.map, min: 2, max: 1}]", "min 2.0 is above max 1.0"),
        ("limits: [{metric: reid.map, ratio_max: 1}]", "ratio_max needs relative_to"),
        ("limits: [{metric: reid.map, max: 1, relative_to: baseline}]", "relative_to needs one of"),
        ("schema: 2\nlimits: [{metric: reid.map, max: 1}]", "schema"),
        ("limits: [{metric: reid.map, provenance: guessed, max: 1}]", "provenance"),
    ],
)
def test_wrong_text_is_named_in_one_line(text: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message) as caught:
        parse_limits(text)
    assert "\n" not in str(caught.value)


def test_missing_file_and_binary_file(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="No such file"):
        load_limits(tmp_path / "absent.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SettingsError, match="cannot read"):
        load_limits(tmp_path / "binary.yaml")


def test_python_objects_are_not_built() -> None:
    with pytest.raises(SettingsError, match="not YAML"):
        parse_limits("limits: !!python/object/apply:os.getcwd []")
