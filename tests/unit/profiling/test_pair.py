"""``profile --compare A B``: two models or engines in turns."""

import json

import pytest
from typer.testing import CliRunner

from tests.unit.profiling.test_profiling import QUICK, network
from toolkit.cli import app
from toolkit.engines import BuildSettings, EngineMismatchError, build_engine
from toolkit.errors import SettingsError
from toolkit.profiling.pair import compare_files

run = CliRunner().invoke


@pytest.fixture
def models(tmp_path):
    paths = {}
    for name, depth in (("shallow", 1), ("deep", 8)):
        paths[name] = tmp_path / f"{name}.onnx"
        paths[name].write_bytes(network(depth))
    return paths


def test_models_and_engines_are_compared(models, tmp_path):
    engine = build_engine(models["deep"], tmp_path / "deep.engine", BuildSettings()).path
    found = compare_files(engine, models["shallow"], settings=QUICK, batch=2)
    assert found.ratio.verdict == "slower"
    assert (found.a.batch, found.a.device) == (2, "CPU")
    body = found.to_dict()
    assert body["ratio"]["interval"][0] > 1
    assert body["a"]["clocks"]["source"] == "cpu"


def test_an_engine_without_a_sidecar_is_refused(models, tmp_path):
    (tmp_path / "x.plan").write_bytes(b"x")
    with pytest.raises(EngineMismatchError, match="no sidecar"):
        compare_files(tmp_path / "x.plan", models["deep"])


def test_the_command(models):
    arguments = ["profile", "--compare", str(models["shallow"]), str(models["deep"]), "--seconds", "0.2"]
    done = run(app, arguments)
    assert done.exit_code == 0
    assert "A is faster" in done.stdout
    assert json.loads(run(app, [*arguments, "--json"]).stdout)["ratio"]["verdict"] == "faster"
    assert isinstance(run(app, [*arguments, "--set", "a=b"]).exception, SettingsError)
    assert isinstance(run(app, [*arguments, "--engine", "none"]).exception, SettingsError)
    assert isinstance(run(app, ["profile"]).exception, SettingsError)
