"""A budget of pixels for images -> the options by which a model's image processor keeps to it.

What a processor can is found by what it takes, and by trying it; never by its name. The ways, in order:

1. `size` with the keys `shortest_edge` and `longest_edge`, where they mean areas (the Qwen-VL line), or arguments
   called `min_pixels` and `max_pixels`.
2. Arguments that count tiles (`min_patches` and `max_patches`, `min_tiles` and `max_tiles`), or patches
   (`max_num_patches`).
3. `size` with `longest_edge` as a length, and tiles cut from what comes of it (Idefics3, SmolVLM).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from PIL import Image

from pixano_vlm.batching.image_size import size_looked_at

__all__ = ["ImageBudget", "budget_of"]

Size = tuple[int, int]
Options = dict[str, Any]
Way = Callable[[int | None, int | None, Sequence[Size]], Options]

TILES = (("min_patches", "max_patches"), ("min_tiles", "max_tiles"), ("min_image_tiles", "max_image_tiles"))

UNABLE = "cannot be held to: the model's image processor makes every image the same size"


class ImageBudget:
    """How one image processor keeps to a budget.

    Args:
        way: From the budget and the images' sizes to options; None: it cannot.
    """

    def __init__(self, way: Way | None) -> None:
        self._way = way

    @property
    def refusal(self) -> str | None:
        """Why it cannot; the text continues the words that name the setting. None: it can."""
        return UNABLE if self._way is None else None

    def options(self, least: int | None, most: int | None, sizes: Sequence[Size]) -> Options:
        """Options of the image processor's call.

        Args:
            least: Fewest pixels of each image, or None.
            most: Most pixels of each image, or None.
            sizes: Widths and heights of the images of one call.
        """
        assert self._way is not None
        return self._way(least, most, sizes)


def budget_of(processor: Any) -> ImageBudget:
    """How an image processor keeps to a budget, found by what it takes and by a trial."""
    for find, is_exact in (
        (_areas, True),
        (_named_areas, True),
        (_tiles, False),
        (_patches, False),
        (_edges, False),
    ):
        way = None if processor is None else find(processor)
        if way is not None and _works(processor, way, is_exact=is_exact):
            return ImageBudget(way)
    return ImageBudget(None)


def _takes(processor: Any) -> frozenset[str]:
    kinds = getattr(processor, "valid_kwargs", None)
    return frozenset(getattr(kinds, "__annotations__", {})) if kinds is not None else frozenset()


def _size_of(processor: Any) -> dict[str, int]:
    """The processor's `size`, without keys that are not set."""
    size = getattr(processor, "size", None)
    if size is None:
        return {}
    return {key: value for key, value in dict(size).items() if value is not None}


def _areas(processor: Any) -> Way | None:
    own = _size_of(processor)
    if set(own) != {"shortest_edge", "longest_edge"}:
        return None

    def way(least: int | None, most: int | None, sizes: Sequence[Size]) -> Options:
        low, high = _bounds(least, most, own["shortest_edge"], own["longest_edge"])
        return {"size": {"shortest_edge": low, "longest_edge": high}}

    return way


def _named_areas(processor: Any) -> Way | None:
    if not {"min_pixels", "max_pixels"} <= _takes(processor):
        return None
    own_low, own_high = getattr(processor, "min_pixels", None), getattr(processor, "max_pixels", None)

    def way(least: int | None, most: int | None, sizes: Sequence[Size]) -> Options:
        low, high = _bounds(least, most, own_low or 1, own_high or 2**62)
        options = {
            "min_pixels": low if least or own_low else None,
            "max_pixels": high if most or own_high else None,
        }
        return {name: value for name, value in options.items() if value is not None}

    return way


def _bounds(least: int | None, most: int | None, own_low: int, own_high: int) -> tuple[int, int]:
    """The budget where it is given, and the processor's own beside it, as far as that leaves room."""
    if least is None and most is not None:
        return min(own_low, most), most
    if most is None and least is not None:
        return least, max(own_high, least)
    return least or own_low, most or own_high


def _works(processor: Any, way: Way, *, is_exact: bool) -> bool:
    """Whether a trial image comes out smaller as the way says: lengths, for one, would not be taken for areas.

    Args:
        processor: The image processor.
        way: What to try.
        is_exact: Whether the budget itself must be kept to; a tile more is all the others are asked.
    """
    image = Image.fromarray(np.zeros((480, 640, 3), np.uint8))
    whole = _pixels(processor, image, {})
    if whole is None:
        return False
    part = _pixels(processor, image, way(None, whole // 4, [image.size]))
    return part is not None and (part <= whole // 4 if is_exact else part < whole)


def _pixels(processor: Any, image: Image.Image, options: Options) -> int | None:
    """How many pixels of an image the model would look at; None where nobody can say."""
    cut = {"crop_to_patches": True} if "crop_to_patches" in _takes(processor) else {}
    try:
        size = size_looked_at(dict(processor([image], return_tensors="pt", **cut, **options)), processor)
        return size["model_width"] * size["model_height"] * size.get("tiles", 1)
    # A model's own code, and options that it may not know.
    except Exception:
        return None


def _tiles(processor: Any) -> Way | None:
    takes, size = _takes(processor), _size_of(processor)
    area = size.get("height", 0) * size.get("width", 0)
    names = next((names for names in TILES if set(names) <= takes), None)
    if names is None or not area:
        return None
    own_low, own_high = (getattr(processor, name, None) or 1 for name in names)

    def way(least: int | None, most: int | None, sizes: Sequence[Size]) -> Options:
        low = None if least is None else math.ceil(least / area)
        high = None if most is None else max(1, most // area)
        low, high = _bounds(low, high, own_low, own_high)
        return {names[0]: min(low, high), names[1]: high}

    return way


def _patches(processor: Any) -> Way | None:
    patch = getattr(processor, "patch_size", None)
    if "max_num_patches" not in _takes(processor) or not isinstance(patch, int):
        return None

    def way(least: int | None, most: int | None, sizes: Sequence[Size]) -> Options:
        return {} if most is None else {"max_num_patches": max(1, most // patch**2)}

    return way


def _edges(processor: Any) -> Way | None:
    """Sides as lengths: only where tiles are cut, since else the image is made the tile's size in the end."""
    own, tile = _size_of(processor), getattr(processor, "max_image_size", None)
    if "longest_edge" not in own:
        return None
    step = None if tile is None else dict(tile).get("longest_edge")
    if tile is not None and not getattr(processor, "do_image_splitting", False):
        return None

    def way(least: int | None, most: int | None, sizes: Sequence[Size]) -> Options:
        longest = own["longest_edge"]
        for width, height in sizes:
            longest = _edge(longest, max(width, height) / min(width, height), step or 1, least, most)
        size = {**own, "longest_edge": longest}
        if "shortest_edge" in size:
            size["shortest_edge"] = min(size["shortest_edge"], longest)
        return {"size": size}

    return way


def _edge(own: int, aspect: float, step: int, least: int | None, most: int | None) -> int:
    """The longest side, a multiple of `step`, with which an image keeps to the budget; at least one step."""

    def area(edge: int) -> int:
        return edge * math.ceil(edge / aspect / step) * step

    edge = own
    if least is not None and area(edge) < least:
        edge = math.ceil(math.sqrt(least * aspect) / step) * step
    if most is not None and area(edge) > most:
        edge = max(step, math.floor(math.sqrt(most * aspect) / step) * step)
        while edge > step and area(edge) > most:
            edge -= step
    return edge
