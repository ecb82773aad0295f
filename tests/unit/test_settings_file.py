"""Settings files: one-line errors that name the place and the near match."""

import pytest
from pydantic import BaseModel, ConfigDict

from toolkit.errors import SettingsError
from toolkit.settings_file import parse, read_settings


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")
    epochs: int = 3


class Outer(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str
    train: Inner = Inner()


def write(tmp_path, text):
    path = tmp_path / "run.yaml"
    path.write_text(text)
    return path


def test_changes_win(tmp_path):
    path = write(tmp_path, "name: a\ntrain: {epochs: 5}\n")
    assert read_settings(path, Outer).train.epochs == 5
    assert read_settings(path, Outer, ["train.epochs=9", "name=b"]) == Outer(name="b", train=Inner(epochs=9))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: a\ntrain: {epoch: 5}\n", r"unknown key train\.epoch; did you mean epochs\?"),
        ("name: a\ntrian: {}\n", r"unknown key trian; did you mean train\?"),
        ("name: a\ntrain: {zzz: 5}\n", r"known here: epochs"),
        ("train: {}\n", "name is missing"),
        ("name: a\ntrain: {epochs: many}\n", r"train\.epochs: .*not 'many'"),
        ("", "holds no settings"),
        ("- 1\n", "holds no settings"),
        ("name: [\n", "is not YAML"),
        ("name: !!python/object/apply:os.system [ls]\n", "is not YAML"),
    ],
)
def test_wrong_file_is_explained_in_one_line(tmp_path, text, message):
    with pytest.raises(SettingsError, match=message) as caught:
        read_settings(write(tmp_path, text), Outer)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("change", ["epochs", "=3", "name.first=x", "name=["])
def test_wrong_change_is_explained(tmp_path, change):
    with pytest.raises(SettingsError):
        read_settings(write(tmp_path, "name: a\n"), Outer, [change])


def test_missing_file_is_named(tmp_path):
    with pytest.raises(SettingsError, match=r"none\.yaml"):
        read_settings(tmp_path / "none.yaml", Outer)


@pytest.mark.parametrize("text", ["off", "on", "no", "yes"])
def test_words_that_old_yaml_takes_for_booleans_are_words(text):
    assert parse(f"arena: {text}") == {"arena": text}
    assert parse("a: true\nb: False") == {"a": True, "b": False}
