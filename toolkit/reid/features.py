"""From pictures to embeddings, for a network or for a deployed pair of engines."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from toolkit.errors import DataError, ModelError
from toolkit.models.network import ReidNet
from toolkit.preprocess import to_input
from toolkit.progress import track

EmbeddingFunction = Callable[[np.ndarray], np.ndarray]


def network_function(net: ReidNet) -> EmbeddingFunction:
    """The network's float32 evaluation as a function from inputs ``(n, 3, H, W)`` to embeddings ``(n, D)``.

    The network is in evaluation mode during a call and as it was afterwards.
    """

    def run(inputs: np.ndarray) -> np.ndarray:
        training = net.training
        net.eval()
        try:
            with torch.no_grad():
                batch = torch.from_numpy(inputs).to(net.mean.device, memory_format=torch.channels_last)
                return net(batch).float().cpu().numpy()
        finally:
            net.train(training)

    return run


def normalize(features: np.ndarray) -> np.ndarray:
    """Rows at Euclidean length 1, float32; a row of zeros stays zero."""
    lengths = np.linalg.norm(features.astype(np.float64), axis=1, keepdims=True)
    return (features / np.where(lengths > 0, lengths, 1.0)).astype(np.float32)


def embed(function: EmbeddingFunction, pictures: np.ndarray, batch: int = 64) -> np.ndarray:
    """Embeddings of pictures, without augmentation, in order.

    Args:
        function: float32 inputs ``(n, 3, H, W)`` in [0, 1] to embeddings ``(n, D)``: :func:`network_function`,
            or edge engine, wire and cloud half in a row.
        pictures: uint8 ``(N, H, W, 3)``.
        batch: pictures per call.

    Returns:
        float32 ``(N, D)``, L2-normalized.

    Raises:
        DataError: no pictures, or not uint8 ``(N, H, W, 3)``.
        ModelError: an embedding is not finite, or has another shape than ``(n, D)``.
    """
    if len(pictures) == 0:
        raise DataError("no pictures to embed; check the split")
    if batch < 1:
        raise DataError(f"a batch has at least one picture, not {batch}")
    parts = []
    for start in track(range(0, len(pictures), batch), "embedding pictures"):
        chunk = pictures[start : start + batch]
        part = np.asarray(function(to_input(chunk)))
        if part.ndim != 2 or len(part) != len(chunk):
            raise ModelError(f"embeddings of {len(chunk)} pictures have the shape {part.shape}, not (n, D)")
        if not np.isfinite(part).all():
            raise ModelError(f"an embedding among pictures {start} to {start + len(chunk) - 1} is not finite")
        parts.append(part)
    return normalize(np.concatenate(parts))
