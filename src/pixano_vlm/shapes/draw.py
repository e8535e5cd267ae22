"""Scenes of coloured shapes on a 2 x 2 grid, and pictures of them.

A scene is what is true; a picture is one way to draw it, and `draw` also returns the scene as drawn, in which each
thing knows its outline. This module knows nothing of questions, tokens or
models, and every random choice comes from the `random.Random` that the caller hands in.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from random import Random
from typing import Final

from PIL import Image, ImageDraw

RGB = tuple[int, int, int]

COLOURS: Final[dict[str, RGB]] = {
    "red": (214, 32, 40),
    "green": (34, 150, 60),
    "blue": (36, 72, 214),
    "yellow": (244, 208, 0),
    "orange": (255, 132, 0),
    "purple": (138, 40, 176),
    "cyan": (0, 190, 206),
    "black": (18, 18, 18),
}
KINDS: Final = ("circle", "square", "triangle", "star")
CELLS: Final = ("top left", "top right", "bottom left", "bottom right")
"""The cells in reading order: cell `i` is in row `i // 2`, column `i % 2`."""

SMALLEST_EDGE: Final = 96
LARGEST_EDGE: Final = 320
WIDEST_ASPECT: Final = 1.25
"""The model sees every picture squeezed into a square, so a picture may not be far from one."""


@dataclass(frozen=True, slots=True)
class Outline:
    """Where a shape was drawn, in shares (0 to 1) of the picture's width and height."""

    centre: tuple[float, float]
    radii: tuple[float, float]
    """Across and down: of a circle itself, of any other shape of the circle around it."""
    corners: tuple[tuple[float, float], ...] = ()
    """None for a circle."""

    @property
    def box(self) -> tuple[float, float, float, float]:
        """The smallest box around it: left, top, right, bottom."""
        (x, y), (across, down) = self.centre, self.radii
        if not self.corners:
            return (x - across, y - down, x + across, y + down)
        columns, rows = zip(*self.corners, strict=True)
        return (min(columns), min(rows), max(columns), max(rows))

    def contains(self, x: float, y: float) -> bool:
        """Whether the point is inside the shape (of a star: not between its arms)."""
        if not self.corners:
            across, down = ((x - self.centre[0]) / self.radii[0], (y - self.centre[1]) / self.radii[1])
            return across * across + down * down <= 1
        # A ray to the right crosses the outline an odd number of times from a point inside.
        inside = False
        for (x0, y0), (x1, y1) in zip(self.corners, (*self.corners[1:], self.corners[0]), strict=True):
            if (y0 > y) != (y1 > y) and x < x0 + (y - y0) / (y1 - y0) * (x1 - x0):
                inside = not inside
        return inside


@dataclass(frozen=True, slots=True)
class Thing:
    """One shape in one cell: a name of `COLOURS`, one of `KINDS`, and an index into `CELLS`."""

    colour: str
    kind: str
    cell: int
    outline: Outline | None = field(default=None, compare=False)
    """None as long as it is not drawn. Two drawings of one scene are the same scene."""


@dataclass(frozen=True, slots=True)
class Scene:
    """One to four things in reading order, no two in one cell."""

    things: tuple[Thing, ...]

    def __post_init__(self) -> None:
        """Refuse an empty scene, and things that share a cell or are out of order."""
        cells = [thing.cell for thing in self.things]
        if not cells or cells != sorted(set(cells)) or not 0 <= cells[0] <= cells[-1] < len(CELLS):
            raise ValueError(f"a scene holds 1 to 4 things in distinct cells, in reading order, not {cells}")


def random_scene(rng: Random) -> Scene:
    """A scene of one to four things that often share a colour or a kind, so that counting is worth asking."""
    things: list[Thing] = []
    for cell in sorted(rng.sample(range(len(CELLS)), rng.randint(1, len(CELLS)))):
        colour, kind = rng.choice(list(COLOURS)), rng.choice(KINDS)
        if things and rng.random() < 0.25:
            colour = rng.choice(things).colour
        if things and rng.random() < 0.15:
            kind = rng.choice(things).kind
        things.append(Thing(colour, kind, cell))
    return Scene(tuple(things))


