"""Each public layout, and what is wrong with bad ones."""

from collections import Counter

import pytest
from pydantic import ValidationError

from tests.unit.datasets import folders
from toolkit.datasets import DataSettings, labels_of, open_dataset
from toolkit.datasets.two_camera import assign_folds
from toolkit.datasets.veri776 import check_index_files
from toolkit.errors import DataError


def opened(kind, root, **options):
    return open_dataset(DataSettings(kind=kind, root=root, **options))


def test_veri776(tmp_path):
    dataset = opened("veri776", folders.veri(tmp_path))
    assert dataset.protocol == "veri"
    assert Counter(record.role for record in dataset.records) == {"train": 12, "query": 6, "gallery": 12}
    first = dataset.records[0]
    assert (first.path, first.identity, first.camera) == ("image_train/0001_c001_00000000_0.jpg", "0001", "c001")
    assert first.attributes == {"colour": "red", "type": "suv"}
    assert dataset.path_of(0).exists()


def test_veri776_without_labels_has_no_attributes(tmp_path):
    assert opened("veri776", folders.veri(tmp_path, labels=False)).records[0].attributes == {}


def test_veri776_ignores_other_files_but_not_other_names(tmp_path):
    folders.veri(tmp_path)
    (tmp_path / "image_train" / "Thumbs.db").write_bytes(b"x")
    assert len(opened("veri776", tmp_path).records) == 30
    folders.picture(tmp_path / "image_train" / "car.jpg")
    with pytest.raises(DataError, match=r"car\.jpg is not named"):
        opened("veri776", tmp_path)


def write_indices(root, spoil=False):
    gallery = sorted(path.name for path in (root / "image_test").iterdir())
    queries = sorted(path.name for path in (root / "image_query").iterdir())
    good, junk = [], []
    for query in queries:
        same = [(i, name) for i, name in enumerate(gallery, 1) if name[:4] == query[:4]]
        good.append(" ".join(str(i) for i, name in same if name[:9] != query[:9]))
        junk.append(" ".join(str(i) for i, name in same if name[:9] == query[:9]))
    if spoil:
        good[0] = good[0] + " 1" if not good[0].startswith("1 ") else "2"
    for name, lines in (("name_test", gallery), ("name_query", queries), ("gt_index", good), ("jk_index", junk)):
        (root / f"{name}.txt").write_text("\n".join(lines) + "\n")
    return len(queries)


def test_veri776_index_files_agree_with_the_junk_rule(tmp_path):
    folders.veri(tmp_path)
    assert check_index_files(tmp_path) == 0
    count = write_indices(tmp_path)
    assert check_index_files(tmp_path) == count == 6
    write_indices(tmp_path, spoil=True)
    with pytest.raises(DataError, match="contradict"):
        opened("veri776", tmp_path)


def test_veri776_damaged_labels(tmp_path):
    folders.veri(tmp_path)
    (tmp_path / "train_label.xml").write_text("<TrainingImages><Items>")
    with pytest.raises(DataError, match=r"train_label\.xml is not valid XML"):
        opened("veri776", tmp_path)
    (tmp_path / "train_label.xml").write_text('<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>')
    with pytest.raises(DataError, match="document type"):
        opened("veri776", tmp_path)


def test_vehicleid(tmp_path):
    dataset = opened("vehicleid", folders.vehicleid(tmp_path))
    assert dataset.protocol == "vehicleid"
    assert Counter(record.role for record in dataset.records) == {"train": 6, "query": 6}
    assert dataset.records[0].path == "image/0000000.jpg"
    with pytest.raises(DataError, match="test_list_1600"):
        opened("vehicleid", tmp_path, test_identities=1600)
    (tmp_path / "train_test_split" / "train_list.txt").write_text("0000001")
    with pytest.raises(DataError, match="line 1"):
        opened("vehicleid", tmp_path)


def test_veriwild(tmp_path):
    dataset = opened("veriwild", folders.veriwild(tmp_path))
    assert Counter(record.role for record in dataset.records) == {"train": 9, "query": 3, "gallery": 6}
    assert dataset.records[0].camera == "c1"
    assert dataset.records[0].attributes == {"model": "Model", "type": "SUV", "colour": "White"}
    (tmp_path / "train_test_split" / "train_list.txt").write_text("00000/999999.jpg")
    with pytest.raises(DataError, match=r"not in vehicle_info"):
        opened("veriwild", tmp_path)


def test_two_camera_val_is_a_fold(tmp_path):
    folders.two_camera(tmp_path)
    dataset = opened("two_camera", tmp_path)
    test = {record.identity for record in dataset.records if record.role == "query"}
    assert test == {f"car_{n:04d}" for n in range(1, 6)}
    assert opened("two_camera", tmp_path, test_fold=0).records == dataset.records
    assert len(dataset.records) == 60
    assert dataset.records[0].attributes["type"] in ("car", "motorcycle")


