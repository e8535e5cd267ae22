"""Places as an answer writes them -> regions in pixels of the image, what is wrong with them mended or left out.

The rules, each with its quality flag:

- A box whose corners are the wrong way round has them put right (`regions_mended`).
- A box, or a polygon, that reaches outside the image is clipped to it; a point within a pixel of it is put on its
  edge. That is `regions_mended` where anything moved by more than a pixel, which is what rounding does.
- A box that is empty or wholly outside, a point outside, a polygon without an area, and a place with too few or too
  many numbers, or with a number that is not finite, or in an image that there is not, is left out
  (`regions_dropped`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from pixano_vlm.errors import PromptError
from pixano_vlm.models.region import ImageSize, Region, RegionConvention
from pixano_vlm.regions.candidate import Candidate

__all__ = ["DROPPED", "MENDED", "Placed", "place"]

MENDED = "regions_mended"
DROPPED = "regions_dropped"

ROUNDING = 1.0
"""Pixels by which something may be outside the image for no reason but that it was rounded."""

Point = tuple[float, float]


@dataclass(slots=True)
class Placed:
    """The regions of an answer, and what was wrong with them."""

    regions: list[Region] = field(default_factory=list)
    flags: set[str] = field(default_factory=set)


def place(
    candidates: Iterable[Candidate], convention: RegionConvention, sizes: Sequence[ImageSize]
) -> Placed:
    """The regions that candidates mean.

    Args:
        candidates: Places of one answer.
        convention: What their numbers mean.
        sizes: Those of the record's images.

    Raises:
        PromptError: When the convention needs the size that the model looked at, and nobody knows it.
    """
    placed = Placed()
    for candidate in candidates:
        is_usable = candidate.is_complete and candidate.image < len(sizes)
        if is_usable and all(map(math.isfinite, candidate.numbers)):
            placing = _Placing(convention, sizes[candidate.image])
            if (region := placing.region(candidate)) is not None:
                placed.regions.append(region)
                placed.flags |= {MENDED} if placing.has_mended else set()
                continue
        placed.flags.add(DROPPED)
    return placed


class _Placing:
    """Places in one image.

    Args:
        convention: What numbers mean.
        size: That of the image.
    """

    def __init__(self, convention: RegionConvention, size: ImageSize) -> None:
        self.has_mended = False
        self._order = convention.order
        self._width, self._height = size.width, size.height
        across, down = _whole(convention, size)
        self._x, self._y = size.width / across, size.height / down

    def region(self, candidate: Candidate) -> Region | None:
        points = self._points(candidate)
        box = point = polygon = None
        if candidate.kind == "box":
            box = self._box(points)
        elif candidate.kind == "point":
            point = self._point(points[0])
        else:
            polygon = self._polygon(points)
        if box is None and point is None and polygon is None:
            return None
        return Region(
            label=candidate.label, box=box, point=point, polygon=polygon, confidence=candidate.confidence,
            image=candidate.image,
        )  # fmt: skip

    def _points(self, candidate: Candidate) -> list[Point]:
        numbers = candidate.numbers
        pairs = list(zip(numbers[::2], numbers[1::2], strict=True))
        if (candidate.order or self._order) == "yx":
            pairs = [(second, first) for first, second in pairs]
        return [(x * self._x, y * self._y) for x, y in pairs]

    def _box(self, corners: list[Point]) -> tuple[float, float, float, float] | None:
        (x0, y0), (x1, y1) = corners
        if x0 > x1 or y0 > y1:
            self.has_mended = True
            x0, x1, y0, y1 = min(x0, x1), max(x0, x1), min(y0, y1), max(y0, y1)
        (left, top), (right, bottom) = self._clipped([(x0, y0), (x1, y1)])
        return (left, top, right, bottom) if left < right and top < bottom else None

    def _point(self, point: Point) -> Point | None:
        x, y = point
        outside = max(-x, x - self._width, -y, y - self._height)
        return self._clipped([point])[0] if outside <= ROUNDING else None

    def _polygon(self, corners: list[Point]) -> list[Point] | None:
        clipped = self._clipped(corners)
        return clipped if _area(clipped) > 0 else None

    def _clipped(self, points: list[Point]) -> list[Point]:
        inside = [(min(max(x, 0.0), self._width), min(max(y, 0.0), self._height)) for x, y in points]
        if any(
            abs(x - x_in) > ROUNDING or abs(y - y_in) > ROUNDING
            for (x, y), (x_in, y_in) in zip(points, inside, strict=True)
        ):
            self.has_mended = True
        return [(round(x, 2), round(y, 2)) for x, y in inside]


def _whole(convention: RegionConvention, size: ImageSize) -> tuple[float, float]:
    """The numbers that stand for an image's whole width and height."""
    if convention.scale == "pixels":
        return size.width, size.height
    if convention.scale != "resized":
        return convention.scale, convention.scale
    if size.model_width is None or size.model_height is None or size.tiles is not None:
        raise PromptError(
            "the model writes pixels of the image as it was resized for it, and that size is not known here.",
            hint="Run it by the engine of this package, which resizes images itself, or register the model with "
            "another convention under `regions`.",
        )
    return size.model_width, size.model_height


def _area(corners: list[Point]) -> float:
    """Of a polygon, by the shoelace formula."""
    following = [*corners[1:], corners[0]]
    return abs(sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in zip(corners, following, strict=True))) / 2
