"""Options of the synthetic fleet."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Binding = Literal["per_identity", "per_picture"]


class FleetSettings(BaseModel):
    """How large the fleet is and what its sensitive content is tied to.

    ``plate``, ``occupants`` and ``background`` are each drawn once per vehicle (``per_identity``) or anew for
    every picture (``per_picture``): content tied to the identity helps the task and is the harder one to hide.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = Field(default=0, ge=0, lt=2**32)
    size: int = Field(default=128, ge=64, le=256, description="side of the square pictures, pixels")
    identities_train: int = Field(default=120, ge=2, le=5000)
    identities_test: int = Field(default=40, ge=2, le=4000)
    pictures_per_identity: int = Field(default=8, ge=2, le=1000)
    cameras: int = Field(default=4, ge=2, le=20)
    queries_per_camera: int = Field(default=1, ge=1, description="query pictures of a test vehicle and camera")
    views: Literal["rear", "mixed"] = Field(
        default="rear",
        description="rear: traffic from behind; mixed: fronts and sides too (harder)",
    )
    plate: Binding = "per_identity"
    occupants: Binding = "per_picture"
    background: Binding = "per_picture"
    jpeg_quality: int = Field(default=95, ge=50, le=100)
