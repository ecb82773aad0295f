"""The ``data`` section of a run's settings, and opening what it names."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from toolkit.datasets import fleet, two_camera, vehicleid, veri776, veriwild
from toolkit.datasets.fleet.settings import FleetSettings
from toolkit.datasets.records import Dataset
from toolkit.errors import DataError

Kind = Literal["fleet", "veri776", "vehicleid", "veriwild", "two_camera"]
TEST_SIZES = {"vehicleid": vehicleid.TEST_SIZES, "veriwild": veriwild.TEST_SIZES}


class SplitSettings(BaseModel):
    """How the pictures that are not test are shared out."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    calibration_pictures: int = Field(default=256, ge=1, description="at most; taken from the training pictures")
    attacker_validation: float = Field(
        default=0.2, gt=0.0, lt=1.0, description="part of the non-test identities on which an attack is validated"
    )


class DataSettings(BaseModel):
    """Which data set, where, and how it is split.

    ``root`` holds the data set; for ``fleet`` it is where the pictures are written (when they are not there yet),
    and a run without it puts them beside its run folder.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Kind = "fleet"
    root: Path | None = None
    on_error: Literal["refuse", "skip"] = "refuse"
    test_fold: two_camera.TestFold = Field(default="val", description="two_camera: val.txt, or fold 0..4")
    test_identities: int | None = Field(
        default=None, description="vehicleid: 800, 1600 or 2400; veriwild: 3000, 5000 or 10000"
    )
    fleet: FleetSettings = FleetSettings()
    splits: SplitSettings = SplitSettings()

    @model_validator(mode="after")
    def _options_fit_kind(self) -> DataSettings:
        if self.root is None and self.kind != "fleet":
            raise ValueError(f"kind {self.kind} needs root, the folder of the data set")
        sizes = TEST_SIZES.get(self.kind)
        if self.test_identities is not None and (sizes is None or self.test_identities not in sizes):
            choice = f"one of {', '.join(map(str, sizes))}" if sizes else "left out"
            raise ValueError(f"test_identities must be {choice} for kind {self.kind}")
        if self.kind != "two_camera" and "test_fold" in self.model_fields_set:
            raise ValueError(f"test_fold belongs to kind two_camera, not to {self.kind}")
        if self.kind != "fleet" and "fleet" in self.model_fields_set:
            raise ValueError(f"the section fleet belongs to kind fleet, not to {self.kind}")
        return self


def open_dataset(settings: DataSettings) -> Dataset:
    """Read the data set that ``settings`` names; the fleet is rendered first when it is not there yet.

    Raises:
        DataError: the folder is missing, empty, not in the layout, or useless for re-identification.
    """
    root = settings.root
    if root is None:
        raise DataError("data.root is missing: the folder of the data set")
    if settings.kind == "fleet":
        fleet.write_fleet(root, settings.fleet)
        return veri776.read_veri776(root, name="fleet")
    if settings.kind == "veri776":
        return veri776.read_veri776(root)
    if settings.kind == "two_camera":
        return two_camera.read_two_camera(root, settings.test_fold, settings.on_error)
    if settings.kind == "vehicleid":
        return vehicleid.read_vehicleid(root, settings.test_identities or vehicleid.TEST_SIZES[0])
    return veriwild.read_veriwild(root, settings.test_identities or veriwild.TEST_SIZES[0])
