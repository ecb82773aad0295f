"""Counterfactual scenes of the synthetic fleet: one picture, of which only one named content changes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, get_args

import numpy as np

from toolkit.datasets.fleet import Background, FleetSettings, Scene, draw_scene, render
from toolkit.errors import AttackError
from toolkit.preprocess import Preprocess, resize
from toolkit.privacy.codes import Pictures

Content = Literal["plate", "occupants", "background"]
CONTENTS: tuple[Content, ...] = get_args(Content)
DIGITS = "0123456789"
PLACES = 6  # backgrounds of a scene
TRIES = 20  # scenes that are looked at for each that is wanted


def variants_of(content: Content, scene: Scene) -> list[Scene]:
    """The scene with every value of one content, everything else equal.

    ``plate``: the last digit takes all ten values. ``occupants``: nobody, the driver, driver and each second seat.
    ``background``: six other places.
    """
    if content == "plate":
        text = scene.plate.text
        place = max((text.rfind(digit) for digit in DIGITS), default=-1)
        if place < 0:
            return []
        return [scene.with_plate(text[:place] + digit + text[place + 1 :]) for digit in DIGITS]
    if content == "occupants":
        driver = scene.occupants[:1]
        crews = [(), driver, *((*driver, driver[0].model_copy(update={"seat": seat})) for seat in (1, 2, 3))]
        return [scene.with_occupants(crew) for crew in crews] if driver else []
    background = scene.background
    return [
        scene.with_background(Background(kind=background.kind, seed=background.seed + number))
        for number in range(PLACES)
    ]


def counterfactual_pictures(
    content: Content, fleet: FleetSettings, preprocess: Preprocess, count: int
) -> list[Pictures]:
    """Pictures of the variants of scenes with test vehicles; scenes in which the content is not seen are left out.

    Args:
        content: what changes.
        fleet: whose vehicles they are.
        preprocess: of the run.
        count: scenes that are wanted; fewer where the content is rarely seen.

    Returns:
        For each scene ``(V, H, W, 3)`` uint8, V different pictures.

    Raises:
        AttackError: no such content.
    """
    if content not in CONTENTS:
        raise AttackError(f"there are no counterfactual scenes for {content!r}; one of {', '.join(CONTENTS)}")
    found: list[Pictures] = []
    for scene in _test_scenes(fleet, TRIES * count):
        pictures = _distinct(
            [resize(render(variant, fleet.size).picture, preprocess) for variant in variants_of(content, scene)]
        )
        if pictures is not None:
            found.append(pictures)
        if len(found) == count:
            break
    return found


def _test_scenes(fleet: FleetSettings, most: int) -> Iterator[Scene]:
    for number in range(most):
        identity = fleet.identities_train + number % fleet.identities_test
        yield draw_scene(fleet, identity, number // fleet.identities_test, number % fleet.cameras)


def _distinct(pictures: list[Pictures]) -> Pictures | None:
    """The different pictures, or None when the content is not seen at all."""
    different = {picture.tobytes(): picture for picture in pictures}
    return np.stack(list(different.values())) if len(different) > 1 else None
