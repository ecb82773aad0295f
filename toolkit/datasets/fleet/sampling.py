"""Drawing vehicles, plates, people and places; every draw follows from the fleet's seed and a number."""

from __future__ import annotations

from typing import Literal, cast

import numpy as np

from toolkit.datasets.fleet.body import BODIES
from toolkit.datasets.fleet.camera import draw_light, draw_view, spec_of
from toolkit.datasets.fleet.plate import draw_text
from toolkit.datasets.fleet.scene import Background, Body, Decal, Occupant, Plate, Rgb, Scene, Vehicle
from toolkit.datasets.fleet.settings import Binding, FleetSettings

# Half of the vehicles are white, grey or black: colour alone does not tell them apart.
PAINTS: dict[str, tuple[float, Rgb]] = {
    "white": (0.20, (0.88, 0.88, 0.86)),
    "gray": (0.17, (0.48, 0.49, 0.51)),
    "black": (0.13, (0.06, 0.06, 0.07)),
    "blue": (0.12, (0.10, 0.20, 0.48)),
    "red": (0.12, (0.58, 0.07, 0.08)),
    "brown": (0.06, (0.30, 0.20, 0.14)),
    "golden": (0.05, (0.62, 0.53, 0.34)),
    "green": (0.07, (0.12, 0.32, 0.18)),
    "yellow": (0.05, (0.86, 0.70, 0.10)),
    "orange": (0.03, (0.85, 0.38, 0.08)),
}
BODY_SHARES = {
    "sedan": 0.28, "suv": 0.20, "hatchback": 0.16, "van": 0.10, "mpv": 0.07,
    "pickup": 0.06, "truck": 0.05, "estate": 0.05, "bus": 0.03,
}  # fmt: skip
RIMS: tuple[Rgb, ...] = ((0.72, 0.72, 0.74), (0.50, 0.50, 0.52), (0.16, 0.16, 0.17), (0.62, 0.56, 0.42))
DECAL_COLOURS: tuple[Rgb, ...] = (
    (0.80, 0.10, 0.10), (0.10, 0.25, 0.70), (0.95, 0.75, 0.10), (0.10, 0.50, 0.25), (0.92, 0.92, 0.90),
    (0.08, 0.08, 0.09), (0.90, 0.45, 0.10),
)  # fmt: skip
SKINS: tuple[Rgb, ...] = ((0.85, 0.68, 0.56), (0.72, 0.54, 0.42), (0.52, 0.36, 0.26), (0.36, 0.24, 0.17))
HAIRS: tuple[Rgb, ...] = ((0.07, 0.06, 0.05), (0.25, 0.15, 0.09), (0.60, 0.48, 0.28), (0.62, 0.62, 0.62))
KINDS: tuple[Literal["street", "highway", "parking", "yard"], ...] = ("street", "highway", "parking", "yard")
_VEHICLE, _PLATE, _OCCUPANTS, _BACKGROUND, _VIEW = range(5)


def _pick(rng: np.random.Generator, options: tuple[Rgb, ...]) -> Rgb:
    return options[int(rng.integers(len(options)))]


def _jitter(rng: np.random.Generator, colour: Rgb, spread: float) -> Rgb:
    value = np.clip(np.array(colour) * (1 + rng.normal(0, spread)) * (1 + rng.normal(0, 0.05, 3)), 0.01, 0.98)
    return cast("Rgb", tuple(round(float(v), 4) for v in value))


def draw_vehicle(rng: np.random.Generator) -> Vehicle:
    """A random identity."""
    body = cast("Body", str(rng.choice(list(BODY_SHARES), p=list(BODY_SHARES.values()))))
    names = list(PAINTS)
    colour = str(rng.choice(names, p=[PAINTS[name][0] for name in names]))
    car = body not in ("bus", "truck", "van")
    roofs = ("none", "rails", "bars", "box", "sign")
    roof = str(rng.choice(roofs, p=(0.50, 0.24, 0.12, 0.08, 0.06) if car else (0.8, 0.0, 0.15, 0.0, 0.05)))
    return Vehicle(
        body=body,
        colour=colour,
        paint=_jitter(rng, PAINTS[colour][1], 0.10),
        length=round(rng.uniform(0.94, 1.07), 4),
        width=round(rng.uniform(0.96, 1.04), 4),
        height=round(rng.uniform(0.95, 1.06), 4),
        wheel=round(rng.uniform(0.92, 1.12), 4),
        spokes=int(rng.choice([0, 4, 5, 6, 7, 9, 10])),
        rim=_pick(rng, RIMS),
        tint=round(rng.uniform(0.1, 0.85), 3),
        trim=cast("Literal['body', 'black', 'chrome']", str(rng.choice(["body", "black", "chrome"]))),
        two_tone=bool(rng.random() < 0.15),
        grille=int(rng.integers(4)),
        front_lamps=int(rng.integers(4)),
        rear_lamps=int(rng.integers(4)),
        roof=cast("Literal['none', 'rails', 'bars', 'box', 'sign']", roof),
        sunroof=bool(car and rng.random() < 0.25),
        spoiler=bool(car and body != "pickup" and rng.random() < 0.2),
        spare_wheel=bool(body == "suv" and rng.random() < 0.2),
        decals=_draw_decals(rng, car),
        dirt=round(float(rng.beta(1.1, 2.2)), 3),
        dirt_seed=int(rng.integers(2**31)),
    )


