"""A scene: everything that decides a picture, split into what is identity, nuisance and sensitive content.

A scene is data alone. ``render`` turns it into a picture, and the same scene with one part replaced gives a
counterfactual: the same picture except for what that part shows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

Body = Literal["sedan", "suv", "van", "hatchback", "mpv", "pickup", "bus", "truck", "estate"]
Rgb = tuple[float, float, float]
Box = tuple[int, int, int, int]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Decal(_Part):
    """A mark on the body: ``where`` it is, its centre along (-1 rear, 1 front) and up (0..1), its size (m)."""

    kind: Literal["stripe", "disc", "triangle", "checker", "slash"]
    where: Literal["side", "hood", "rear"]
    along: float = 0.0
    up: float = 0.5
    size: float = 0.4
    colour: Rgb = (0.8, 0.1, 0.1)


class Vehicle(_Part):
    """The identity: what stays the same in every picture of one vehicle. Colours are RGB in [0, 1]."""

    body: Body = "sedan"
    colour: str = "white"
    paint: Rgb = (0.9, 0.9, 0.88)
    length: float = Field(default=1.0, description="scale of the body type's length")
    width: float = 1.0
    height: float = 1.0
    wheel: float = Field(default=1.0, description="scale of the wheel radius")
    spokes: int = Field(default=5, ge=0, le=12, description="0 is a plain hubcap")
    rim: Rgb = (0.7, 0.7, 0.72)
    tint: float = Field(default=0.3, ge=0.0, le=1.0, description="darkness of the rear glass")
    trim: Literal["body", "black", "chrome"] = "body"
    two_tone: bool = False
    grille: int = Field(default=0, ge=0, le=3)
    front_lamps: int = Field(default=0, ge=0, le=3)
    rear_lamps: int = Field(default=0, ge=0, le=3)
    roof: Literal["none", "rails", "bars", "box", "sign"] = "none"
    sunroof: bool = False
    spoiler: bool = False
    spare_wheel: bool = False
    decals: tuple[Decal, ...] = ()
    dirt: float = Field(default=0.0, ge=0.0, le=1.0)
    dirt_seed: int = 0


class Plate(_Part):
    """The number plate; an empty text is a blank plate."""

    text: str = Field(default="KT4821", max_length=8, pattern=r"^[A-Z0-9]*$")
    yellow: bool = False


class Occupant(_Part):
    """A person in the vehicle; seat 0 is the driver's, higher numbers go to the rear."""

    seat: int = Field(default=0, ge=0, le=15)
    skin: Rgb = (0.75, 0.58, 0.46)
    hair: Rgb = (0.12, 0.09, 0.07)
    clothes: Rgb = (0.3, 0.3, 0.6)
    size: float = 1.0
    lean: float = Field(default=0.0, description="m to the vehicle's left")


class Background(_Part):
    """The surroundings; everything about them follows from kind and seed."""

    kind: Literal["street", "highway", "parking", "yard"] = "street"
    seed: int = 0


class View(_Part):
    """Where the camera stands and what the lens and the sensor do.

    Angles in degrees: azimuth 0 sees the front, 90 the left side, 180 the rear. ``distance`` (m) is from the
    vehicle's hull. ``frame`` is what fills the picture: the vehicle, or a close-up of one end. Blur lengths are
    fractions of the picture's side.
    """

    azimuth: float = 150.0
    elevation: float = 15.0
    distance: float = 9.0
    roll: float = 0.0
    frame: Literal["vehicle", "rear", "front"] = "vehicle"
    fill: float = 0.9
    shift_x: float = 0.0
    shift_y: float = 0.0
    motion: float = 0.0
    defocus: float = 0.0
    resolution: float = Field(default=1.0, gt=0.05, le=1.0, description="part of the detail that is kept")


class Light(_Part):
    """Sun, sky and exposure; ``noise`` is the sensor's standard deviation in grey levels."""

    sun_azimuth: float = 60.0
    sun_elevation: float = 45.0
    sun: float = 0.6
    ambient: float = 0.55
    warmth: float = 0.0
    exposure: float = 1.0
    gamma: float = 1.0
    noise: float = 2.0
    noise_seed: int = 0
    shade: float = Field(default=0.0, ge=0.0, le=1.0, description="depth of a shadow that falls across the scene")
    shade_angle: float = 0.0
    shade_offset: float = 0.0
    lamps_on: bool = False


class Scene(_Part):
    """One picture's content."""

    vehicle: Vehicle = Vehicle()
    plate: Plate = Plate()
    occupants: tuple[Occupant, ...] = (Occupant(),)
    background: Background = Background()
    view: View = View()
    light: Light = Light()

    def with_vehicle(self, vehicle: Vehicle) -> Scene:
        """The same picture of another vehicle."""
        return self.model_copy(update={"vehicle": vehicle})

    def with_plate(self, plate: Plate | str) -> Scene:
        """The same picture with another plate (a text keeps the plate's look; "" blanks it)."""
        if isinstance(plate, str):
            plate = Plate(text=plate, yellow=self.plate.yellow)
        return self.model_copy(update={"plate": plate})

    def with_occupants(self, occupants: tuple[Occupant, ...]) -> Scene:
        """The same picture with other people in the vehicle."""
        return self.model_copy(update={"occupants": tuple(occupants)})

    def with_background(self, background: Background) -> Scene:
        """The same picture elsewhere; light and camera stay."""
        return self.model_copy(update={"background": background})

    def with_view(self, view: View) -> Scene:
        """The same vehicle and place from elsewhere."""
        return self.model_copy(update={"view": view})

    def with_light(self, light: Light) -> Scene:
        """The same picture under another light."""
        return self.model_copy(update={"light": light})


@dataclass(frozen=True)
class Rendered:
    """A picture and what is true about it. Boxes are (x0, y0, x1, y1) in pixels, x1 and y1 exclusive.

    Attributes:
        picture: uint8 (S, S, 3), RGB.
        mask: bool (S, S), pixels that show the vehicle.
        coverage: uint8 (S, S), 255 where nothing but the vehicle contributes, 0 where it does not at all.
        plate_text: what the plate says.
        plate_box: the plate in the picture, or None where it is not to be seen.
        plate_corners: float32 (4, 2), the plate's corners (top left, top right, bottom right, bottom left as
            read), possibly outside the picture; None where the plate faces away.
        occupant_boxes: one box per occupant of whom anything is seen through a window.
        reach: how far, in pixels, lens and motion spread a change beyond these boxes.
    """

    picture: np.ndarray
    mask: np.ndarray
    coverage: np.ndarray
    plate_text: str
    plate_box: Box | None
    plate_corners: np.ndarray | None
    occupant_boxes: tuple[Box, ...]
    reach: int
