"""Boxes and points in the text of an answer, whichever way models write them.

In this order, and the first that is there is what the answer means:

1. Points as attributes, `<point x="10.5" y="20" alt="a cat">` and `<points x1= y1= x2= ...>` (Molmo), `<points
   coords="1 1 344 583">` (Molmo2: image, then number, x and y of each point).
2. Numbers in tags, with the label in tags before them: `<ref>`, `<box>`, `<point>`, `<|ref|>`, `<|det|>`,
   `<|object_ref_start|>`, `<|box_start|>`, `<|quad_start|>`, `<|begin_of_box|>`.
3. JSON objects with a key such as `bbox_2d`, `box_2d` or `point_2d`, in a fence or among other words, the list that
   holds them cut off or not.
4. Lists of four numbers, `[10, 20, 30, 40]`; where there are none, `(x, y)`.

Knows no image: what the numbers mean is for `placing`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from pixano_vlm.regions.candidate import Candidate, Order, boxes_in, numbers_of, points_in

__all__ = ["read_locations", "read_text", "says_nothing_is_there"]

NUMBER = r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d{1,3})?"
_NUMBER = re.compile(NUMBER)

_POINT_TAG = re.compile(r"<(points?|tracks)\s([^<>]*)>(?:([^<>]*)</\1>)?")
_ATTRIBUTE = re.compile(r"""([a-z]+)(\d*)\s*=\s*(?:"([^"]*)"|'([^']*)')""", re.IGNORECASE)
_COORDS_IMAGE = re.compile(r"(?:^|[\t:,;])([0-9.]+) ([0-9. ]+)")

_TAGS = {
    "<box>": "</box>", "<bbox>": "</bbox>", "<point>": "</point>", "<quad>": "</quad>", "<|det|>": "<|/det|>",
    "<|box_start|>": "<|box_end|>", "<|quad_start|>": "<|quad_end|>", "<|point_start|>": "<|point_end|>",
    "<|begin_of_box|>": "<|end_of_box|>",
}  # fmt: skip
_LABELS = {
    "<ref>": "</ref>", "<|ref|>": "<|/ref|>", "<|object_ref_start|>": "<|object_ref_end|>", "<p>": "</p>",
}  # fmt: skip


def _between(tags: dict[str, str]) -> str:
    return "|".join(f"{re.escape(start)}([^<]*)(?:{re.escape(end)}|$)" for start, end in tags.items())


_LABEL = re.compile(_between(_LABELS))
_TAG = re.compile(_between(_TAGS))
_TAG_NAMES = list(_TAGS)

_OBJECT = re.compile(r'\{(?:[^{}"]|"(?:[^"\\]|\\.)*")*\}')
"""An object without another inside it: it is whole where the list around it is cut off."""
_BOX_KEYS: dict[str, Order | None] = {
    "bbox_2d": "xy", "box_2d": "yx", "bbox": None, "box": None, "bounding_box": None, "bboxes": None, "boxes": None,
}  # fmt: skip
_POINT_KEYS: dict[str, Order | None] = {"point_2d": "xy", "point": None, "points": None, "coordinate": None}
_POLYGON_KEYS: dict[str, Order | None] = {"polygon": None, "quad": None, "polygon_2d": "xy"}
_LABEL_KEYS = ("label", "name", "category", "class", "object", "text_content", "text", "description")
_CONFIDENCE_KEYS = ("confidence", "score")

_LIST_OF_FOUR = re.compile(rf"\[\s*({NUMBER}(?:\s*,\s*{NUMBER}){{3}})\s*\]")
_PAIR = re.compile(rf"\(\s*({NUMBER})\s*,\s*({NUMBER})\s*\)")

_LOCATIONS = re.compile(r"((?:<loc\d{4}>)+)(?:\s*<seg\d{3}>)*([^<;]*)")
_LOCATION = re.compile(r"<loc(\d{4})>")

_NOTHING = re.compile(r"\[\s*\]|\{\s*\}")


def read_text(text: str) -> list[Candidate]:
    """The places that an answer names, in its order."""
    for reader in (_point_tags, _tags, _objects, _lists, _pairs):
        found = list(reader(text))
        if found:
            return found
    return []


