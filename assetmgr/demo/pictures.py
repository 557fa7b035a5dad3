"""The synthetic pictures and captions that the family is trained on."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw

if TYPE_CHECKING:
    import torch

COLOURS = {
    "red": (220, 30, 30),
    "green": (30, 160, 60),
    "blue": (40, 70, 220),
    "yellow": (245, 215, 40),
}
BACKGROUNDS = {"black": (20, 20, 20), "white": (245, 245, 245)}
SHAPES = ("circle", "square", "triangle")
PIXELS = 64
_SUPERSAMPLING = 4
_CORNERS = {"square": (4, 1.2, math.pi / 4), "triangle": (3, 1.25, -math.pi / 2)}
"""Shape -> number of corners, their distance in radii, and the angle of the first."""


@dataclass(frozen=True, slots=True)
class Scene:
    """What a picture shows; `outlined` draws only the contour of the shape."""

    shape: str
    colour: str
    background: str
    outlined: bool = False

    def caption(self, form: str = "a {colour} {shape} on a {background} background") -> str:
        """The words for it."""
        return form.format(shape=self.shape, colour=self.colour, background=self.background)


SCENES = tuple(
    Scene(shape, colour, background)
    for shape in SHAPES
    for colour in COLOURS
    for background in BACKGROUNDS
)
"""What the family is trained on and can be asked for, in a fixed order."""


def outlined(scene: Scene) -> Scene:
    """The same scene in the style of the LoRA."""
    return replace(scene, outlined=True)


def draw(scene: Scene, place: random.Random) -> Image.Image:
    """One picture, 64 by 64; `place` chooses position and size."""
    scale = _SUPERSAMPLING
    image = Image.new("RGB", (PIXELS * scale,) * 2, BACKGROUNDS[scene.background])
    radius = place.uniform(15, 20) * scale
    x = (PIXELS / 2 + place.uniform(-6, 6)) * scale
    y = (PIXELS / 2 + place.uniform(-6, 6)) * scale
    pen = ImageDraw.Draw(image)
    _fill(pen, scene.shape, x, y, radius, COLOURS[scene.colour])
    if scene.outlined:
        _fill(pen, scene.shape, x, y, radius * 0.6, BACKGROUNDS[scene.background])
    return image.resize((PIXELS, PIXELS), Image.Resampling.BOX)


def _fill(
    pen: ImageDraw.ImageDraw,
    shape: str,
    x: float,
    y: float,
    radius: float,
    colour: tuple[int, int, int],
) -> None:
    if shape == "circle":
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
        return
    corners, distance, first = _CORNERS[shape]
    angles = [first + 2 * math.pi * corner / corners for corner in range(corners)]
    reach = radius * distance
    pen.polygon([(x + reach * math.cos(a), y + reach * math.sin(a)) for a in angles], fill=colour)


def batch(scenes: list[Scene], seed: int) -> torch.Tensor:
    """Pictures of the scenes as (N, 3, 64, 64) in -1..1."""
    import numpy as np
    import torch

    place = random.Random(seed)  # noqa: S311 - positions, not secrets
    pixels = np.stack([np.asarray(draw(scene, place)) for scene in scenes])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1
