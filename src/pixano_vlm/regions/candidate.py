"""One place as an answer writes it: numbers that mean nothing yet without a convention and an image."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["Candidate", "Kind", "Order", "boxes_in", "numbers_of", "points_in"]

Kind = Literal["box", "point", "polygon"]
Order = Literal["xy", "yx"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """What may become a region."""

    kind: Kind
    numbers: tuple[float, ...]
    """Four of a box, two of a point, pairs of a polygon; any others are malformed."""
    label: str | None = None
    image: int = 0
    order: Order | None = None
    """Which number of a pair is first, where the answer says so itself; None: as the convention has it."""
    confidence: float | None = None

    @property
    def is_complete(self) -> bool:
        """Whether it has as many numbers as its kind takes."""
        count = len(self.numbers)
        if self.kind == "polygon":
            return count >= 6 and count % 2 == 0
        return count == (4 if self.kind == "box" else 2)


def numbers_of(value: Any) -> tuple[float, ...]:
    """The numbers of a JSON value, whatever lists they are in: none where anything else is among them."""
    found: list[float] = []
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, list | tuple):
            waiting.extend(reversed(item))
        elif isinstance(item, int | float) and not isinstance(item, bool):
            found.append(float(item))
        else:
            return ()
    return tuple(found)


def boxes_in(
    numbers: tuple[float, ...], label: str | None = None, order: Order | None = None
) -> Iterator[Candidate]:
    """A box for every four numbers; what is left over is one that is malformed."""
    return (Candidate("box", part, label, order=order) for part in _parts(numbers, 4))


def points_in(
    numbers: tuple[float, ...], label: str | None = None, order: Order | None = None
) -> Iterator[Candidate]:
    """A point for every two numbers; likewise."""
    return (Candidate("point", part, label, order=order) for part in _parts(numbers, 2))


def _parts(numbers: tuple[float, ...], size: int) -> Iterable[tuple[float, ...]]:
    return (numbers[start : start + size] for start in range(0, max(len(numbers), 1), size))