def read_locations(text: str) -> list[Candidate]:
    """The places of PaliGemma's location tokens: `<loc0100><loc0200><loc0300><loc0400> cat ; ...`, y before x."""
    found = []
    for match in _LOCATIONS.finditer(text):
        numbers = tuple(float(number) for number in _LOCATION.findall(match[1]))
        label = match[2].strip() or None
        found.append(Candidate("point" if len(numbers) == 2 else "box", numbers, label))
    return found


def says_nothing_is_there(text: str) -> bool:
    """Whether an answer without places is an empty list of them."""
    return _NOTHING.search(text) is not None


def _point_tags(text: str) -> Iterator[Candidate]:
    for match in _POINT_TAG.finditer(text):
        values = {
            (name.lower(), number): double or single
            for name, number, double, single in _ATTRIBUTE.findall(match[2])
        }
        label = values.get(("alt", "")) or (match[3] or "").strip() or None
        if ("coords", "") in values:
            yield from _coords(values["coords", ""], label)
            continue
        for name, number in values:
            if name == "x":
                pair = _numbers(f"{values['x', number]} {values.get(('y', number), '')}")
                yield Candidate("point", pair, label)


def _coords(text: str, label: str | None) -> Iterator[Candidate]:
    """Molmo2's: for each image its number, from 1, then number, x and y of each point."""
    for match in _COORDS_IMAGE.finditer(text):
        numbers = _numbers(match[2])
        image = max(int(float(match[1])) - 1, 0) if match[1].count(".") < 2 and match[1] != "." else 0
        for start in range(0, len(numbers), 3):
            yield Candidate("point", numbers[start + 1 : start + 3], label, image)


def _tags(text: str) -> Iterator[Candidate]:
    label, since = None, 0
    labels = _LABEL.finditer(text)
    following = next(labels, None)
    for match in _TAG.finditer(text):
        while following is not None and following.end() <= match.start():
            label, since = _content(following).strip() or None, following.end()
            following = next(labels, None)
        # A label is that of the boxes right behind it; words between them begin something else.
        if label is not None and _TAG.sub("", text[since : match.start()]).strip(" ,;\n"):
            label = None
        name, numbers = _TAG_NAMES[(match.lastindex or 1) - 1], _numbers(_content(match))
        if "quad" in name:
            yield Candidate("polygon", numbers, label)
        elif "point" in name or len(numbers) == 2:
            yield from points_in(numbers, label)
        else:
            yield from boxes_in(numbers, label)


def _content(match: re.Match[str]) -> str:
    return str(match[match.lastindex or 1])


def _objects(text: str) -> Iterator[Candidate]:
    for match in _OBJECT.finditer(text):
        try:
            value = json.loads(match[0], strict=False)
        except (ValueError, RecursionError):
            continue
        yield from _of_object(value)


def _of_object(value: dict[str, Any]) -> Iterator[Candidate]:
    label = next((value[key] for key in _LABEL_KEYS if isinstance(value.get(key), str) and value[key]), None)
    confidence = next((value[key] for key in _CONFIDENCE_KEYS if type(value.get(key)) in (int, float)), None)
    image = value.get("image_index", value.get("image"))
    at = image if type(image) is int and image >= 0 else 0
    for key, inner in value.items():
        if key in _BOX_KEYS:
            found = list(boxes_in(numbers_of(inner), label, _BOX_KEYS[key]))
        elif key in _POINT_KEYS:
            found = list(points_in(numbers_of(inner), label, _POINT_KEYS[key]))
        elif key in _POLYGON_KEYS:
            found = [Candidate("polygon", numbers_of(inner), label, order=_POLYGON_KEYS[key])]
        else:
            continue
        if inner == [] or inner is None:
            continue  # it says that there is none
        for one in found:
            yield Candidate(one.kind, one.numbers, label, at, one.order, confidence)


def _lists(text: str) -> Iterator[Candidate]:
    return (Candidate("box", _numbers(match[1])) for match in _LIST_OF_FOUR.finditer(text))


def _pairs(text: str) -> Iterator[Candidate]:
    return (Candidate("point", (float(match[1]), float(match[2]))) for match in _PAIR.finditer(text))


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(map(float, _NUMBER.findall(text)))