def random_size(rng: Random) -> tuple[int, int]:
    """A picture's `(width, height)` in pixels: any size from a thumbnail up, not far from square."""
    long_edge = rng.randint(SMALLEST_EDGE, LARGEST_EDGE)
    short_edge = round(long_edge / rng.uniform(1.0, WIDEST_ASPECT))
    return (long_edge, short_edge) if rng.random() < 0.5 else (short_edge, long_edge)


def draw(scene: Scene, rng: Random, size: tuple[int, int] | None = None) -> tuple[Image.Image, Scene]:
    """Draw `scene` as an RGB picture of `size` `(width, height)`, or of a random size.

    The background, and each shape's place in its cell, size, tilt and tint are drawn from `rng`.

    Returns:
        The picture, and the scene with every thing's outline in it.
    """
    width, height = size or random_size(rng)
    picture = _background(rng, width, height)
    pen = ImageDraw.Draw(picture)
    drawn = []
    for thing in scene.things:
        # Half a cell is the largest radius that stays inside it; what is left over is room to move in.
        half = min(width, height) / 4
        radius = half * rng.uniform(0.68, 0.88)
        # Across and down a cell has its own room: pictures need not be square.
        x = (thing.cell % 2 + 0.5) * width / 2 + rng.uniform(-0.9, 0.9) * (width / 4 - radius)
        y = (thing.cell // 2 + 0.5) * height / 2 + rng.uniform(-0.9, 0.9) * (height / 4 - radius)
        tilt, tint = rng.uniform(-8, 8), _tinted(COLOURS[thing.colour], rng)
        corners = [(x + across, y + down) for across, down in _corners(thing.kind, radius, tilt)]
        if corners:
            pen.polygon(corners, fill=tint)
        else:
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=tint)
        outline = Outline(
            (x / width, y / height),
            (radius / width, radius / height),
            tuple((across / width, down / height) for across, down in corners),
        )
        drawn.append(replace(thing, outline=outline))
    return picture, Scene(tuple(drawn))


def render(scene: Scene, rng: Random, size: tuple[int, int] | None = None) -> Image.Image:
    """The picture alone that `draw` makes."""
    return draw(scene, rng, size)[0]


def _background(rng: Random, width: int, height: int) -> Image.Image:
    """A light background: plain, or fading from one light tone to another, across or down."""
    tone, other = _light_tone(rng), _light_tone(rng)
    plain = Image.new("RGB", (width, height), tone)
    if rng.random() < 0.5:
        return plain
    # `linear_gradient` is a 256 x 256 ramp from black at the top to white at the bottom.
    ramp = Image.linear_gradient("L")
    if rng.random() < 0.5:
        ramp = ramp.transpose(Image.Transpose.ROTATE_90)
    return Image.composite(Image.new("RGB", (width, height), other), plain, ramp.resize((width, height)))


def _light_tone(rng: Random) -> RGB:
    # One brightness with little colour of its own, so that no background is taken for a shape's colour.
    brightness = rng.randint(205, 245)
    red, green, blue = (brightness + rng.randint(-10, 10) for _ in range(3))
    return (red, green, blue)


def _tinted(colour: RGB, rng: Random) -> RGB:
    red, green, blue = (min(255, max(0, channel + rng.randint(-10, 10))) for channel in colour)
    return (red, green, blue)


def _corners(kind: str, radius: float, tilt: float) -> list[tuple[float, float]]:
    """The corners of a shape about its centre, inside the circle of `radius`, tilted by `tilt` degrees.

    A circle has none.
    """
    match kind:
        case "circle":
            return []
        case "square":
            polar = [(radius, 45.0 + 90 * i) for i in range(4)]
        case "triangle":
            polar = [(radius, -90.0 + 120 * i) for i in range(3)]
        case "star":
            # Five points; the inner corners at 0.42 of the outer keep the arms visible at 64 pixels.
            polar = [(radius * (0.42 if i % 2 else 1.0), -90.0 + 36 * i) for i in range(10)]
        case _:
            raise ValueError(f"unknown kind of shape {kind!r}; known: {', '.join(KINDS)}")
    return [
        (reach * math.cos(math.radians(angle + tilt)), reach * math.sin(math.radians(angle + tilt)))
        for reach, angle in polar
    ]
