"""Weights that other programs wrote."""

import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from toolkit.errors import ArtifactError, ModelError
from toolkit.models.architecture import Architecture
from toolkit.models.foreign import load_foreign
from toolkit.models.network import build_network

TINY = Architecture("resnet18", "layer2", identities=2, width=0.125)


def _torchvision_like(seed: int = 9) -> dict[str, torch.Tensor]:
    state = dict(build_network(TINY, seed).backbone.state_dict())
    return {**state, "fc.weight": torch.rand(1000, 64), "fc.bias": torch.rand(1000)}


@pytest.mark.parametrize("prefix", ["", "module.", "backbone.", "module.backbone.", "model.base."])
@pytest.mark.parametrize("wrapper", [None, "state_dict", "model"])
def test_names_load_behind_prefixes_and_wrappers(tmp_path: Path, prefix: str, wrapper: str | None) -> None:
    state = _torchvision_like()
    content: dict[str, object] = {prefix + name: value for name, value in state.items()}
    torch.save({wrapper: content, "epoch": 3} if wrapper else content, tmp_path / "w.pth")
    net = build_network(TINY)
    report = load_foreign(net, tmp_path / "w.pth")
    assert report.complete
    assert set(report.ignored) == {"fc.weight", "fc.bias"}
    assert len(report.loaded) == len(net.backbone.state_dict())
    assert all(torch.equal(value, state[name]) for name, value in net.backbone.state_dict().items())


def test_safetensors_and_old_files_without_counters(tmp_path: Path) -> None:
    state = {name: v for name, v in _torchvision_like().items() if not name.endswith("num_batches_tracked")}
    save_file(state, tmp_path / "w.safetensors")
    report = load_foreign(build_network(TINY), tmp_path / "w.safetensors")
    assert report.complete
    assert not any(name.endswith("num_batches_tracked") for name in report.loaded)


def test_missing_tensors_are_reported_and_keep_their_values(tmp_path: Path) -> None:
    state = {name: value for name, value in _torchvision_like().items() if not name.startswith("layer4")}
    torch.save(state, tmp_path / "w.pth")
    net = build_network(TINY)
    before = net.backbone.get_parameter("layer4.0.conv1.weight").clone()
    report = load_foreign(net, tmp_path / "w.pth")
    assert not report.complete
    assert "layer4.0.conv1.weight" in report.missing
    assert "missing" in report.describe()
    assert torch.equal(net.backbone.get_parameter("layer4.0.conv1.weight"), before)


def test_another_shape_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    wide = build_network(Architecture("resnet18", "layer2", 2, width=0.25)).backbone.state_dict()
    torch.save(wide, tmp_path / "w.pth")
    net = build_network(TINY)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with pytest.raises(ModelError, match=r"conv1\.weight.*resnet18"):
        load_foreign(net, tmp_path / "w.pth")
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_not_a_number_is_refused(tmp_path: Path) -> None:
    state = _torchvision_like()
    state["layer3.0.conv1.weight"][0, 0, 0, 0] = float("nan")
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(ModelError, match=r"layer3\.0\.conv1\.weight.*NaN"):
        load_foreign(build_network(TINY), tmp_path / "w.pth")


class _Payload:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (exec, ("raise SystemExit('the pickle ran')",))


def test_a_pickle_with_code_is_refused_and_not_run(tmp_path: Path) -> None:
    torch.save({"state_dict": _Payload()}, tmp_path / "evil.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(_Payload()))
    torch.save(build_network(TINY), tmp_path / "module.pth")
    for name in ("evil.pth", "plain.pth", "module.pth"):
        with pytest.raises(ModelError, match="state_dict"):
            load_foreign(build_network(TINY), tmp_path / name)


@pytest.mark.parametrize("content", [{}, {"a": 1}, [1, 2], {"other.weight": torch.zeros(2)}])
def test_files_without_fitting_weights_are_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(ModelError):
        load_foreign(build_network(TINY), tmp_path / "w.pth")


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_truncated_empty_and_missing_files(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"w{suffix}"
    with pytest.raises(ArtifactError, match="no weights"):
        load_foreign(build_network(TINY), path)
    if suffix == ".pth":
        torch.save(_torchvision_like(), path)
    else:
        save_file(_torchvision_like(), path)
    data = path.read_bytes()
    for damaged in (data[: len(data) // 2], b""):
        path.write_bytes(damaged)
        with pytest.raises(ArtifactError, match="cannot be read"):
            load_foreign(build_network(TINY), path)


def test_twice_the_same_name_is_refused(tmp_path: Path) -> None:
    state = _torchvision_like()
    torch.save({**state, "module.conv1.weight": state["conv1.weight"]}, tmp_path / "w.pth")
    with pytest.raises(ModelError, match="twice"):
        load_foreign(build_network(TINY), tmp_path / "w.pth")
