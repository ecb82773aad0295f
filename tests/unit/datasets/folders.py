"""Small data sets written in the layouts of the public ones."""

import cv2
import numpy as np


def picture(path, seed=0, side=24):
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)
    assert cv2.imwrite(str(path), array)


def veri(root, train=3, test=3, cameras=2, labels=True):
    """``cameras`` pictures of each vehicle; queries are copies of the first picture per camera."""
    items = {"train": [], "test": []}
    for identity in range(1, train + test + 1):
        for camera in range(1, cameras + 1):
            for number in range(2):
                name = f"{identity:04d}_c{camera:03d}_{number:08d}_0.jpg"
                part = "train" if identity <= train else "test"
                picture(root / f"image_{part}" / name, identity)
                items[part].append(f'<Item imageName="{name}" vehicleID="{identity:04d}" colorID="5" typeID="2"/>')
                if part == "test" and number == 0:
                    picture(root / "image_query" / name, identity)
    for part, listed in items.items() if labels else ():
        body = f"<TrainingImages><Items>{''.join(listed)}</Items></TrainingImages>"
        (root / f"{part}_label.xml").write_text(f'<?xml version="1.0" encoding="gb2312"?>{body}')
    return root


def vehicleid(root, size=800):
    lists = root / "train_test_split"
    lists.mkdir(parents=True)
    for name, first in (("train_list.txt", 0), (f"test_list_{size}.txt", 10)):
        lines = []
        for number in range(6):
            picture(root / "image" / f"{first + number:07d}.jpg", number)
            lines.append(f"{first + number:07d} {first + number // 2}")
        (lists / name).write_text("\n".join(lines))
    return root


def veriwild(root, size=3000):
    lists = root / "train_test_split"
    lists.mkdir(parents=True)
    info, parts = ["id/image;Camera ID;Time;Model;Type;Color"], {"train": [], "query": [], "gallery": []}
    for identity in range(6):
        for number in range(3):
            key = f"{identity:05d}/{identity * 10 + number:06d}"
            picture(root / "images" / f"{key}.jpg", identity)
            info.append(f"{key};{number + 1};2018-03-13;Model;SUV;White")
            parts["train" if identity < 3 else "query" if number == 0 else "gallery"].append(f"{key}.jpg")
    (lists / "vehicle_info.txt").write_text("\n".join(info))
    (lists / "train_list.txt").write_text("\n".join(parts["train"]))
    (lists / f"test_{size}_query.txt").write_text("\n".join(parts["query"]))
    (lists / f"test_{size}.txt").write_text("\n".join(parts["gallery"] + parts["query"][:1]))
    return root


def two_camera(root, cars=20, bikes=10, held_out=5, lists=True, cameras=(1, 2)):
    """The first ``held_out`` cars are in val.txt; the last line of each list has no newline."""
    names = {"train.txt": [], "val.txt": []}
    for kind, count in (("car", cars), ("motorcycle", bikes)):
        for number in range(1, count + 1):
            for camera in cameras:
                name = f"{kind}_{number:04d}_cam{camera}.jpg"
                picture(root / "images" / "train" / name, number)
                names["val.txt" if kind == "car" and number <= held_out else "train.txt"].append(name)
    for file, listed in names.items() if lists else ():
        (root / file).write_text("\n".join(listed))
    return root
