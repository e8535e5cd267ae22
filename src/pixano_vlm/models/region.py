"""Where things are in an image: regions in pixels, the sizes of images, and how a model writes coordinates.

Plain data. The conventions are properties of models, named in their configs; what is read by them is in `regions`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

__all__ = ["CONVENTIONS", "UNNAMED", "Convention", "ImageSize", "Region", "RegionConvention"]

UNNAMED = "object"
"""What a region is called that has no label, where it has to be called something."""


class Region(BaseModel):
    """One place in an image. Coordinates are pixels of the upright image, `(0, 0)` its upper left corner."""

    model_config = ConfigDict(extra="forbid")

    label: str | None = Field(default=None, description="What is there, in the model's words.")
    box: tuple[float, float, float, float] | None = Field(
        default=None, description="`[x0, y0, x1, y1]`: left, top, right, bottom."
    )
    point: tuple[float, float] | None = Field(default=None, description="`[x, y]`.")
    polygon: list[tuple[float, float]] | None = Field(default=None, description="Corners, `[[x, y], ...]`.")
    confidence: float | None = Field(default=None, description="How sure the model is, where it says so.")
    image: int = Field(default=0, ge=0, description="Which of the record's images, from 0.")

    @property
    def bounds(self) -> tuple[float, float, float, float] | None:
        """Its box; of a polygon, the smallest around it; None of a point."""
        if self.box is not None or self.polygon is None:
            return self.box
        across, down = [x for x, _ in self.polygon], [y for _, y in self.polygon]
        return min(across), min(down), max(across), max(down)


class ImageSize(BaseModel):
    """How large one image of a record is, and what the model looked at."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    width: int = Field(description="Of the upright image, in pixels.")
    height: int = Field(description="Of the upright image, in pixels.")
    model_width: int | None = Field(
        default=None,
        description="Of what the model looked at, in pixels; of one tile, where there are several.",
    )
    model_height: int | None = Field(default=None, description="As `model_width`.")
    tiles: int | None = Field(
        default=None, description="How many tiles the model looked at, where there were several."
    )
    tokens: int | None = Field(
        default=None, description="Tokens that the image took in the prompt, where they can be counted."
    )


class RegionConvention(BaseModel):
    """How a model writes coordinates."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    form: Literal["text", "loc", "tasks", "phrases", "own"] = Field(
        default="text",
        description="`text`: JSON, tags, lists and points of many kinds; `loc`: PaliGemma's location tokens; "
        "`tasks`, `phrases`: what Florence-2's and Kosmos-2's processors read; `own`: the model class gives "
        "`regions` in pixels.",
    )
    scale: Annotated[float, Field(gt=0, allow_inf_nan=False)] | Literal["pixels", "resized"] = Field(
        default="pixels",
        description="The number that means the image's whole width and height; `pixels`: coordinates are pixels "
        "of the image, `resized`: of what the model looked at.",
    )
    order: Literal["xy", "yx"] = Field(
        default="xy", description="Whether x or y is first, where the answer's own key does not say."
    )


CONVENTIONS: dict[str, RegionConvention] = {
    "pixels": RegionConvention(scale="pixels"),
    "pixels-of-resized": RegionConvention(scale="resized"),
    "0-1": RegionConvention(scale=1),
    "0-100": RegionConvention(scale=100),
    "0-999": RegionConvention(scale=999),
    "0-1000": RegionConvention(scale=1000),
    "0-1000-yx": RegionConvention(scale=1000, order="yx"),
    "location-tokens": RegionConvention(form="loc", scale=1024, order="yx"),
    "processor-tasks": RegionConvention(form="tasks", scale="pixels"),
    "processor-phrases": RegionConvention(form="phrases", scale=1),
    "own": RegionConvention(form="own"),
}
"""The conventions that have a name."""


def _named(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if value not in CONVENTIONS:
        raise ValueError(f"must be one of {', '.join(CONVENTIONS)}, or a mapping")
    return CONVENTIONS[value]


Convention = Annotated[RegionConvention, BeforeValidator(_named)]
"""A convention, or the name of one."""
