"""Reconstructions that take hours survive a kill: finished batches are kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from toolkit.arrays import create_array
from toolkit.privacy.attacks.base import BATCH, Attack
from toolkit.privacy.codes import Pictures

if TYPE_CHECKING:
    from toolkit.privacy.suite import AttackData


def reconstruct_kept(attack: Attack, data: AttackData, folder: Path, key: str) -> Pictures:
    """Reconstructions of the test pictures ``(N, H, W, 3)``; killed, it goes on where it was.

    Args:
        attack: fitted.
        data: whose test pictures.
        folder: of the attacker, for what is finished so far.
        key: what the stored part must have been made with.
    """
    path, state = folder / "test_pictures.npy", folder / "test_pictures.json"
    body = json.loads(state.read_text(encoding="utf-8")) if state.exists() and path.exists() else {}
    done = int(body["done"]) if body.get("key") == key else 0
    shape = (len(data.test), *data.pictures.shape[1:])
    store = np.load(path, mmap_mode="r+", allow_pickle=False) if done else create_array(path, np.uint8, shape)
    for start in range(done, len(data.test), BATCH):
        rows = data.test[start : start + BATCH]
        store[start : start + len(rows)] = attack.reconstruct(data.codes, rows)
        store.flush()
        state.write_text(json.dumps({"key": key, "done": start + len(rows)}), encoding="utf-8")
    found: Pictures = np.array(store)
    path.unlink()
    state.unlink(missing_ok=True)
    return found
