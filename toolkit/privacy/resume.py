"""What takes hours survives a kill, and is gone on with only for the codes that it was made from."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from toolkit.arrays import create_array
from toolkit.privacy.attacks.base import BATCH, Attack
from toolkit.privacy.codes import Pictures

if TYPE_CHECKING:
    from toolkit.privacy.suite import AttackData


def fresh_folder(folder: Path, tag: str) -> None:
    """Make the folder of an attacker; what an attack on other codes left in it is removed, not gone on with.

    Args:
        folder: of checkpoints.
        tag: digest of codes, pictures and rows.
    """
    marker = folder / "codes.key"
    if folder.exists() and not (marker.exists() and marker.read_text(encoding="utf-8") == tag):
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    marker.write_text(tag, encoding="utf-8")


def reconstruct_kept(attack: Attack, data: AttackData, folder: Path, key: str) -> Pictures:
    """Reconstructions of the test pictures ``(N, H, W, 3)``, memory-mapped; killed, it goes on where it was.

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
    path.unlink()  # the map stays readable until it is let go
    state.unlink(missing_ok=True)
    found: Pictures = store
    return found
