import io
import warnings

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from toolkit.errors import ModelError
from toolkit.export import ExportSettings, cut_model, find_cuts, split_onnx
from toolkit.export.parity import runner
from toolkit.wire import decode


class Small(nn.Module):
    """Two residual blocks; what happens inside a block cannot be cut."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 2, 1)
        self.a = nn.Conv2d(8, 8, 3, 1, 1)
        self.b = nn.Conv2d(8, 8, 3, 1, 1)
        self.tail = nn.Conv2d(8, 6, 1)

    def forward(self, x):
        x = torch.relu(self.stem(x))
        x = torch.relu(x + self.a(x))
        x = torch.relu(x + self.b(x))
        return nn.functional.adaptive_avg_pool2d(self.tail(x), 1)


def small():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Small().eval()


def save(path, opset=17, batch=True, shape=(1, 3, 32, 48)):
    buffer = io.BytesIO()
    axes = {"images": {0: "n"}, "out": {0: "n"}} if batch else None
    names = {"input_names": ["images"], "output_names": ["out"], "dynamic_axes": axes}
    with warnings.catch_warnings(action="ignore"):
        torch.onnx.export(small(), (torch.zeros(shape),), buffer, dynamo=False, opset_version=opset, **names)
    path.write_bytes(buffer.getvalue())
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save(tmp_path_factory.mktemp("foreign") / "user.onnx")


def test_cuts_are_where_everything_passes(model):
    cuts = find_cuts(onnx.load(model))
    assert [cut.operator for cut in cuts] == ["Conv", "Relu", "Add", "Relu", "Add", "Relu", "Conv"]
    assert cuts[1].shape == (8, 16, 24)


@pytest.mark.parametrize(("opset", "batch"), [(17, True), (13, True), (17, False)])
@pytest.mark.parametrize("normalization", ["inside", "outside"])
def test_split(tmp_path, pictures, size, opset, batch, normalization):
    path = save(tmp_path / "user.onnx", opset, batch)
    cut = find_cuts(onnx.load(path))[3]
    result = split_onnx(path, cut.tensor, size, pictures, 8, tmp_path, normalization)
    assert result.fmt.shape == (8, 16, 24)
    assert not result.fmt.signed
    inputs = pictures.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)
    codes = runner(onnx.load(result.export.edge))(inputs)
    embedding = runner(onnx.load(result.export.cloud))(codes)
    if normalization == "outside":
        inputs = (inputs - np.reshape(size.mean, (1, 3, 1, 1))) / np.reshape(size.std, (1, 3, 1, 1))
    expected = small()(torch.from_numpy(inputs.astype(np.float32))).flatten(1).detach().numpy()
    assert embedding.shape == (6, 6)
    assert np.abs(embedding - expected).max() < 0.02 * np.abs(expected).max()
    assert decode(codes, result.fmt).max() > 0


def test_a_node_name_is_a_cut_too_and_a_linear_cut_is_signed(model, pictures, size, tmp_path):
    settings = ExportSettings(picture_input="nhwc_uint8")
    result = split_onnx(model, "/stem/Conv", size, pictures, 4, tmp_path, settings=settings)
    assert result.fmt.signed
    codes = runner(onnx.load(result.export.edge))(pictures)
    assert (codes.dtype, codes.min() < 0, codes.max() <= 7) == (np.int8, True, True)


def test_wrong_cuts_list_the_right_ones(model):
    with pytest.raises(ModelError, match="no tensor or node 'layer9'; cut at one of"):
        cut_model(onnx.load(model), "layer9")
    with pytest.raises(ModelError, match=r"branch goes around.*cut at one of"):
        cut_model(onnx.load(model), "/a/Conv")


def test_wrong_files_are_refused(model, tmp_path, pictures, size):
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(model.read_bytes()[:100])
    for path, match in (
        (tmp_path / "none.onnx", "cannot read"),
        (broken, "not a valid ONNX model"),
        (save(tmp_path / "big.onnx", shape=(1, 3, 64, 64)), "set picture"),
    ):
        with pytest.raises(ModelError, match=match):
            split_onnx(path, "x", size, pictures, 8, tmp_path)
