"""The boxes of an answer as a YOLO label file, and the list of classes that its numbers mean.

The form is Ultralytics': a line `class x y width height` for each box, x and y those of its centre, all in shares of
the image's width and height. `classes.txt` has a class a line; its line number, from 0, is the class's number. A
class that is not in it yet is added at its end before any file names its number, so that the numbers hold across
runs; whoever writes it beforehand decides the order.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pixano_vlm.models.region import UNNAMED, ImageSize, Region

__all__ = ["CLASSES", "ClassList", "yolo_text"]

CLASSES = "classes.txt"


class ClassList:
    """The classes of one folder's label files.

    Args:
        path: The file, which need not exist.
        is_frozen: Whether it is only looked at: a new class has a number, and is not added.

    Raises:
        OSError: When it cannot be read.
    """

    def __init__(self, path: Path, *, is_frozen: bool = False) -> None:
        self.path, self._is_frozen = path, is_frozen
        text = path.read_text(encoding="utf-8-sig") if path.exists() else ""
        self._numbers: dict[str, int] = {}
        for number, name in enumerate(text.splitlines()):
            self._numbers.setdefault(name.strip(), number)
        self._count = len(text.splitlines())
        self._ends_open = bool(text) and not text.endswith("\n")

    def number(self, label: str) -> int:
        """The number of a class, which is added to the file where it is new.

        Raises:
            OSError: When it cannot be written.
        """
        name = " ".join(label.split()) or UNNAMED
        if name not in self._numbers:
            if not self._is_frozen:
                self._add(name)
            self._numbers[name] = self._count
            self._count += 1
        return self._numbers[name]

    def _add(self, name: str) -> None:
        with self.path.open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(("\n" if self._ends_open else "") + name + "\n")
            file.flush()
            os.fsync(file.fileno())
        self._ends_open = False


def yolo_text(line: Mapping[str, Any], classes: ClassList) -> str | None:
    """The label file of a record's first image; empty where nothing was found, None where nobody looked.

    Args:
        line: An output line.
        classes: The classes, to which new ones are added.
    """
    if line.get("regions") is None or not line.get("image_sizes"):
        return None
    size = ImageSize.model_validate(line["image_sizes"][0])
    rows = []
    for region in map(Region.model_validate, line["regions"]):
        box = region.bounds
        if region.image == 0 and box is not None:
            x0, y0, x1, y1 = box
            shares = (
                (x0 + x1) / 2 / size.width, (y0 + y1) / 2 / size.height,
                (x1 - x0) / size.width, (y1 - y0) / size.height,
            )  # fmt: skip
            rows.append(
                f"{classes.number(region.label or UNNAMED)} " + " ".join(f"{share:.6f}" for share in shares)
            )
    return "".join(row + "\n" for row in rows)
