"""What a quantized edge half is worth, on training pictures: mean average precision, and leakage to one decoder.

Decisions of the ``quantize`` stage rest on these scores; test pictures are left for the verdict. On identities
that the network was trained on precision is near 1, so a loss shows here later than on new ones.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from toolkit.errors import DataError
from toolkit.preprocess import to_input
from toolkit.stages.base import Context
from toolkit.stages.data import RunData
from toolkit.stages.export import CLOUD, EDGE, exported, wire_of
from toolkit.wire.codes import WireFormat

if TYPE_CHECKING:
    import onnx

    from toolkit.privacy.attacks.ridge import Ridge

BATCH = 32


class Development:
    """Scores of an edge half that sends codes on the wire; larger is better.

    Args:
        context: of a run whose ``export`` stage is done.
        data: its pictures.
        network: the exported network whose cloud half receives.
        count: most training pictures to look at, balanced over identities and cameras.
    """

    def __init__(self, context: Context, data: RunData, network: str, count: int) -> None:
        from calibration import choose_pictures

        self._context, self._data, self._network = context, data, network
        self._threads = context.settings.thread_count()
        train = data.rows["train"]
        identities = [data.identities[row] for row in train]
        chosen = choose_pictures(identities, [data.cameras[row] for row in train], count, context.settings.seed)
        self.rows: NDArray[np.int64] = np.sort(train[chosen])
        self._inputs = to_input(np.ascontiguousarray(data.pictures[self.rows]))

    @cached_property
    def _cloud(self) -> Any:
        import onnx

        from calibration.session import open_session

        return open_session(onnx.load(str(exported(self._context, self._network, CLOUD))), self._threads)

    @cached_property
    def _float_codes(self) -> NDArray[np.int8]:
        import onnx

        return self._codes(onnx.load(str(exported(self._context, self._network, EDGE))))

    def _codes(self, model: onnx.ModelProto) -> NDArray[np.int8]:
        from calibration.session import open_session, run_all

        return run_all(open_session(model, self._threads, integer_kernels=False), self._inputs, BATCH)

    @cached_property
    def float_map(self) -> float:
        """Mean average precision of the FP32 pair."""
        return self._ranked(self._float_codes)

    def map_of(self, model: onnx.ModelProto) -> float:
        """Mean average precision of a quantized edge half with the FP32 cloud half."""
        return self._ranked(self._codes(model))

    def _ranked(self, codes: NDArray[np.int8]) -> float:
        """Every picture searches all others."""
        from calibration.session import run_all
        from toolkit.reid.ranking import evaluate

        embeddings, data = run_all(self._cloud, codes, BATCH), self._data
        identities, cameras = (data.numbers(names, self.rows) for names in (data.identities, data.cameras))
        labels = (identities, identities, cameras, cameras)
        ranking = evaluate(
            embeddings, embeddings, *labels, data.protocol, self.rows, self.rows, seed=self._context.settings.seed
        )
        return float(ranking.map)

    def leakage_of(self, model: onnx.ModelProto) -> float:
        """The decoder's squared error on codes of pictures that it was not fitted on, over the mean picture's."""
        decoder, held_out = self._decoder
        codes = self._wire_codes(self._codes(model)[held_out])
        originals = self._data.pictures[self.rows[held_out]].astype(np.float64)
        mean = self._data.pictures[np.delete(self.rows, held_out)].mean(axis=0, dtype=np.float64)
        found = decoder.reconstruct(codes).astype(np.float64)
        return float(np.square(found - originals).mean() / np.square(originals - mean).mean())

    @cached_property
    def _decoder(self) -> tuple[Ridge, NDArray[np.int64]]:
        """Fitted once, on the FP32 half's codes; a quarter of the identities is held out."""
        from toolkit.privacy.attacks.ridge import Ridge, RidgeSettings
        from toolkit.privacy.pairs import Pairs, Part

        numbers = self._data.numbers(self._data.identities, self.rows)
        held_out = numbers % 4 == 3
        if not held_out.any():
            raise DataError("leakage needs at least 4 training identities; leave it out of quantize.sensitivity")
        codes = self._wire_codes(self._float_codes)
        pictures = np.ascontiguousarray(self._data.pictures[self.rows])
        train, rest = (Pairs([Part(codes, pictures, np.flatnonzero(part))]) for part in (~held_out, held_out))
        decoder = Ridge(RidgeSettings(seed=self._context.settings.seed))
        decoder.fit(train, rest)
        return decoder, np.flatnonzero(held_out)

    def _wire_codes(self, codes: NDArray[np.int8]) -> Any:
        from toolkit.privacy.codes import WireCodes

        fmt: WireFormat = wire_of(self._context, self._network)
        return WireCodes.from_format(codes, fmt)
