"""How large an image was that the model looked at, by what its image processor made of it. Knows no architecture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pixano_vlm.models.region import ImageSize

__all__ = ["image_sizes", "size_looked_at"]

GRIDS = ("image_grid_thw", "image_grid_hws", "grid_thws", "grid_thw", "spatial_shapes", "target_sizes")
"""Names of the processors' outputs that are rows and columns of patches, last two numbers of a row."""
PIXELS = ("pixel_values", "pixel_values_images")


def image_sizes(
    sizes: Sequence[tuple[int, int]],
    processed: Sequence[Mapping[str, Any]],
    processor: Any,
    ids: NDArray[np.int64],
    placeholder: int | None,
) -> tuple[ImageSize, ...]:
    """What is known of the sizes of a record's images.

    Args:
        sizes: Widths and heights of the upright images.
        processed: What the image processor made of each alone; empty where that is not known.
        processor: The image processor.
        ids: The prompt's.
        placeholder: The id that stands for a part of an image; None where nobody knows it.
    """
    tokens = _tokens(ids, placeholder, len(sizes))
    known = (
        [size_looked_at(features, processor) for features in processed]
        if len(processed) == len(sizes)
        else []
    )
    return tuple(
        ImageSize(width=width, height=height, tokens=tokens[index], **(known[index] if known else {}))
        for index, (width, height) in enumerate(sizes)
    )


def size_looked_at(features: Mapping[str, Any], processor: Any) -> dict[str, int]:
    """`model_width`, `model_height`, and `tiles` where there are several, of one image; empty: nobody knows."""
    patch = getattr(processor, "patch_size", None)
    patch = patch.get("height") if isinstance(patch, Mapping) else patch
    for name in GRIDS:
        grid = features.get(name)
        if grid is not None:
            return _of_grid(np.asarray(grid), patch)
    for name in PIXELS:
        pixels = features.get(name)
        if isinstance(pixels, list) and len(pixels) == 1:
            (pixels,) = pixels
        # With fewer axes than four it is patches in a row, whose image is not known by its shape.
        if isinstance(pixels, Tensor | np.ndarray) and len(pixels.shape) >= 4 and pixels.shape[-3] in (1, 3):
            return _of_pixels(pixels.shape, features.get("pixel_attention_mask"))
    return {}


def _of_grid(grid: NDArray[np.int64], patch: Any) -> dict[str, int]:
    """Of rows and columns of patches: `[..., rows, columns]`, one line an image or tile."""
    lines = (
        grid.reshape(-1, grid.shape[-1])[:, -2:] if grid.ndim and grid.shape[-1] >= 2 else grid.reshape(0, 2)
    )
    if not isinstance(patch, int) or len(np.unique(lines, axis=0)) != 1:
        return {}
    size = {"model_width": int(lines[0][1]) * patch, "model_height": int(lines[0][0]) * patch}
    return size if len(lines) == 1 else {**size, "tiles": len(lines)}


def _of_pixels(shape: Sequence[int], mask: Any) -> dict[str, int]:
    """Of pixels `[..., channels, height, width]`, padded where a mask `[..., height, width]` says so."""
    tiles, height, width = int(np.prod(shape[:-3], dtype=int)), int(shape[-2]), int(shape[-1])
    if tiles > 1:
        return {"model_width": width, "model_height": height, "tiles": tiles}
    if mask is not None and tuple(np.shape(mask)[-2:]) == (height, width):
        seen = np.asarray(mask).reshape(height, width).astype(bool)
        height, width = int(seen.any(1).sum()), int(seen.any(0).sum())
    return {"model_width": width, "model_height": height}


def _tokens(ids: NDArray[np.int64], placeholder: int | None, count: int) -> list[int | None]:
    """Placeholders of each image: all of them where there is one image, else a run of them for each."""
    unknown: list[int | None] = [None] * count
    if placeholder is None or not count:
        return unknown
    is_image = np.asarray(ids) == placeholder
    if count == 1:
        return [int(is_image.sum()) or None]
    edges = np.flatnonzero(np.diff(np.concatenate(([0], is_image.astype(np.int8), [0]))))
    runs = edges.reshape(-1, 2)
    return [int(end - start) for start, end in runs] if len(runs) == count else unknown