def test_two_camera_folds_partition_and_are_even_within_type(tmp_path):
    folders.two_camera(tmp_path)
    tested = Counter()
    for fold in range(5):
        records = opened("two_camera", tmp_path, test_fold=fold).records
        identities = {record.identity for record in records if record.role == "query"}
        assert not identities & {record.identity for record in records if record.role == "train"}
        tested.update(identities)
        if fold:
            assert Counter(name.split("_")[0] for name in identities)["car"] in (3, 4)
    assert len(tested) == 30 and set(tested.values()) == {1}


def test_two_camera_same_number_of_other_type_is_another_vehicle(tmp_path):
    names = {record.identity for record in opened("two_camera", folders.two_camera(tmp_path)).records}
    assert {"car_0001", "motorcycle_0001"} <= names


def test_two_camera_without_lists_needs_a_number(tmp_path):
    folders.two_camera(tmp_path, lists=False)
    with pytest.raises(DataError, match="test_fold"):
        opened("two_camera", tmp_path)
    sizes = [len(opened("two_camera", tmp_path, test_fold=fold).indices_of("query")) for fold in range(5)]
    assert sizes == [12] * 5


def test_two_camera_flat_folder(tmp_path):
    folders.two_camera(tmp_path / "all", lists=False)
    dataset = opened("two_camera", tmp_path / "all" / "images" / "train", test_fold=1)
    assert "/" not in dataset.records[0].path and dataset.path_of(0).exists()


def test_folds_do_not_depend_on_order():
    types = {f"{kind}_{n}": kind for kind in ("a", "b") for n in range(13)}
    assert assign_folds(types) == assign_folds(dict(reversed(types.items())))
    assert set(Counter(assign_folds(types).values()).values()) <= {5, 6}


def test_listed_picture_missing(tmp_path):
    folders.two_camera(tmp_path)
    (tmp_path / "images" / "train" / "car_0007_cam1.jpg").unlink()
    with pytest.raises(DataError, match=r"1 listed pictures .*car_0007_cam1\.jpg"):
        opened("two_camera", tmp_path)
    assert len(opened("two_camera", tmp_path, on_error="skip").records) == 59


def test_identity_in_both_lists(tmp_path):
    folders.two_camera(tmp_path)
    with (tmp_path / "val.txt").open("a") as file:
        file.write("\ncar_0009_cam1.jpg")
    with pytest.raises(DataError, match="car_0009"):
        opened("two_camera", tmp_path)


@pytest.mark.parametrize("kind", ["veri776", "vehicleid", "veriwild", "two_camera"])
def test_missing_and_empty_folder(tmp_path, kind):
    with pytest.raises(DataError, match="does not exist") as caught:
        opened(kind, tmp_path / "nowhere")
    assert "nowhere" in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(DataError):
        opened(kind, tmp_path)


def test_empty_layout(tmp_path):
    for name in ("image_train", "image_query", "image_test"):
        (tmp_path / name).mkdir()
    with pytest.raises(DataError, match="no pictures"):
        opened("veri776", tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"train": 1}, "has 1 identity in its training part"),
        ({"test": 1}, "has 1 identity in its test part"),
        ({"cameras": 1}, "one camera only"),
    ],
)
def test_useless_data_sets(tmp_path, options, message):
    with pytest.raises(DataError, match=message):
        opened("veri776", folders.veri(tmp_path, **options))


def test_two_camera_with_one_camera(tmp_path):
    with pytest.raises(DataError, match="one camera only"):
        opened("two_camera", folders.two_camera(tmp_path, cameras=(1,)))


def test_identity_on_both_sides(tmp_path):
    folders.veri(tmp_path)
    folders.picture(tmp_path / "image_test" / "0001_c001_00000009_0.jpg")
    with pytest.raises(DataError, match=r"both in training and in test \(first: 0001\)"):
        opened("veri776", tmp_path)


@pytest.mark.parametrize(
    "options",
    [
        {"kind": "vehicleid", "test_identities": 3000},
        {"kind": "veri776", "test_identities": 800},
        {"kind": "veri776", "test_fold": 1},
        {"kind": "two_camera", "test_fold": 5},
        {"kind": "two_camera", "fleet": {"seed": 1}},
        {"kind": "fleet", "colour": "red"},
        {"kind": "unknown"},
    ],
)
def test_wrong_options(tmp_path, options):
    with pytest.raises(ValidationError):
        DataSettings(root=tmp_path, **options)


def test_labels(tmp_path):
    dataset = opened("veri776", folders.veri(tmp_path))
    query, gallery = dataset.indices_of("query"), dataset.indices_of("gallery")
    labels = labels_of(dataset, query, among=query + gallery)
    assert labels.identities.tolist() == [0, 0, 1, 1, 2, 2]
    assert labels.cameras.tolist() == [0, 1] * 3
    assert labels.identity_names == ("0004", "0005", "0006") and labels.camera_names == ("c001", "c002")
    with pytest.raises(DataError, match="0004"):
        labels_of(dataset, query, among=dataset.indices_of("train"))
