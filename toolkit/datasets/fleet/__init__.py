"""The synthetic fleet: rendered vehicles whose plates, occupants and surroundings are known exactly."""

from toolkit.datasets.fleet.render import render
from toolkit.datasets.fleet.sampling import draw_scene, identity_vehicle
from toolkit.datasets.fleet.scene import (
    Background,
    Decal,
    Light,
    Occupant,
    Plate,
    Rendered,
    Scene,
    Vehicle,
    View,
)
from toolkit.datasets.fleet.settings import FleetSettings
from toolkit.datasets.fleet.truth import Truth, load_truth, load_truths
from toolkit.datasets.fleet.writer import write_fleet

__all__ = [
    "Background",
    "Decal",
    "FleetSettings",
    "Light",
    "Occupant",
    "Plate",
    "Rendered",
    "Scene",
    "Truth",
    "Vehicle",
    "View",
    "draw_scene",
    "identity_vehicle",
    "load_truth",
    "load_truths",
    "render",
    "write_fleet",
]
