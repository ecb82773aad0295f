"""Which contents of a data set can leak by name: where they are in the pictures, and what they are tied to."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from toolkit.datasets.fleet import FleetSettings, Scene
from toolkit.errors import AttackError
from toolkit.privacy.patches import Regions, TruthLike, occupant_counts, plate_characters, whole_pictures

logger = logging.getLogger(__name__)

ContentName = Literal["plate", "occupants", "background", "camera", "colour", "type"]


@dataclass(frozen=True)
class NamedContent:
    """One content of the pictures.

    Attributes:
        name: e.g. ``plate``.
        regions: where it is, and its class there.
        per_picture: it changes from picture to picture, so reading it is a leak; else it is identity evidence.
    """

    name: str
    regions: Regions
    per_picture: bool


class SceneTruth(TruthLike, Protocol):
    """A fleet picture's truth with the scene that it shows."""

    @property
    def scene(self) -> Scene: ...


def fleet_contents(
    truths: Sequence[SceneTruth],
    cameras: Sequence[str],
    rows: Sequence[int],
    fleet: FleetSettings,
    wanted: Sequence[ContentName],
) -> list[NamedContent]:
    """Contents of the synthetic fleet, which knows its own truth. What no picture shows is left out and logged.

    Args:
        truths, cameras: of the pictures in ``rows``.
        rows: of the pictures.
        fleet: what plate, occupants and background are tied to.
        wanted: names of the contents.
    """
    scenes = [truth.scene for truth in truths]
    makers: dict[str, tuple[Callable[[], Regions], bool]] = {
        "plate": (lambda: plate_characters(truths, rows), fleet.plate == "per_picture"),
        "occupants": (lambda: occupant_counts(truths, rows), fleet.occupants == "per_picture"),
        "background": (
            lambda: whole_pictures([scene.background.kind for scene in scenes], rows),
            fleet.background == "per_picture",
        ),
        "camera": (lambda: whole_pictures(cameras, rows), True),
        "colour": (lambda: whole_pictures([scene.vehicle.colour for scene in scenes], rows), False),
        "type": (lambda: whole_pictures([scene.vehicle.body for scene in scenes], rows), False),
    }
    found = []
    for name in wanted:
        make, per_picture = makers[name]
        try:
            regions = make()
        except AttackError as error:
            logger.info("leak of the %s: %s", name, error)
            continue
        if len(np.unique(regions.labels)) > 1:
            found.append(NamedContent(name, regions, per_picture))
    return found


def labelled_contents(
    attributes: Sequence[Mapping[str, str]],
    cameras: Sequence[str],
    rows: Sequence[int],
    wanted: Sequence[ContentName],
) -> list[NamedContent]:
    """Contents that a data set's labels name: the camera, and colour and type where they are given.

    Colour and type belong to the vehicle, so they are identity evidence. Pictures without a label are left out.

    Args:
        attributes: of the pictures in ``rows``, by name (``colour`` or ``color``, ``type``).
        cameras: of the same pictures.
        rows: of the pictures.
        wanted: names of the contents; those without labels are left out.
    """
    values = {
        "camera": list(cameras),
        "colour": [one.get("colour", one.get("color", "")) for one in attributes],
        "type": [one.get("type", "") for one in attributes],
    }
    found = []
    for name in wanted:
        known = [(value, row) for value, row in zip(values.get(name, []), rows, strict=False) if value]
        if len({value for value, _ in known}) > 1:
            regions = whole_pictures([value for value, _ in known], [row for _, row in known])
            found.append(NamedContent(name, regions, name == "camera"))
    return found
