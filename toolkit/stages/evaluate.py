"""Stage ``evaluate``: re-identification with what is sent: edge engine, frames, cloud half."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from toolkit.engines import open_engine
from toolkit.engines.settings import RunSettings as OpenSettings
from toolkit.progress import track
from toolkit.runs import file_sha256
from toolkit.stages.base import Context, Stage
from toolkit.stages.build import cloud_path, codes_of, deployed_variant, running_variants
from toolkit.stages.data import RunData
from toolkit.stages.export import EDGE, exported, wire_of
from toolkit.variants import Variant
from toolkit.wire.codes import entropy_bits
from toolkit.wire.frame import read_frame, write_frame

if TYPE_CHECKING:
    from toolkit.reid.ranking import Ranking

RANKS = (1, 5)


class EvaluateStage(Stage):
    """mAP, rank-1 and rank-5, mINP of every variant that runs here, and the difference to the dense network."""

    name = "evaluate"
    version = 1
    sections = ("evaluate",)
    inputs = ("data", "export", "build")

    def run(self, context: Context) -> None:
        data = RunData.load(context)
        keys = running_variants(context)
        rankings = {key: self._rank(context, data, key) for key in keys}
        for key, ranking in rankings.items():
            self._record(context, data, key, ranking)
            self._compare(context, key, ranking, rankings[keys[0]])
        best = rankings[deployed_variant(context)]
        context.summary.update(map=round(best.map, 4), rank1=round(best.rank(1), 4), queries=best.valid)

    def _rank(self, context: Context, data: RunData, key: str) -> Any:
        return rank_test(self._embed(context, data, key), data, context.settings.seed)

    def _embed(self, context: Context, data: RunData, key: str) -> NDArray[np.float32]:
        """Every test picture's codes go through a frame, as on the wire, and then through the cloud half."""
        network = Variant.from_key(key).network
        fmt, model_hash = wire_of(context, network), file_sha256(exported(context, network, EDGE))
        codes, embeddings, sizes = codes_of(context, key), [], []
        cloud = open_engine(cloud_path(context, network), OpenSettings(threads=context.settings.thread_count()))
        batch = context.settings.evaluate.batch
        for start in track(range(0, len(data.test), batch), f"embeddings of {key}"):
            received = []
            for row in data.test[start : start + batch]:
                frame = write_frame(np.asarray(codes[row]), fmt, model_hash, int(row), "zstd")
                sizes.append(len(frame))
                received.append(read_frame(frame, fmt, model_hash).codes)
            embeddings.append(cloud.run({"wire": np.stack(received)})["embedding"])
        cloud.close()
        self._wire(context, key, fmt, np.asarray(codes[data.test]), sizes)
        return np.concatenate(embeddings)

    def _wire(self, context: Context, key: str, fmt: Any, codes: NDArray[np.int8], sizes: list[int]) -> None:
        fields: dict[str, Any] = {"unit": "bytes", "variant": key, "split": "test", "n": len(codes)}
        context.measure("wire.bytes_raw", fmt.elements * fmt.bits / 8, **fields)
        context.measure("wire.bytes_entropy", entropy_bits(codes) / 8, **fields)
        context.measure("wire.bytes_frame_zstd", float(np.mean(sizes)), **fields)

    def _record(self, context: Context, data: RunData, key: str, ranking: Any) -> None:
        from toolkit.reid.bootstrap import bootstrap_mean

        per_query = ranking.per_query
        values = {"reid.map": per_query.ap, "reid.minp": per_query.inp}
        values |= {f"reid.rank{k}": per_query.hits(k) for k in RANKS}
        for name, samples in values.items():
            spread = bootstrap_mean(
                samples, per_query.identity, context.settings.seed, resamples=context.settings.evaluate.bootstrap
            )
            context.measure(
                name,
                spread.value,
                n=ranking.valid,
                interval=(spread.low, spread.high),
                variant=key,
                protocol=data.protocol,
                split="test",
            )
        rows = {"ap": per_query.ap.tolist(), "first_rank": per_query.first_rank.tolist()}
        context.write_json(f"{key}.json", {**rows, "skipped": ranking.skipped, "gallery": ranking.gallery})

    def _compare(self, context: Context, key: str, ranking: Any, dense: Any) -> None:
        from toolkit.reid.bootstrap import paired_bootstrap

        if ranking is dense:
            return
        drop = paired_bootstrap(
            ranking.per_query.ap,
            dense.per_query.ap,
            dense.per_query.identity,
            context.settings.seed,
            resamples=context.settings.evaluate.bootstrap,
        )
        context.measure(
            "reid.map_drop",
            drop.value,
            n=ranking.valid,
            interval=(drop.low, drop.high),
            variant=key,
            protocol=ranking.protocol,
            split="test",
        )


def rank_test(embeddings: NDArray[np.float32], data: RunData, seed: int = 0) -> Ranking:
    """Search of the test split; ``embeddings`` (N, D) follow ``data.test``."""
    from toolkit.reid.ranking import evaluate

    query, gallery = (np.searchsorted(data.test, data.rows[name]) for name in ("query", "gallery"))
    identities, cameras = (data.numbers(names, data.test) for names in (data.identities, data.cameras))
    return evaluate(
        embeddings[query],
        embeddings[gallery],
        identities[query],
        identities[gallery],
        cameras[query],
        cameras[gallery],
        data.protocol,
        data.test[query],
        data.test[gallery],
        seed=seed,
    )
