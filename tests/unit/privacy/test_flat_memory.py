"""What grows with the number of pictures lies on the disk; only scores stay in memory."""

import tracemalloc

import numpy as np

from tests.unit.privacy.toys import STEP, blobs, fold
from toolkit.arrays import copy_rows
from toolkit.privacy.attacks.inverse_network import InverseNetworkSettings
from toolkit.privacy.attacks.substitute import SubstituteSettings
from toolkit.privacy.codes import WireCodes
from toolkit.privacy.settings import AttackSettings
from toolkit.privacy.suite import AttackData, attack_variant

DECODER = InverseNetworkSettings(label="net", decoder="subpixel_n1c16", steps=4, batch=16, ssim_crop=32)
SUITE = AttackSettings(
    attackers=(
        DECODER,
        SubstituteSettings(steps=4, decoder=DECODER.model_copy(update={"label": "inner"})),
    ),
    mirror=False,
    minimum_test=10,
    minimum_train=50,
    pictures_shown=2,
)


def on_disk(count, folder) -> AttackData:
    """Pictures and codes as memory maps, as the build stage leaves them."""
    folder.mkdir()
    some = blobs(100)
    pictures = np.concatenate([np.roll(some, shift, axis=1) for shift in range(count // 100)])
    for name, values in (("pictures", pictures), ("codes", fold(pictures))):
        np.save(folder / f"{name}.npy", values)
    maps = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("pictures", "codes")}
    rows = np.arange(count)
    return AttackData(
        codes=WireCodes(maps["codes"], STEP),
        pictures=maps["pictures"],
        identities=[f"id{i}" for i in rows],
        train=rows[: count // 2],
        validation=rows[count // 2 : 3 * count // 4],
        test=rows[3 * count // 4 :],
        encode=fold,
    )


def peak(count, folder) -> tuple[int, int]:
    """Most bytes that Python and NumPy held at once, and bytes of the pictures."""
    source = on_disk(count, folder)
    tracemalloc.start()
    try:
        found = attack_variant(source, SUITE, folder / "attack", "toy")
        held = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert {a.label for a in found.attackers} == {"net", "substitute"} and not found.failed
    return held, source.pictures.nbytes


def test_an_attack_on_three_times_the_pictures_needs_no_more_memory(tmp_path):
    few, small = peak(800, tmp_path / "few")
    many, large = peak(2400, tmp_path / "many")
    assert many - few < 0.15 * (large - small), (few, many, small, large)


def test_copied_rows_are_a_map_of_their_own(tmp_path):
    source = blobs(10)
    rows = np.asarray([7, 1, 1, 4])
    found = copy_rows(source, rows, tmp_path / "rows.npy", batch=3)
    assert isinstance(found, np.memmap)
    np.testing.assert_array_equal(found, source[rows])
