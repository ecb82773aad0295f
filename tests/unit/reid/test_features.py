"""Embeddings of pictures."""

import numpy as np
import pytest
import torch

from toolkit.errors import DataError, ModelError
from toolkit.models.architecture import Architecture
from toolkit.models.network import build_network
from toolkit.preprocess import to_input
from toolkit.reid.features import embed, network_function

PICTURES = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)


def test_embeddings_are_the_networks_normalized_in_order() -> None:
    net = build_network(Architecture("resnet18", "layer2", 2, width=0.125)).train()
    features = embed(network_function(net), PICTURES, batch=2)
    assert net.training
    with torch.no_grad():
        expected = torch.nn.functional.normalize(net.eval()(torch.from_numpy(to_input(PICTURES))))
    np.testing.assert_allclose(features, expected.numpy(), atol=1e-5)
    assert features.dtype == np.float32


def test_a_row_of_zeros_stays_zero() -> None:
    out = embed(lambda x: np.array([[3.0, 4.0], [0.0, 0.0]])[: len(x)], PICTURES[:2], batch=2)
    np.testing.assert_allclose(out, [[0.6, 0.8], [0.0, 0.0]])


def test_broken_functions_and_empty_splits_are_named() -> None:
    with pytest.raises(ModelError, match=r"pictures 2 to 3 is not finite"):
        embed(lambda x: np.full((len(x), 2), np.nan if x[0, 0, 0, 0] == to_input(PICTURES)[2, 0, 0, 0] else 1.0),
              PICTURES, batch=2)  # fmt: skip
    with pytest.raises(ModelError, match=r"\(n, D\)"):
        embed(lambda x: np.zeros((1, 2)), PICTURES, batch=5)
    with pytest.raises(DataError, match="no pictures"):
        embed(lambda x: np.zeros((1, 2)), PICTURES[:0])
    with pytest.raises(DataError, match="at least one"):
        embed(lambda x: np.zeros((1, 2)), PICTURES, batch=0)