def _draw_decals(rng: np.random.Generator, car: bool) -> tuple[Decal, ...]:
    count = int(rng.choice([0, 1, 2, 3], p=(0.40, 0.32, 0.20, 0.08) if car else (0.10, 0.30, 0.35, 0.25)))
    decals = []
    for _ in range(count):
        where = str(rng.choice(["side", "hood", "rear"], p=(0.55, 0.15, 0.30)))
        kind = str(rng.choice(["stripe", "disc", "triangle", "checker", "slash"]))
        decals.append(
            Decal(
                kind=cast("Literal['stripe', 'disc', 'triangle', 'checker', 'slash']", kind),
                where=cast("Literal['side', 'hood', 'rear']", where),
                along=round(rng.uniform(-0.6, 0.5), 3),
                up=round(rng.uniform(0.35, 0.75), 3),
                size=round(rng.uniform(0.16, 0.34) if car else rng.uniform(0.3, 0.7), 3),
                colour=_pick(rng, DECAL_COLOURS),
            )
        )
    return tuple(decals)


def draw_plate(rng: np.random.Generator) -> Plate:
    """A random plate."""
    return Plate(text=draw_text(rng), yellow=bool(rng.random() < 0.25))


def draw_occupants(rng: np.random.Generator, body: str) -> tuple[Occupant, ...]:
    """A driver and up to three others."""
    seats = 2 * BODIES[body].rows
    others = int(rng.choice([0, 1, 2, 3], p=(0.40, 0.32, 0.18, 0.10)))
    taken = [0, *(rng.permutation(seats - 1)[:others] + 1).tolist()]
    return tuple(
        Occupant(
            seat=int(seat),
            skin=_jitter(rng, _pick(rng, SKINS), 0.05),
            hair=_jitter(rng, _pick(rng, HAIRS), 0.08),
            clothes=cast("Rgb", tuple(round(float(v), 4) for v in rng.uniform(0.08, 0.9, 3))),
            size=round(rng.uniform(0.9, 1.08), 3),
            lean=round(rng.normal(0, 0.05), 3),
        )
        for seat in taken
    )


def draw_background(rng: np.random.Generator) -> Background:
    """A random place."""
    return Background(kind=KINDS[int(rng.integers(len(KINDS)))], seed=int(rng.integers(2**31)))


def identity_vehicle(settings: FleetSettings, identity: int) -> Vehicle:
    """The vehicle with this number."""
    return draw_vehicle(np.random.default_rng([settings.seed, _VEHICLE, identity]))


def draw_scene(settings: FleetSettings, identity: int, picture: int, camera: int) -> Scene:
    """The scene of one picture of one vehicle.

    Args:
        settings: the fleet; ``plate``, ``occupants`` and ``background`` say what is tied to the identity.
        identity: number of the vehicle, from 0.
        picture: number of the picture among the vehicle's own.
        camera: number of the camera, from 0.
    """

    def source(tag: int, binding: Binding) -> np.random.Generator:
        number = [] if binding == "per_identity" else [picture + 1]
        return np.random.default_rng([settings.seed, tag, identity, *number])

    vehicle = identity_vehicle(settings, identity)
    spec = spec_of(camera, settings.views)
    rng = source(_VIEW, "per_picture")
    return Scene(
        vehicle=vehicle,
        plate=draw_plate(source(_PLATE, settings.plate)),
        occupants=draw_occupants(source(_OCCUPANTS, settings.occupants), vehicle.body),
        background=draw_background(source(_BACKGROUND, settings.background)),
        view=draw_view(spec, rng),
        light=draw_light(spec, rng),
    )
