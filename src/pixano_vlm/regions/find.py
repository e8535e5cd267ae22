"""The regions of one answer, by its model's convention. Knows no engine and no file."""

from __future__ import annotations

from collections.abc import Sequence

from pixano_vlm.models.region import ImageSize, Region, RegionConvention
from pixano_vlm.models.vlm import VLMOutput
from pixano_vlm.regions.candidate import Candidate
from pixano_vlm.regions.parsed import read_florence2, read_kosmos2
from pixano_vlm.regions.placing import DROPPED, MENDED, place
from pixano_vlm.regions.text import read_locations, read_text, says_nothing_is_there

__all__ = ["DROPPED", "MENDED", "NO_REGIONS", "find_regions"]

NO_REGIONS = "no_regions"
"""The flag of an answer in which no place was found, and which is not an empty list either."""

_PIXELS = RegionConvention(scale="pixels")


def find_regions(
    output: VLMOutput, convention: RegionConvention, sizes: Sequence[ImageSize]
) -> tuple[list[Region], tuple[str, ...]]:
    """The regions, and the quality flags of what was mended, left out or not found.

    Args:
        output: The answer. Regions that its model class gives are taken as they are, in pixels.
        convention: How the model writes coordinates.
        sizes: Those of the record's images.

    Raises:
        PromptError: When the convention needs the size that the model looked at, and nobody knows it.
    """
    if output.regions is not None:
        placed = place(map(_candidate, output.regions), _PIXELS, sizes)
    else:
        candidates = _candidates(output, convention)
        if not candidates:
            text = output.generated_text
            is_clear = not text.strip() or says_nothing_is_there(text)
            return [], () if is_clear else (NO_REGIONS,)
        placed = place(candidates, convention, sizes)
    return placed.regions, tuple(sorted(placed.flags, reverse=True))


def _candidates(output: VLMOutput, convention: RegionConvention) -> list[Candidate]:
    if convention.form == "tasks":
        return read_florence2(output.parsed)
    if convention.form == "phrases":
        return read_kosmos2(output.parsed)
    if convention.form == "loc":
        return read_locations(output.generated_text)
    return read_text(output.generated_text)


def _candidate(region: Region) -> Candidate:
    """A region that a model class gave: checked like any other."""
    if region.box is not None:
        return Candidate("box", region.box, region.label, region.image, confidence=region.confidence)
    if region.point is not None:
        return Candidate("point", region.point, region.label, region.image, confidence=region.confidence)
    corners = tuple(number for corner in region.polygon or () for number in corner)
    return Candidate("polygon", corners, region.label, region.image, confidence=region.confidence)
