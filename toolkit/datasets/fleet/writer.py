"""The fleet on disk, in VeRi-776's layout, with a JSON of ground truth per picture."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import quoteattr

import cv2

from toolkit.datasets.fleet.render import render
from toolkit.datasets.fleet.sampling import draw_scene
from toolkit.datasets.fleet.scene import Vehicle
from toolkit.datasets.fleet.settings import FleetSettings
from toolkit.datasets.fleet.truth import FOLDER, truth_path, truth_to_json
from toolkit.datasets.veri776 import COLOURS, TYPES
from toolkit.errors import DataError
from toolkit.progress import track

logger = logging.getLogger(__name__)
FILE_NAME = "fleet.json"
RENDERER = 2  # raise when the same settings give other pictures


@dataclass(frozen=True)
class _Picture:
    """One file to write; ``query`` also puts it into ``image_query``."""

    name: str
    identity: int
    picture: int
    camera: int
    train: bool
    query: bool


def write_fleet(root: str | Path, settings: FleetSettings) -> Path:
    """Render the fleet into ``root``, unless the same fleet is already there.

    It is written beside ``root`` and renamed when it is whole, so a killed run leaves no half fleet.

    Returns:
        ``root``.

    Raises:
        DataError: ``root`` holds something else, or cannot be written.
    """
    root = Path(root)
    stamp = json.dumps({"renderer": RENDERER, "settings": settings.model_dump(mode="json")}, indent=2) + "\n"
    if root.exists() and _is_ready(root, stamp):
        return root
    part = root.with_name(root.name + ".part")
    try:
        shutil.rmtree(part, ignore_errors=True)
        _write(part, settings)
        (part / FILE_NAME).write_text(stamp, encoding="utf-8")
        if root.exists():
            root.rmdir()
        part.rename(root)
    except OSError as error:
        shutil.rmtree(part, ignore_errors=True)
        raise DataError(f"cannot write the fleet to {root}: {error.strerror}; choose another data.root") from error
    return root


def _is_ready(root: Path, stamp: str) -> bool:
    """Whether the same fleet is there; an empty folder may be filled."""
    if not root.is_dir():
        raise DataError(f"{root} is a file; choose another data.root for the fleet")
    marker = root / FILE_NAME
    if marker.exists():
        if marker.read_text(encoding="utf-8") == stamp:
            return True
        raise DataError(
            f"{root} holds a fleet of other settings or of another version; choose another data.root or delete it"
        )
    if any(root.iterdir()):
        raise DataError(f"{root} is not empty and holds no fleet; choose another data.root")
    return False


def plan_pictures(settings: FleetSettings) -> Iterator[_Picture]:
    """All pictures: every vehicle is seen by the cameras in turn."""
    for identity in range(settings.identities_train + settings.identities_test):
        train = identity < settings.identities_train
        for picture in range(settings.pictures_per_identity):
            camera, round_number = picture % settings.cameras, picture // settings.cameras
            name = f"{identity + 1:04d}_c{camera + 1:03d}_{picture:08d}_0.jpg"
            query = not train and round_number < settings.queries_per_camera
            yield _Picture(name, identity, picture, camera, train, query)


def _write(root: Path, settings: FleetSettings) -> None:
    for folder in ("image_train", "image_query", "image_test", FOLDER):
        (root / folder).mkdir(parents=True)
    labels: dict[bool, list[str]] = {True: [], False: []}
    names: dict[str, list[str]] = {"train": [], "query": [], "test": []}
    pictures = list(plan_pictures(settings))
    for item in track(pictures, "rendering the fleet"):
        vehicle = _write_picture(root, settings, item)
        labels[item.train].append(_label(item, vehicle))
        names["train" if item.train else "test"].append(item.name)
        if item.query:
            names["query"].append(item.name)
    for train, file, tag in ((True, "train_label.xml", "TrainingImages"), (False, "test_label.xml", "TestImages")):
        body = "\n".join(labels[train])
        head = f'<?xml version="1.0" encoding="utf-8"?>\n<{tag} Version="1.0">'
        items = f'<Items number="{len(labels[train])}">\n{body}\n</Items>'
        (root / file).write_text(f"{head}\n{items}\n</{tag}>\n", encoding="utf-8")
    for part, listed in names.items():
        (root / f"name_{part}.txt").write_text("\n".join(listed) + "\n", encoding="utf-8")
    logger.info("rendered %d pictures of %d vehicles", len(pictures), pictures[-1].identity + 1)


def _write_picture(root: Path, settings: FleetSettings, item: _Picture) -> Vehicle:
    scene = draw_scene(settings, item.identity, item.picture, item.camera)
    rendered = render(scene, settings.size)
    quality = [cv2.IMWRITE_JPEG_QUALITY, settings.jpeg_quality]
    done, data = cv2.imencode(".jpg", cv2.cvtColor(rendered.picture, cv2.COLOR_RGB2BGR), quality)
    if not done:
        raise DataError(f"OpenCV could not encode {item.name} as JPEG; check its build")
    folders = ["image_train"] if item.train else ["image_test", *(["image_query"] if item.query else [])]
    for folder in folders:
        (root / folder / item.name).write_bytes(data.tobytes())
    truth = truth_to_json(rendered, scene, f"{item.identity + 1:04d}", f"c{item.camera + 1:03d}")
    truth_path(root, item.name).write_text(truth, encoding="utf-8")
    return scene.vehicle


def _label(item: _Picture, vehicle: Vehicle) -> str:
    attributes = {
        "imageName": item.name,
        "vehicleID": f"{item.identity + 1:04d}",
        "cameraID": f"c{item.camera + 1:03d}",
        "colorID": str(COLOURS.index(vehicle.colour) + 1),
        "typeID": str(TYPES.index(vehicle.body) + 1),
    }
    return "  <Item " + " ".join(f"{key}={quoteattr(value)}" for key, value in attributes.items()) + " />"
