import io
import warnings

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from toolkit.export.tidy import tidy, to_bytes
from toolkit.export.wire_ends import attach_edge_wire
from toolkit.wire import WireFormat

FORMAT = WireFormat(8, 8, 8, bits=8, step=0.02, signed=False)


class Tiny(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, 2, 1)
        self.second = nn.Conv2d(8, 8, 3, 1, 1)

    def forward(self, picture):
        x = torch.relu(self.first(picture))
        return torch.relu(x + self.second(x))


@pytest.fixture(scope="session")
def tiny_onnx() -> bytes:
    """An edge half of two convolutions, 16x16 pictures, dynamic batch, INT8 codes."""
    buffer = io.BytesIO()
    with torch.random.fork_rng(), warnings.catch_warnings(action="ignore"):
        torch.manual_seed(0)
        net = Tiny().eval()
        axes = {"picture": {0: "batch"}, "feature": {0: "batch"}}
        names = {"input_names": ["picture"], "output_names": ["feature"], "dynamic_axes": axes}
        torch.onnx.export(net, (torch.zeros(1, 3, 16, 16),), buffer, dynamo=False, opset_version=17, **names)
    modules = [name for name, _ in net.named_modules()]
    return to_bytes(attach_edge_wire(tidy(onnx.load_from_string(buffer.getvalue()), modules), FORMAT))


@pytest.fixture
def tiny_path(tiny_onnx, tmp_path):
    path = tmp_path / "edge.onnx"
    path.write_bytes(tiny_onnx)
    return path


@pytest.fixture
def pictures() -> np.ndarray:
    rows, columns = np.mgrid[0:16, 0:16] / 16.0
    planes = [np.stack([rows, columns, (rows * columns * n) % 1]) for n in (1, 2, 3, 4)]
    return np.stack(planes).astype(np.float32)
