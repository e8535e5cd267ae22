"""Samples of more than 8 bits, or of numbers of any size -> greys of 8 bits, by the range that is really used.

A scanner of 12 bits writes files of 16 bits whose upper sixteenth alone is used: by the range of the file they would
be black. Knows arrays and bands, not files. NumPy is imported where it computes: most runs see no such image.
"""

from __future__ import annotations

from typing import Any

from PIL import Image

__all__ = ["greys_of", "stretched"]

_DEPTHS = (8, 10, 12, 14, 16)
"""Bits that cameras and scanners measure with."""


def greys_of(image: Image.Image, bits: int | None = None) -> tuple[Image.Image, bool]:
    """An image of one band of 16 or 32 bits, or of floating point numbers, in 8 bits.

    Args:
        image: Of mode `I`, `I;16` or the like, or `F`.
        bits: How many a sample has, where the file says so for certain.

    Returns:
        The image in mode `L`; and whether its range was found from its values alone.

    Raises:
        ValueError: When no value of it is finite.
    """
    import numpy as np

    values = np.asarray(image)
    if values.dtype.byteorder == ">":
        values = values.astype(values.dtype.newbyteorder("="))
    if values.dtype.kind == "f":
        return _from_floats(values)
    low, high = int(values.min()), int(values.max())
    if bits is not None:
        return _scaled(values, 0, 2**bits - 1), False
    if low < 0 or high > 0xFFFF:
        return _scaled(values, min(low, 0), high), True
    # A flat image says nothing about its range: that of its file holds.
    used = 16 if low == high else next(bits for bits in _DEPTHS if high < 2**bits)
    return _scaled(values, 0, 2**used - 1), used < 16


def _from_floats(values: Any) -> tuple[Image.Image, bool]:
    import numpy as np

    finite = np.isfinite(values)
    if not finite.any():
        raise ValueError("none of its values is a finite number")
    is_whole = bool(finite.all())
    known = values if is_whole else values[finite]
    low, high = float(known.min()), float(known.max())
    if low >= 0 and high <= 1:
        low, high, guessed = 0.0, 1.0, not is_whole
    elif low >= 0 and high <= 0xFF and bool((known == np.floor(known)).all()):
        low, high, guessed = 0.0, 255.0, not is_whole
    else:
        low, guessed = min(low, 0.0), True
    if not is_whole:  # what was not measured is dark; what was too bright to measure, bright
        values = np.nan_to_num(values, nan=low, posinf=high, neginf=low)
    return _scaled(values, low, high), guessed


def _scaled(values: Any, low: float, high: float) -> Image.Image:
    import numpy as np

    span = high - low
    factor = 255 / span if span > 0 else 0.0
    # Single precision is enough for 8 bits, and half the memory; whole numbers of 32 bits need the other.
    kind = np.float64 if values.dtype.itemsize > 2 else np.float32
    shown = (values.astype(kind) - low) * factor
    return Image.fromarray(np.clip(np.ceil(shown - 0.5), 0, 255).astype(np.uint8))


def stretched(image: Image.Image) -> tuple[Image.Image, bool]:
    """An image of several bands of 16 bits, of which Pillow has kept the upper 8: brighter where less was used.

    Returns:
        The image; and whether it was changed, its range found from its values alone.
    """
    bands = image.getbands()
    extrema = image.getextrema()
    ranges: list[Any] = list(extrema) if len(bands) > 1 else [extrema]
    colours = [both for band, both in zip(bands, ranges, strict=True) if band != "A"]
    high = max(both[1] for both in colours)
    used = next(bits for bits in _DEPTHS if high < 2 ** (bits - 8))
    if used == 8:  # black: what the lower 8 bits held is lost
        return image, True
    if used == 16 or all(both[0] == both[1] for both in colours):
        return image, False
    full = 2 ** (used - 8) - 1
    table = [min(255, round(value * 255 / full)) for value in range(256)]
    plain = list(range(256))
    return image.point([entry for band in bands for entry in (plain if band == "A" else table)]), True
